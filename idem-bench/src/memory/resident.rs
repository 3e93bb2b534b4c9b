//! Figure g: the memory that a record occupies beyond the bytes of its key and its answer.
//!
//! What counts is what the operating system has to provide: the resident set of a process of its own, after the
//! records are there, less what it was before. So what the allocator needs for itself, and adds when it rounds up the
//! key's and the answer's allocations, counts as overhead too, for the floor as for the store. How much that is shows
//! a list of the same keys and answers.

use std::error::Error;
use std::process::Command;

use bytes::Bytes;
use idem_core::Key;
use idem_memory::MemoryStore;

use super::floor::Floor;
use super::setup::Scale;
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::Spread;
use crate::subject::{fingerprint, first_request};

/// What a child process measures.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Of {
    /// A bare `DashMap`.
    Floor,
    /// The store.
    Store,
    /// Keys and answers with nothing around them.
    Bytes,
}

pub(super) fn figure(scale: &Scale) -> Result<Figure, Box<dyn Error>> {
    let in_child = |of: &str| -> Result<Spread, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?);
        child.args(["--resident", of]);
        // The child has to know which scale to measure at.
        if scale.large < Scale::new(false).large {
            child.arg("--quick");
        }
        let output = child.output()?;
        let printed = String::from_utf8(output.stdout)?;
        Ok(Spread::single(printed.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr))?))
    };
    Ok(Figure {
        id: "g",
        what: "resident memory per record beyond the bytes of its key and its answer".to_owned(),
        unit: "B",
        target: Target::AtMost(300.0),
        value: in_child("store")?,
        comparisons: vec![("DashMap", in_child("floor")?), ("keys and answers alone", in_child("bytes")?)],
        flush: None,
    })
}

/// Fills a store or a floor, and gives the bytes per record.
#[allow(clippy::cast_precision_loss, reason = "a process has far fewer than 2^52 bytes")]
pub(crate) fn measure(of: Of, scale: &Scale) -> Result<f64, Box<dyn Error>> {
    const BATCH: u64 = 1000;

    let load = Load::new(32);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (floor, store) = (Floor::default(), MemoryStore::new());
    let mut list: Vec<(Key, Bytes)> = Vec::with_capacity(usize::try_from(scale.large)?);
    let before = resident_bytes()?;
    for batch in 0..scale.large / BATCH {
        for request in load.requests(batch * BATCH..(batch + 1) * BATCH) {
            match of {
                Of::Floor => floor.first_request(fingerprint(), request),
                Of::Store => runtime.block_on(first_request(&store, fingerprint(), request)),
                Of::Bytes => list.push((request.key, request.answer)),
            }
        }
    }
    // The list itself is no part of what is asked: only of what its entries point to.
    let grown = resident_bytes()?.saturating_sub(before + size_of_val(list.as_slice()) as u64);
    Ok(grown as f64 / scale.large as f64 - load.bytes_each() as f64)
}

/// The resident set of this process, in bytes.
fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}
