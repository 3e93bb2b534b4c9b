//! Figures f and g: what a first request costs in a large file with random keys, and what a record occupies in it.

use std::cell::Cell;
use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use idem_sqlite::SqliteStore;
use rusqlite::Connection;
use tokio::runtime::Runtime;

use super::setup::{Scale, open};
use crate::callers::{first_requests, shares};
use crate::flush;
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate};
use crate::subject::check_answers;

/// Callers at once, of the records and of the probes: enough to share the disk's flush, which is the same in a small
/// file.
const CALLERS: usize = 256;
/// How many requests are made ready at a time, outside of what is measured.
const BATCH: u64 = 20_000;
/// Probes in a round.
const PROBES: u64 = 5_000;
/// The numbers of the probes, beyond those of the records.
const FIRST_PROBE: u64 = 1 << 40;

pub(super) fn slowdown_and_size(
    scale: &Scale,
    directory: &Path,
    runtime: &Runtime,
) -> Result<[Figure; 2], Box<dyn Error>> {
    let files = tempfile::tempdir_in(directory)?;
    let flush = flush::latency(directory)?;
    let load = Load::new(64);
    let small = Arc::new(runtime.block_on(open(&files.path().join("small.db")))?);
    let large = Arc::new(runtime.block_on(open(&files.path().join("large.db")))?);
    fill(runtime, &small, &load, 0..scale.small);
    fill(runtime, &large, &load, 0..scale.large);
    check_answers(runtime, &*large, &load, 0..scale.small);
    let occupied = bytes_of(&files.path().join("large.db"))?;

    let next = Cell::new(FIRST_PROBE);
    let probe = |store: &Arc<SqliteStore>| {
        let first = next.replace(next.get() + PROBES);
        first_requests(runtime, store, shares(load.requests(first..first + PROBES), CALLERS))
    };
    let rounds = alternate(scale.rounds, || probe(&small), || probe(&large));

    let bytes_each = usize::try_from(occupied / scale.large)? - load.bytes_each();
    Ok([
        Figure {
            id: "f",
            what: format!(
                "first request by {CALLERS} callers at {} records, by one at {}",
                scale.large, scale.small
            ),
            unit: "x",
            target: Target::AtMost(3.2),
            value: rounds.ratio(),
            comparisons: Vec::new(),
            flush: Some(flush),
        },
        Figure {
            id: "g",
            what: format!("bytes of the file per record beyond its key and its answer, of {}", scale.large),
            unit: "B",
            target: Target::AtMost(140.0),
            value: Spread::single(f64::from(u32::try_from(bytes_each)?)),
            comparisons: Vec::new(),
            flush: None,
        },
    ])
}

fn fill(runtime: &Runtime, store: &Arc<SqliteStore>, load: &Load, numbers: Range<u64>) {
    let mut first = numbers.start;
    while first < numbers.end {
        let end = numbers.end.min(first + BATCH);
        first_requests(runtime, store, shares(load.requests(first..end), CALLERS));
        first = end;
    }
}

/// The length of a file, once everything is in it that is still in its log.
fn bytes_of(file: &Path) -> Result<u64, Box<dyn Error>> {
    let connection = Connection::open(file)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(fs::metadata(file)?.len())
}
