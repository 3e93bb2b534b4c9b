//! Figure i: 64 duplicates at once of a request that runs, against 64 times `SET NX GET`.

use std::error::Error;
use std::sync::Arc;

use idem_core::ReservationStore;
use idem_core::store::{OwnerToken, ReserveOutcome};
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::processors::{Bill, Processors, explained};
use super::server::Server;
use super::setup::Scale;
use crate::callers::all_at_once;
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate};
use crate::subject::{fingerprint, reserve};

const DUPLICATES: usize = 64;

pub(super) fn refused(
    scale: &Scale,
    server: &Server,
    runtime: &Runtime,
) -> Result<[Figure; 2], Box<dyn Error>> {
    let (of_floor, of_store) = (Load::new(64), Load::new(64));
    let store = Arc::new(runtime.block_on(server.store())?);
    let mut floor = runtime.block_on(async { Floor::new(server.connection().await?).await })?;
    let bursts = scale.alone / 10;
    let running = |load: &Load| load.requests(0..bursts).into_iter().map(Arc::new).collect::<Vec<_>>();
    let (claimed, running_there) = (running(&of_floor), running(&of_store));
    runtime.block_on(async {
        for (claim, reserved) in claimed.iter().zip(&running_there) {
            floor.claim(claim).await;
            let outcome = store.reserve(&reserved.key, reserve(reserved.owner, fingerprint())).await;
            assert!(matches!(outcome, Ok(ReserveOutcome::Reserved { .. })), "{outcome:?}");
        }
    });

    let processors = Processors::new(runtime, runtime.block_on(server.connection())?);
    let (floor_bill, bill) = (Bill::default(), Bill::default());
    let duplicates = bursts * DUPLICATES as u64;
    // Burst after burst: the next one comes when the last caller of the one before has been refused.
    let rounds = alternate(
        scale.rounds,
        || {
            let each = claimed.iter().map(|running| {
                all_at_once(runtime, vec![vec![Arc::clone(running)]; DUPLICATES], |running| {
                    let mut floor = floor.clone();
                    async move { floor.refused(&running[0]).await }
                })
            });
            processors.charge(&floor_bill, duplicates, || each.sum())
        },
        || {
            let each = running_there.iter().map(|running| {
                all_at_once(runtime, vec![vec![Arc::clone(running)]; DUPLICATES], |running| {
                    let store = Arc::clone(&store);
                    async move {
                        let duplicate = reserve(OwnerToken::random(), fingerprint());
                        let outcome = store.reserve(&running[0].key, duplicate).await;
                        assert!(matches!(outcome, Ok(ReserveOutcome::InFlight { .. })), "{outcome:?}");
                    }
                })
            });
            processors.charge(&bill, duplicates, || each.sum())
        },
    );
    #[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 bursts")]
    let burst = Spread::single(rounds.floor().median * DUPLICATES as f64 / bursts as f64 / 1e3);
    let figure = Figure {
        id: "i",
        what: format!(
            "refusing {DUPLICATES} duplicates at once, by the raw burst of `SET NX GET` ({:.0} us here)",
            burst.median
        ),
        unit: "x",
        target: Target::AtMost(1.3),
        value: rounds.ratio(),
        comparisons: Vec::new(),
        flush: None,
    };
    let what = format!("a refusal of {DUPLICATES} at once, compared with `SET NX GET`");
    Ok([figure, explained("q", &what, &floor_bill, &bill)])
}
