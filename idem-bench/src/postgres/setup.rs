//! How much is measured, and how the store is opened.

use idem_postgres::{PostgresOptions, PostgresStore};

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Rounds for each side.
    pub(super) rounds: usize,
    /// First requests of all callers together in a round.
    pub(super) requests: u64,
    /// Records in a small table.
    pub(super) small: u64,
    /// Records in a large table.
    pub(super) large: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { rounds: 7, requests: 200, small: 10_000, large: 50_000 }
        } else {
            Self { rounds: 9, requests: 2_000, small: 10_000, large: 5_000_000 }
        }
    }
}

/// Opens the store with default options.
pub(super) async fn open(url: &str, table: &str) -> Result<PostgresStore, idem_core::StoreError> {
    PostgresStore::connect_with(url, PostgresOptions::new().schema("idem_bench").table(table)).await
}
