//! Figures a, c and d: a first request, a replay and a refusal at the store, with the fingerprint given.

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{Answer, Key, ReservationStore};
use idem_memory::MemoryStore;
use tokio::runtime::Runtime;

use super::floor::{Floor, Found};
use super::setup::Scale;
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{alternate, nanos_each};
use crate::subject::{check_answers, fingerprint, first_request, reserve};

/// How many keys the duplicates of figures c and d ask for, in turn: few enough to stay in the processor's caches.
const HOT_KEYS: u64 = 64;

/// Figure a. Each round fills an empty map and an empty store, so that both pay for their growth.
pub(super) fn first(scale: &Scale, runtime: &Runtime) -> Figure {
    let (load, fingerprint) = (Load::new(1024), fingerprint());
    let (mut floor_numbers, mut store_numbers) = (next_numbers(scale.requests), next_numbers(scale.requests));

    let rounds = alternate(
        scale.rounds,
        || {
            let numbers = floor_numbers();
            let (floor, requests) = (Floor::default(), load.requests(numbers.clone()));
            let count = requests.len();
            let started = Instant::now();
            for request in requests {
                floor.first_request(fingerprint, request);
            }
            let took = nanos_each(started, count);
            floor.check_answers(&fingerprint, &load, numbers);
            took
        },
        || {
            let numbers = store_numbers();
            let (store, requests) = (MemoryStore::new(), load.requests(numbers.clone()));
            let count = requests.len();
            let took = runtime.block_on(async {
                let started = Instant::now();
                for request in requests {
                    first_request(&store, fingerprint, request).await;
                }
                nanos_each(started, count)
            });
            check_answers(runtime, &store, &load, numbers);
            took
        },
    );
    Figure {
        id: "a",
        what: "first request at the store, 1 KiB answer: reserve + complete, minus the floor".to_owned(),
        unit: "ns",
        target: Target::AtMost(250.0),
        value: rounds.difference(),
        comparisons: vec![("floor", rounds.floor()), ("store", rounds.subject())],
        flush: None,
    }
}

/// Figure c. That no byte is copied is proved by the address of each replayed body: it is the address of the very bytes
/// that were completed with.
pub(super) fn replay(scale: &Scale, runtime: &Runtime) -> Figure {
    let (load, fingerprint) = (Load::new(1024), fingerprint());
    let (floor, store) = (Floor::default(), MemoryStore::new());
    let requests = load.requests(0..HOT_KEYS);
    let hot: Vec<(Key, Bytes)> =
        requests.iter().map(|request| (request.key.clone(), request.answer.clone())).collect();
    for request in requests {
        assert!(floor.claim(&request.key, request.owner, fingerprint));
        assert!(floor.answer(&request.key, request.owner, request.answer.clone()));
        runtime.block_on(first_request(&store, fingerprint, request));
    }

    let owners = owners(scale.requests);
    let rounds = alternate(
        scale.rounds,
        || {
            let started = Instant::now();
            for ((key, answer), owner) in hot.iter().cycle().zip(&owners) {
                black_box(owner);
                let Found::Answer(body) = floor.look_up(key, &fingerprint) else { panic!("no answer") };
                assert!(is_same(&body, answer), "another answer, or a copy");
            }
            nanos_each(started, owners.len())
        },
        || {
            runtime.block_on(async {
                let started = Instant::now();
                for ((key, answer), owner) in hot.iter().cycle().zip(&owners) {
                    let outcome = store.reserve(key, reserve(*owner, fingerprint)).await;
                    let Ok(ReserveOutcome::Completed { answer: Answer::Value(replayed), .. }) = outcome
                    else {
                        panic!("not a replay: {outcome:?}");
                    };
                    assert!(is_same(&replayed.body, answer), "another answer, or a copy");
                }
                nanos_each(started, owners.len())
            })
        },
    );
    Figure {
        id: "c",
        what: "hot replay at the store, 1 KiB answer, the bytes themselves and no copy".to_owned(),
        unit: "ns",
        target: Target::AtMost(150.0),
        value: rounds.subject(),
        comparisons: vec![("floor", rounds.floor())],
        flush: None,
    }
}

/// Whether these are the same bytes in memory.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    (one.as_ptr(), one.len()) == (other.as_ptr(), other.len())
}

/// Figure d.
pub(super) fn refusal(scale: &Scale, runtime: &Runtime) -> Figure {
    let (load, fingerprint) = (Load::new(0), fingerprint());
    let (floor, store) = (Floor::default(), MemoryStore::new());
    let requests = load.requests(0..HOT_KEYS);
    for request in &requests {
        assert!(floor.claim(&request.key, request.owner, fingerprint));
        let reserved = runtime.block_on(store.reserve(&request.key, reserve(request.owner, fingerprint)));
        assert!(matches!(reserved, Ok(ReserveOutcome::Reserved { .. })), "{reserved:?}");
    }

    let owners = owners(scale.requests);
    let rounds = alternate(
        scale.rounds,
        || {
            let started = Instant::now();
            for (request, owner) in requests.iter().cycle().zip(&owners) {
                black_box(owner);
                assert!(floor.look_up(&request.key, &fingerprint) == Found::Running, "not in flight");
            }
            nanos_each(started, owners.len())
        },
        || {
            runtime.block_on(async {
                let started = Instant::now();
                for (request, owner) in requests.iter().cycle().zip(&owners) {
                    let outcome = store.reserve(&request.key, reserve(*owner, fingerprint)).await;
                    assert!(
                        matches!(outcome, Ok(ReserveOutcome::InFlight { attempt: 1, .. })),
                        "{outcome:?}"
                    );
                }
                nanos_each(started, owners.len())
            })
        },
    );
    Figure {
        id: "d",
        what: "refusal at the store: a duplicate while the first runs".to_owned(),
        unit: "ns",
        target: Target::AtMost(200.0),
        value: rounds.subject(),
        comparisons: vec![("floor", rounds.floor())],
        flush: None,
    }
}

fn owners(count: u64) -> Vec<OwnerToken> {
    (0..count).map(|_| OwnerToken::random()).collect()
}

/// Ranges of `count` numbers that never overlap.
pub(super) fn next_numbers(count: u64) -> impl FnMut() -> Range<u64> {
    let mut next = 0;
    move || {
        let numbers = next..next + count;
        next = numbers.end;
        numbers
    }
}
