//! Figures a to d: first requests by 1, 16, 64 and 256 callers at once, against one transaction per operation.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use idem_sqlite::SqliteStore;
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::{Scale, flush, open};
use crate::load::{Load, Request};
use crate::report::{Figure, Target};
use crate::rounds::{alternate, nanos_each};
use crate::subject::{check_answers, fingerprint, first_request};

/// The figure, its callers, and how many times as fast as the floor they have to be.
const CONCURRENCY: [(&str, u64, f64); 4] = [("a", 1, 0.9), ("b", 16, 5.0), ("c", 64, 8.0), ("d", 256, 13.0)];

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
    callers: u64,
    target: f64,
) -> Result<Figure, Box<dyn Error>> {
    let files = tempfile::tempdir_in(directory)?;
    let flush = flush::latency(directory)?;
    let (load, fingerprint) = (Load::new(64), fingerprint());
    let floor = Floor::create(&files.path().join("floor.db"))?;
    let store = Arc::new(runtime.block_on(open(&files.path().join("idem.db")))?);
    // As many as keep each caller busy for a while; the floor needs no more than its one caller.
    let per_round = scale.requests.max(callers * 20);
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
            let (count, shares) = (per_round, shares(load.requests(numbers.clone()), callers));
            let started = Instant::now();
            runtime.block_on(all_at_once(&store, shares));
            let took = nanos_each(started, usize::try_from(count).unwrap_or(usize::MAX));
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
        beside: Vec::new(),
        flush: Some(flush),
    })
}

/// Lets each caller make its requests one after the other, all callers at once.
pub(super) async fn all_at_once(store: &Arc<SqliteStore>, shares: Vec<Vec<Request>>) {
    let callers: Vec<_> = shares
        .into_iter()
        .map(|requests| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for request in requests {
                    first_request(&*store, fingerprint(), request).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap_or_else(|error| panic!("a caller failed: {error}"));
    }
}

/// The requests, dealt out to the callers.
pub(super) fn shares(requests: Vec<Request>, callers: u64) -> Vec<Vec<Request>> {
    let mut shares: Vec<Vec<Request>> = (0..callers).map(|_| Vec::new()).collect();
    let count = shares.len();
    for (number, request) in requests.into_iter().enumerate() {
        shares[number % count].push(request);
    }
    shares
}

/// The range, which moves on by its own length.
pub(super) fn next(range: &mut std::ops::Range<u64>) -> std::ops::Range<u64> {
    let next = range.end..range.end + (range.end - range.start);
    std::mem::replace(range, next)
}
