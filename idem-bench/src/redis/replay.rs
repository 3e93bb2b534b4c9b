//! Figures g and h: a replay, against a bare `GET` of the answer.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{Answer, Key, ReservationStore};
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::processors::{Bill, Processors, explained};
use super::server::Server;
use super::setup::Scale;
use crate::callers::{all_at_once, shares};
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate};
use crate::subject::{fingerprint, first_request, reserve};

/// Completed keys that are asked for in turn.
const KEYS: u64 = 1000;

pub(super) fn replays(
    scale: &Scale,
    server: &Server,
    runtime: &Runtime,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let (of_floor, of_store) = (Load::new(64), Load::new(64));
    let store = Arc::new(runtime.block_on(server.store())?);
    let mut floor = runtime.block_on(async { Floor::new(server.connection().await?).await })?;
    runtime.block_on(async {
        for request in of_store.requests(0..KEYS) {
            first_request(&*store, fingerprint(), request).await;
        }
        for request in of_floor.requests(0..KEYS) {
            floor.fenced(&request).await;
        }
    });

    let processors = Processors::new(runtime, runtime.block_on(server.connection())?);
    let of = |(id, callers, explained_by): (&'static str, usize, Option<&'static str>)| {
        let count = 2 * if callers == 1 { scale.alone } else { scale.together };
        let asked = |load: &Load| {
            let keys: Vec<_> = (0..KEYS).map(|number| (load.key(number), load.answer(number))).collect();
            shares(
                keys.into_iter().cycle().take(usize::try_from(count).unwrap_or(usize::MAX)).collect(),
                callers,
            )
        };
        let (floor_bill, bill) = (Bill::default(), Bill::default());
        let rounds = alternate(
            scale.rounds,
            || {
                let asked = asked(&of_floor);
                let round = || {
                    all_at_once(runtime, asked, |asked| {
                        let mut floor = floor.clone();
                        async move {
                            for (key, answer) in asked {
                                floor.look_up(key.as_bytes(), &answer).await;
                            }
                        }
                    })
                };
                processors.charge(&floor_bill, count, round)
            },
            || {
                let asked = asked(&of_store);
                let round = || {
                    all_at_once(runtime, asked, |asked| {
                        let store = Arc::clone(&store);
                        async move {
                            for (key, answer) in asked {
                                assert!(replayed(&*store, &key).await == answer, "another answer");
                            }
                        }
                    })
                };
                processors.charge(&bill, count, round)
            },
        );
        let per_second = Spread::single(1e9 / rounds.floor().median);
        let figure = Figure {
            id,
            what: format!(
                "replays to {callers} callers, as often as a bare `GET` ({:.0} a second here)",
                per_second.median
            ),
            unit: "x",
            target: Target::AtLeast(0.75),
            value: rounds.speed(),
            comparisons: Vec::new(),
            flush: None,
        };
        let what = format!("a replay to {callers} callers, comparisons a bare `GET`");
        let explanation = explained_by.map(|id| explained(id, &what, &floor_bill, &bill));
        std::iter::once(figure).chain(explanation)
    };
    Ok([("g", 1, None), ("h", 64, Some("p"))].map(of).into_iter().flatten().collect())
}

async fn replayed(store: &impl ReservationStore, key: &Key) -> Bytes {
    let outcome = store.reserve(key, reserve(OwnerToken::random(), fingerprint())).await;
    match outcome {
        Ok(ReserveOutcome::Completed { answer: Answer::Value(replayed), .. }) => replayed.body,
        _ => panic!("not a replay: {outcome:?}"),
    }
}
