//! The disk's flush latency: what one durable commit has to wait for at the least.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use crate::rounds::{Spread, nanos};

/// How often it is measured.
const TIMES: usize = 50;
/// What a small commit appends to the log: one page with its header.
const PAGE: [u8; 4096 + 24] = [7; 4096 + 24];

/// Appends a page to a file and flushes it (`fdatasync`), in milliseconds.
pub(crate) fn latency(directory: &Path) -> io::Result<Spread> {
    let directory = tempfile::tempdir_in(directory)?;
    let mut file = File::create(directory.path().join("flush"))?;
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let started = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        took.push(nanos(started.elapsed()) / 1e6);
    }
    Ok(Spread::of(took))
}
