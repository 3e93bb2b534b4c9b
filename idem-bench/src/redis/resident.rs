//! Figure j: what a completed record takes of the server's memory, its key and its answer of 64 bytes included.
//!
//! On an empty server, if it is one of our own: its two hash tables (keys, and their expiry) have between one and two slots
//! for each key, 8 bytes each, and one that just grew would be charged to the records that made it grow.

use std::error::Error;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::server::{Server, statistic};
use super::setup::Scale;
use crate::callers::{first_requests, shares};
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::Spread;

pub(super) fn per_record(
    scale: &Scale,
    server: &Server,
    runtime: &Runtime,
) -> Result<Figure, Box<dyn Error>> {
    let store = Arc::new(runtime.block_on(server.store())?);
    let mut connection = runtime.block_on(server.connection())?;
    let load = Load::new(64);
    let mut memory = async || {
        let used = statistic::<u64>(&mut connection, "memory", "used_memory").await?;
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await?;
        redis::RedisResult::Ok((used, keys))
    };
    let (used, keys) = runtime.block_on(memory())?;
    // A few at a time, so that the keys and answers of all do not have to be held here.
    let part = scale.records / 20;
    for begins in (0..scale.records).step_by(usize::try_from(part)?) {
        first_requests(runtime, &store, shares(load.requests(begins..begins + part), 64));
    }
    let (used, keys) = {
        let (used_then, keys_then) = runtime.block_on(memory())?;
        (used_then - used, keys_then - keys)
    };
    assert_eq!(keys, scale.records, "somebody else uses this server");
    #[allow(clippy::cast_precision_loss, reason = "no server has 2^52 bytes")]
    let each = used as f64 / keys as f64;
    Ok(Figure {
        id: "j",
        what: format!("memory of the server per record with an answer of 64 bytes, of {keys}"),
        unit: "B",
        target: Target::AtMost(290.0),
        value: Spread::single(each),
        comparisons: Vec::new(),
        flush: None,
    })
}
