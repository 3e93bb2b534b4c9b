//! Figures a to d: first requests by 1, 8, 32 and 64 callers at once, against the same work in plain statements, and next to
//! it against those prepared. And
//! figure g: how many bytes of the write-ahead log each takes.

use std::error::Error;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::floor::Floor;
use super::setup::{Scale, open};
use crate::callers::{self, all_at_once, next, shares};
use crate::load::{Load, Request};
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate};
use crate::subject::{check_answers, fingerprint};

/// The figure, and its callers.
const CONCURRENCY: [(&str, usize); 4] = [("a", 1), ("b", 8), ("c", 32), ("d", 64)];

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
    callers: usize,
) -> Result<Figure, Box<dyn Error>> {
    let load = Load::new(64);
    let store = Arc::new(runtime.block_on(open(url, "throughput"))?);
    let floor = runtime.block_on(Floor::create(store.pool().clone()))?;
    let per_round = scale.requests.min(500 * callers as u64);
    let (mut floor_next, mut store_next) = (0..per_round, 0..per_round);
    let mut against = |floor: &Floor| {
        alternate(
            scale.rounds,
            || plain_requests(runtime, floor, shares(load.requests(next(&mut floor_next)), callers)),
            || {
                let numbers = next(&mut store_next);
                let took =
                    callers::first_requests(runtime, &store, shares(load.requests(numbers.clone()), callers));
                check_answers(runtime, &*store, &load, numbers);
                took
            },
        )
    };
    let (rounds, prepared) = (against(&floor), against(&floor.prepared()));
    Ok(Figure {
        id,
        what: format!(
            "first requests by {callers} callers, as often as the same plain statements ({:.0} us each here)",
            rounds.floor().median / 1e3
        ),
        unit: "x",
        target: Target::AtLeast(0.85),
        value: rounds.speed(),
        comparisons: vec![("of prepared", prepared.speed())],
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
    let store = Arc::new(runtime.block_on(open(url, "log"))?);
    let floor = runtime.block_on(Floor::create(store.pool().clone()))?;
    let requests = scale.requests * 2;
    let written = |round: u64, make: &dyn Fn(Vec<Vec<Request>>) -> f64| -> Result<f64, Box<dyn Error>> {
        let before = position(runtime, operator)?;
        make(shares(load.requests(round * requests..(round + 1) * requests), 8));
        #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
        Ok((position(runtime, operator)? - before) as f64 / requests as f64)
    };
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for round in 0..4 {
        plain.push(written(round, &|shares| plain_requests(runtime, &floor, shares))?);
        ours.push(written(round, &|shares| callers::first_requests(runtime, &store, shares))?);
    }
    // Whole pages are logged once after each checkpoint: the first round takes them.
    let (plain, ours) = (plain.split_off(1), ours.split_off(1));
    Ok(Figure {
        id: "g",
        what: "bytes of the write-ahead log for a first request".to_owned(),
        unit: "B",
        target: Target::Untargeted,
        value: Spread::of(ours),
        comparisons: vec![("plain", Spread::of(plain))],
        flush: None,
    })
}

/// How much was ever written to the log.
fn position(runtime: &Runtime, operator: &Client) -> Result<i64, Box<dyn Error>> {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8";
    Ok(runtime.block_on(operator.query_one(sql, &[]))?.get(0))
}

/// The same by plain statements, all callers at once.
fn plain_requests(runtime: &Runtime, floor: &Floor, shares: Vec<Vec<Request>>) -> f64 {
    all_at_once(runtime, shares, |requests| {
        let floor = floor.clone();
        async move {
            for request in &requests {
                floor.first_request(fingerprint(), request).await;
            }
        }
    })
}
