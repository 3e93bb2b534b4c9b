//! Figures a to d: first requests by 1, 8, 32 and 64 callers at once, against the same work in plain statements. And
//! figure g: how many bytes of the write-ahead log each takes.

use std::error::Error;
use std::ops::Range;
use std::time::Instant;

use idem_core::Fingerprint;
use idem_postgres::PostgresStore;
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::floor::Floor;
use super::{Scale, open};
use crate::load::{Load, Request};
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate, nanos_each};
use crate::subject::{check_answers, fingerprint, first_request};

/// The figure, and its callers.
const CONCURRENCY: [(&str, u64); 4] = [("a", 1), ("b", 8), ("c", 32), ("d", 64)];

pub(super) fn first_requests(
    scale: &Scale,
    url: &str,
    runtime: &Runtime,
    operator: &Client,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let mut figures = Vec::new();
    for (id, callers) in CONCURRENCY {
        figures.push(of(scale, url, runtime, id, callers)?);
    }
    figures.push(log_bytes(scale, url, runtime, operator)?);
    Ok(figures)
}

fn of(
    scale: &Scale,
    url: &str,
    runtime: &Runtime,
    id: &'static str,
    callers: u64,
) -> Result<Figure, Box<dyn Error>> {
    let load = Load::new(64);
    let store = runtime.block_on(open(url, "throughput"))?;
    let floor = runtime.block_on(Floor::create(store.pool().clone()))?;
    let per_round = scale.requests.min(callers * 500);
    let (mut floor_next, mut store_next) = (0..per_round, 0..per_round);
    let count = usize::try_from(per_round)?;
    let rounds = alternate(
        scale.rounds,
        || {
            let shares = shares(load.requests(next(&mut floor_next)), callers);
            let started = Instant::now();
            runtime.block_on(all_at_once(&Side::Floor(floor.clone()), shares));
            nanos_each(started, count)
        },
        || {
            let numbers = next(&mut store_next);
            let shares = shares(load.requests(numbers.clone()), callers);
            let started = Instant::now();
            runtime.block_on(all_at_once(&Side::Store(store.clone()), shares));
            let took = nanos_each(started, count);
            check_answers(runtime, &store, &load, numbers);
            took
        },
    );
    Ok(Figure {
        id,
        what: format!(
            "first requests by {callers} callers, as often as the same plain statements ({:.0} us each here)",
            rounds.floor().median / 1e3
        ),
        unit: "x",
        target: Target::AtLeast(0.85),
        value: rounds.speed(),
        beside: Vec::new(),
        flush: None,
    })
}

/// What a first request, which is a reservation and a completion, adds to the write-ahead log.
fn log_bytes(
    scale: &Scale,
    url: &str,
    runtime: &Runtime,
    operator: &Client,
) -> Result<Figure, Box<dyn Error>> {
    let load = Load::new(64);
    let store = runtime.block_on(open(url, "log"))?;
    let floor = runtime.block_on(Floor::create(store.pool().clone()))?;
    let written = |side: &Side, numbers: Range<u64>| -> Result<f64, Box<dyn Error>> {
        let count = numbers.end - numbers.start;
        let before = position(runtime, operator)?;
        runtime.block_on(all_at_once(side, shares(load.requests(numbers), 8)));
        #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
        Ok((position(runtime, operator)? - before) as f64 / count as f64)
    };
    let (floor, store) = (Side::Floor(floor), Side::Store(store));
    // Whole pages are logged once after each checkpoint: the first round takes them.
    let requests = scale.requests * 2;
    for side in [&floor, &store] {
        written(side, 0..requests)?;
    }
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for round in 1..4 {
        let numbers = round * requests..(round + 1) * requests;
        plain.push(written(&floor, numbers.clone())?);
        ours.push(written(&store, numbers)?);
    }
    Ok(Figure {
        id: "g",
        what: "bytes of the write-ahead log for a first request".to_owned(),
        unit: "B",
        target: Target::Untargeted,
        value: Spread::of(ours),
        beside: vec![("plain", Spread::of(plain))],
        flush: None,
    })
}

/// How much was ever written to the log.
fn position(runtime: &Runtime, operator: &Client) -> Result<i64, Box<dyn Error>> {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8";
    Ok(runtime.block_on(operator.query_one(sql, &[]))?.get(0))
}

/// Who does the work.
#[derive(Clone)]
pub(super) enum Side {
    Floor(Floor),
    Store(PostgresStore),
}

impl Side {
    async fn first_request(&self, fingerprint: Fingerprint, request: Request) {
        match self {
            Self::Floor(floor) => floor.first_request(fingerprint, &request).await,
            Self::Store(store) => first_request(store, fingerprint, request).await,
        }
    }
}

/// Lets each caller make its requests one after the other, all callers at once.
pub(super) async fn all_at_once(side: &Side, shares: Vec<Vec<Request>>) {
    let callers: Vec<_> = shares
        .into_iter()
        .map(|requests| {
            let side = side.clone();
            tokio::spawn(async move {
                for request in requests {
                    side.first_request(fingerprint(), request).await;
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
fn next(range: &mut Range<u64>) -> Range<u64> {
    let next = range.end..range.end + (range.end - range.start);
    std::mem::replace(range, next)
}
