//! How much is measured.

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Rounds for each side.
    pub(super) rounds: usize,
    /// What one caller asks for in a round.
    pub(super) alone: u64,
    /// What many callers together ask for in a round.
    pub(super) together: u64,
    /// Records of the memory figure.
    pub(super) records: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { rounds: 7, alone: 200, together: 1024, records: 20_000 }
        } else {
            Self { rounds: 11, alone: 2000, together: 20_480, records: 400_000 }
        }
    }
}
