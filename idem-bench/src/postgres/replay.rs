//! Figure e: a replay against a bare `SELECT` of the answer. Figure f: 64 duplicates of a running request, refused, and next to
//! it as many bare `SELECT`s.

use std::error::Error;
use std::time::Instant;

use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{Answer, ReservationStore};
use idem_postgres::PostgresStore;
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::setup::{Scale, open};
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate, nanos, nanos_each};
use crate::subject::{fingerprint, first_request, reserve};

/// Completed keys that are asked for in turn.
const KEYS: u64 = 1000;
const DUPLICATES: usize = 64;

pub(super) fn answers(scale: &Scale, url: &str, runtime: &Runtime) -> Result<[Figure; 2], Box<dyn Error>> {
    let load = Load::new(64);
    let store = runtime.block_on(open(url, "replay"))?;
    let floor = runtime.block_on(Floor::create(store.pool().clone()))?;
    runtime.block_on(async {
        for request in load.requests(0..KEYS) {
            floor.first_request(fingerprint(), &request).await;
            first_request(&store, fingerprint(), request).await;
        }
    });
    Ok([replays(scale, runtime, &load, &floor, &store), refusals(scale, runtime, &load, &floor, &store)])
}

fn replays(scale: &Scale, runtime: &Runtime, load: &Load, floor: &Floor, store: &PostgresStore) -> Figure {
    let keys: Vec<_> = (0..KEYS).map(|number| (load.key(number), load.answer(number))).collect();
    let asked = || keys.iter().cycle().take(usize::try_from(scale.requests).unwrap_or(usize::MAX));
    let rounds = alternate(
        scale.rounds,
        || {
            runtime.block_on(async {
                let started = Instant::now();
                for (key, answer) in asked() {
                    let (found, body) = floor.look_up(key).await;
                    assert!(found == fingerprint().as_bytes() && body == answer[..], "another answer");
                }
                nanos_each(started, asked().count())
            })
        },
        || {
            runtime.block_on(async {
                let started = Instant::now();
                for (key, answer) in asked() {
                    let outcome = store.reserve(key, reserve(OwnerToken::random(), fingerprint())).await;
                    let Ok(ReserveOutcome::Completed { answer: Answer::Value(replayed), .. }) = outcome
                    else {
                        panic!("not a replay: {outcome:?}");
                    };
                    assert!(replayed.body == *answer, "another answer");
                }
                nanos_each(started, asked().count())
            })
        },
    );
    Figure {
        id: "e",
        what: format!(
            "replays, as often as a bare SELECT of the answer ({:.0} us each here)",
            rounds.floor().median / 1e3
        ),
        unit: "x",
        target: Target::AtLeast(0.75),
        value: rounds.speed(),
        comparisons: Vec::new(),
        flush: None,
    }
}

fn refusals(scale: &Scale, runtime: &Runtime, load: &Load, floor: &Floor, store: &PostgresStore) -> Figure {
    let first = 1 << 40;
    let (mut took, mut bare) = (Vec::new(), Vec::new());
    // The first round makes the pool's connections.
    for round in 0..=scale.rounds {
        let key = load.key(first + u64::try_from(round).unwrap_or(0));
        took.push(runtime.block_on(async {
            let owner = reserve(OwnerToken::random(), fingerprint());
            let reserved = store.reserve(&key, owner).await;
            assert!(matches!(reserved, Ok(ReserveOutcome::Reserved { .. })), "{reserved:?}");
            let started = Instant::now();
            let duplicates: Vec<_> = (0..DUPLICATES)
                .map(|_| {
                    let (store, key) = (store.clone(), key.clone());
                    tokio::spawn(async move {
                        store.reserve(&key, reserve(OwnerToken::random(), fingerprint())).await
                    })
                })
                .collect();
            for duplicate in duplicates {
                let told = duplicate.await;
                assert!(matches!(told, Ok(Ok(ReserveOutcome::InFlight { attempt: 1, .. }))), "{told:?}");
            }
            nanos(started.elapsed()) / 1e6
        }));
        bare.push(runtime.block_on(async {
            let started = Instant::now();
            let selects: Vec<_> = (0..DUPLICATES)
                .map(|_| {
                    let (floor, key) = (floor.clone(), load.key(0));
                    tokio::spawn(async move { floor.look_up(&key).await })
                })
                .collect();
            for select in selects {
                assert!(select.await.is_ok(), "not found");
            }
            nanos(started.elapsed()) / 1e6
        }));
    }
    Figure {
        id: "f",
        what: format!("{DUPLICATES} duplicates of a running request at once, until the last is refused"),
        unit: "ms",
        target: Target::AtMost(3.5),
        value: Spread::of(took.split_off(1)),
        comparisons: vec![("as many bare SELECTs", Spread::of(bare.split_off(1)))],
        flush: None,
    }
}
