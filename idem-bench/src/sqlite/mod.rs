//! The store in a SQLite file.
//!
//! - [`floor`]: bare SQLite, one transaction per operation.
//! - [`throughput`]: first requests by 1 to 256 callers at once, as durable as the floor (figures a to d).
//! - [`replay`]: a replay while the writer is busy (e).
//! - [`growth`]: what a large file costs, in time and in bytes (f, g).
//! - [`layouts`]: what other forms of the table would cost (h to k).

mod floor;
mod growth;
mod layouts;
mod replay;
mod throughput;

use std::error::Error;
use std::path::Path;

use idem_sqlite::SqliteStore;

use crate::report::Figure;

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Rounds for each side.
    rounds: usize,
    /// First requests of one caller in a round; many callers make more of them.
    requests: u64,
    /// Records in a small file.
    small: u64,
    /// Records in a large file.
    large: u64,
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

/// All figures, once, in files below `directory`.
pub(crate) fn run(scale: &Scale, directory: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let mut figures = throughput::first_requests(scale, directory, &runtime)?;
    figures.push(replay::beside_a_busy_writer(scale, directory, &runtime)?);
    figures.extend(growth::slowdown_and_size(scale, directory, &runtime)?);
    figures.extend(layouts::compared(scale, directory)?);
    Ok(figures)
}

/// The store, with default options.
async fn open(file: &Path) -> Result<SqliteStore, idem_core::StoreError> {
    SqliteStore::connect(&format!("sqlite:{}", file.display())).await
}
