//! Figures g and h: a replay, against a bare `GET` of the answer.

use std::error::Error;
use std::sync::Arc;

use idem_core::{Answer, OwnerToken, ReservationStore, ReserveOutcome};
use tokio::runtime::Runtime;

use super::Scale;
use super::callers::{all_at_once, shares};
use super::floor::Floor;
use super::server::Server;
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

    let of = |(id, callers): (&'static str, usize)| {
        let count = 2 * if callers == 1 { scale.alone } else { scale.together };
        let asked = |load: &Load| {
            let keys: Vec<_> = (0..KEYS).map(|number| (load.key(number), load.answer(number))).collect();
            shares(
                keys.into_iter().cycle().take(usize::try_from(count).unwrap_or(usize::MAX)).collect(),
                callers,
            )
        };
        let rounds = alternate(
            scale.rounds,
            || {
                all_at_once(runtime, asked(&of_floor), |asked| {
                    let mut floor = floor.clone();
                    async move {
                        for (key, answer) in asked {
                            floor.look_up(key.as_bytes(), &answer).await;
                        }
                    }
                })
            },
            || {
                all_at_once(runtime, asked(&of_store), |asked| {
                    let store = Arc::clone(&store);
                    async move {
                        for (key, answer) in asked {
                            let outcome =
                                store.reserve(&key, reserve(OwnerToken::random(), fingerprint())).await;
                            let Ok(ReserveOutcome::Completed { answer: Answer::Response(replayed), .. }) =
                                outcome
                            else {
                                panic!("not a replay: {outcome:?}");
                            };
                            assert!(replayed.body == answer, "another answer");
                        }
                    }
                })
            },
        );
        let per_second = Spread::single(1e9 / rounds.floor().median);
        Figure {
            id,
            what: format!(
                "replays to {callers} callers, as often as a bare `GET` ({:.0} a second here)",
                per_second.median
            ),
            unit: "x",
            target: Target::AtLeast(0.75),
            value: rounds.speed(),
            beside: Vec::new(),
            flush: None,
        }
    };
    Ok([("g", 1), ("h", 64)].map(of).into())
}
