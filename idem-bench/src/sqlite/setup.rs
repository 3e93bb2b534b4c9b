//! How much is measured, and how the store is opened.

use std::path::Path;

use idem_sqlite::SqliteStore;

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Rounds for each side.
    pub(super) rounds: usize,
    /// First requests of one caller in a round; many callers make more of them.
    pub(super) requests: u64,
    /// Records in a small file.
    pub(super) small: u64,
    /// Records in a large file.
    pub(super) large: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { rounds: 7, requests: 50, small: 10_000, large: 100_000 }
        } else {
            Self { rounds: 9, requests: 300, small: 10_000, large: 5_000_000 }
        }
    }
}

/// Opens the store with default options.
pub(super) async fn open(file: &Path) -> Result<SqliteStore, idem_core::StoreError> {
    SqliteStore::connect(&format!("sqlite:{}", file.display())).await
}
