//! Figures a to d: first requests by 1, 16, 64 and 256 callers at once, against one transaction per operation.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Runtime;

use super::floor::Floor;
use super::setup::{Scale, open};
use crate::callers::{self, next, shares};
use crate::flush;
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{alternate, nanos_each};
use crate::subject::{check_answers, fingerprint};

/// The figure, its callers, and how many times as fast as the floor they have to be.
const CONCURRENCY: [(&str, usize, f64); 4] =
    [("a", 1, 0.9), ("b", 16, 5.0), ("c", 64, 8.0), ("d", 256, 13.0)];

pub(super) fn first_requests(
    scale: &Scale,
    directory: &Path,
    runtime: &Runtime,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    CONCURRENCY
        .map(|(id, callers, target)| of(scale, directory, runtime, id, callers, target))
        .into_iter()
        .collect()
}

fn of(
    scale: &Scale,
    directory: &Path,
    runtime: &Runtime,
    id: &'static str,
    callers: usize,
    target: f64,
) -> Result<Figure, Box<dyn Error>> {
    let files = tempfile::tempdir_in(directory)?;
    let flush = flush::latency(directory)?;
    let (load, fingerprint) = (Load::new(64), fingerprint());
    let floor = Floor::create(&files.path().join("floor.db"))?;
    let store = Arc::new(runtime.block_on(open(&files.path().join("idem.db")))?);
    // As many as keep each caller busy for a while; the floor needs no more than its one caller.
    let per_round = scale.requests.max(20 * callers as u64);
    let (mut floor_next, mut store_next) = (0..scale.requests, 0..per_round);

    let rounds = alternate(
        scale.rounds,
        || {
            let requests = load.requests(next(&mut floor_next));
            let started = Instant::now();
            for request in &requests {
                let done = floor.first_request(fingerprint, request);
                done.unwrap_or_else(|error| panic!("the floor failed: {error}"));
            }
            nanos_each(started, requests.len())
        },
        || {
            let numbers = next(&mut store_next);
            let took =
                callers::first_requests(runtime, &store, shares(load.requests(numbers.clone()), callers));
            check_answers(runtime, &*store, &load, numbers);
            took
        },
    );
    Ok(Figure {
        id,
        what: format!("first requests by {callers} callers, as often as one transaction per operation"),
        unit: "x",
        target: Target::AtLeast(target),
        value: rounds.speed(),
        comparisons: Vec::new(),
        flush: Some(flush),
    })
}
