//! Figures h and i: what a first request costs in a large table with random keys, and what a record occupies in it.
//! Figure j: what it costs to find and remove what has expired in it.

use std::cell::Cell;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use idem_core::ReservationStore;
use idem_postgres::PostgresStore;
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::setup::{Scale, open};
use crate::callers::{first_requests, shares};
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate, nanos};

/// Callers at once.
const CALLERS: usize = 8;
/// The numbers of the probes, beyond those of the records.
const FIRST_PROBE: u64 = 1 << 40;
/// Records made by one statement.
const BATCH: u64 = 100_000;

pub(super) fn slowdown_and_size(
    scale: &Scale,
    url: &str,
    runtime: &Runtime,
    operator: &Client,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let load = Load::new(64);
    let small = runtime.block_on(open(url, "small"))?;
    runtime.block_on(fill(operator, "small", scale.small))?;
    let large = runtime.block_on(open(url, "growth"))?;
    runtime.block_on(fill(operator, "growth", scale.large))?;
    for sql in ["VACUUM ANALYZE idem_bench.growth", "VACUUM ANALYZE idem_bench.small", "CHECKPOINT"] {
        runtime.block_on(operator.batch_execute(sql))?;
    }
    let sizes = "SELECT pg_table_size('idem_bench.growth'), pg_indexes_size('idem_bench.growth')";
    let row = runtime.block_on(operator.query_one(sizes, &[]))?;
    let per_record = |bytes: i64| -> Result<Spread, Box<dyn Error>> {
        Ok(Spread::single(f64::from(u32::try_from(u64::try_from(bytes)? / scale.large)?)))
    };
    let (table, indexes) = (per_record(row.get(0))?, per_record(row.get(1))?);

    let next = Cell::new(FIRST_PROBE);
    let (small, large) = (Arc::new(small), Arc::new(large));
    let probe = |store: &Arc<PostgresStore>| {
        let first = next.replace(next.get() + scale.requests);
        first_requests(runtime, store, shares(load.requests(first..first + scale.requests), CALLERS))
    };
    let rounds = alternate(scale.rounds, || probe(&small), || probe(&large));
    Ok(vec![
        Figure {
            id: "h",
            what: format!(
                "first request by {CALLERS} callers at {} records, by one at {} ({:.0} us there)",
                scale.large,
                scale.small,
                rounds.floor().median / 1e3
            ),
            unit: "x",
            target: Target::Untargeted,
            value: rounds.ratio(),
            comparisons: Vec::new(),
            flush: None,
        },
        Figure {
            id: "i",
            what: format!(
                "bytes of the table and its indexes per record, of {}, with {} of key and answer",
                scale.large,
                load.bytes_each()
            ),
            unit: "B",
            target: Target::Untargeted,
            value: Spread::single(table.median + indexes.median),
            comparisons: vec![("table", table), ("indexes", indexes)],
            flush: None,
        },
        sweep(scale, runtime, operator, &large)?,
    ])
}

/// How long a thousand expired records take to be found and removed.
fn sweep(
    scale: &Scale,
    runtime: &Runtime,
    operator: &Client,
    store: &PostgresStore,
) -> Result<Figure, Box<dyn Error>> {
    let expire = "UPDATE idem_bench.growth SET expires_at = now() - INTERVAL '1 minute',
            sweep_after = date_trunc('minute', now() - INTERVAL '1 minute')
        WHERE key IN (SELECT key FROM idem_bench.growth WHERE completed_at IS NOT NULL LIMIT 1000)";
    let mut took = Vec::new();
    for _ in 0..3 {
        runtime.block_on(operator.batch_execute(expire))?;
        let started = Instant::now();
        let swept = runtime.block_on(store.sweep(1000))?;
        // The store's own upkeep may have come first.
        assert!(swept <= 1000);
        took.push(nanos(started.elapsed()) / 1e6);
    }
    Ok(Figure {
        id: "j",
        what: format!("a sweep of a thousand expired records among {}", scale.large),
        unit: "ms",
        target: Target::Untargeted,
        value: Spread::of(took),
        comparisons: Vec::new(),
        flush: None,
    })
}

async fn fill(operator: &Client, table: &str, records: u64) -> Result<(), Box<dyn Error>> {
    let fill = include_str!("fill.sql").replace("idem_bench.growth", &format!("idem_bench.{table}"));
    let mut first = 1;
    while first <= records {
        let last = records.min(first + BATCH - 1);
        let (from, to) = (i64::try_from(first)?, i64::try_from(last)?);
        operator.execute(&fill, &[&from, &to]).await?;
        first = last + 1;
    }
    Ok(())
}
