//! How much is measured.

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Rounds for each side.
    pub(super) rounds: usize,
    /// First requests in a round.
    pub(super) requests: u64,
    /// Records in a small store.
    pub(super) small: u64,
    /// Records in a large store.
    pub(super) large: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { rounds: 7, requests: 2_000, small: 10_000, large: 200_000 }
        } else {
            Self { rounds: 15, requests: 20_000, small: 10_000, large: 5_000_000 }
        }
    }
}
