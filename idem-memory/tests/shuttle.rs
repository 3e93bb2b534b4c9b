//! Model checks of the store: `shuttle` runs each of these tests under thousands of schedules, chosen at random from all
//! that the locks and atomics allow.
//!
//!     RUSTFLAGS="--cfg shuttle" cargo test -p idem-memory --test shuttle --release
//!
//! The model covers everything that the store adds to `DashMap`: the order of steps between map, expiry queue and
//! counters. It does not cover `DashMap`'s own locks. One lock of the model stands in for them (`sync.rs` explains this),
//! and the conformance suite runs the real map under real threads.
//!
//! Under the model the store's clock moves by a microsecond with each reading. So a lease of a microsecond (`OVER`) is
//! over at the next operation, and a lease of a year (`LIVE`) never ends.

#![cfg(shuttle)]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use idem_conformance::span;
use std::sync::Arc;
use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest, StateView};
use idem_core::{Answer, CompleteOutcome, Fingerprint, Key, ReservationStore, StoreErrorKind, StoredValue};
use idem_memory::{MemoryOptions, MemoryStore};
use shuttle::future::block_on;
use shuttle::thread;

const SCHEDULES: usize = 20_000;
const OVER: Duration = Duration::from_micros(1);
const LIVE: Duration = Duration::from_secs(365 * 24 * 3600);

fn key(name: u8) -> Key {
    Key::new("scope", [name]).unwrap()
}

fn token(number: u8) -> OwnerToken {
    OwnerToken::from_bytes([number; 16])
}

fn reserve(
    store: &MemoryStore,
    name: u8,
    owner: u8,
    lease: Duration,
    record_ttl: Duration,
) -> ReserveOutcome {
    let request = ReserveRequest::new(token(owner), Fingerprint::from_parts(["f"]), span(lease))
        .record_ttl(span(record_ttl));
    block_on(store.reserve(&key(name), request)).unwrap()
}

fn complete(store: &MemoryStore, name: u8, owner: u8, retention: Duration) -> CompleteOutcome {
    let answer = StoredValue::bytes(vec![owner; usize::from(owner)]);
    block_on(store.complete(&key(name), token(owner), Completion::new(answer, span(retention)))).unwrap()
}

fn is_reserved(outcome: &ReserveOutcome) -> bool {
    matches!(outcome, ReserveOutcome::Reserved { .. })
}

/// The body that the key's record holds, if its run is completed.
fn completed_body(store: &MemoryStore, name: u8) -> Option<Vec<u8>> {
    match block_on(store.get(&key(name))).unwrap()?.state {
        StateView::Completed { answer: Answer::Value(response), .. } => Some(response.body.to_vec()),
        _ => None,
    }
}

/// Runs `one` and `other` at the same time and returns their results.
fn race<A: Send + 'static, B: Send + 'static>(
    store: &Arc<MemoryStore>,
    one: impl FnOnce(&MemoryStore) -> A + Send + 'static,
    other: impl FnOnce(&MemoryStore) -> B + Send + 'static,
) -> (A, B) {
    let (for_one, for_other) = (Arc::clone(store), Arc::clone(store));
    let one = thread::spawn(move || one(&for_one));
    let other = thread::spawn(move || other(&for_other));
    (one.join().unwrap(), other.join().unwrap())
}

#[test]
fn of_two_reservations_at_once_exactly_one_wins() {
    shuttle::check_random(
        || {
            let store = Arc::new(MemoryStore::new());
            let (one, other) = race(
                &store,
                |store| reserve(store, 1, 1, LIVE, LIVE),
                |store| reserve(store, 1, 2, LIVE, LIVE),
            );
            assert!(is_reserved(&one) != is_reserved(&other), "{one:?} and {other:?}");
            assert_eq!(store.records(), 1);
        },
        SCHEDULES,
    );
}

#[test]
fn callers_at_once_all_get_the_room_of_expired_records_in_a_full_store() {
    shuttle::check_random(
        || {
            let store = Arc::new(MemoryStore::with_options(MemoryOptions::new().max_records(2)));
            assert!(is_reserved(&reserve(&store, 1, 1, OVER, OVER)));
            assert!(is_reserved(&reserve(&store, 2, 2, OVER, OVER)));
            // Each look moves the clock, so that both records have expired.
            while block_on(store.get(&key(2))).unwrap().is_some() {}
            let (one, other) = race(
                &store,
                |store| reserve(store, 3, 3, LIVE, LIVE),
                |store| reserve(store, 4, 4, LIVE, LIVE),
            );
            assert!(is_reserved(&one) && is_reserved(&other));
            assert_eq!(store.records(), 2);
        },
        SCHEDULES,
    );
}

#[test]
fn a_completion_and_a_takeover_never_both_win() {
    shuttle::check_random(
        || {
            let store = Arc::new(MemoryStore::new());
            assert!(is_reserved(&reserve(&store, 1, 1, OVER, LIVE)));
            let (completed, taken) =
                race(&store, |store| complete(store, 1, 1, LIVE), |store| reserve(store, 1, 2, LIVE, LIVE));
            match completed {
                CompleteOutcome::Completed => {
                    assert!(matches!(taken, ReserveOutcome::Completed { .. }), "{taken:?}");
                    assert_eq!(completed_body(&store, 1), Some(vec![1]));
                }
                CompleteOutcome::Lost => {
                    assert!(matches!(taken, ReserveOutcome::Reserved { attempt: 2, .. }), "{taken:?}");
                    assert_eq!(completed_body(&store, 1), None);
                    assert_eq!(complete(&store, 1, 2, LIVE), CompleteOutcome::Completed);
                }
                other => panic!("{other:?}"),
            }
        },
        SCHEDULES,
    );
}

#[test]
fn a_sweep_never_removes_the_reservation_it_races() {
    shuttle::check_random(
        || {
            let store = Arc::new(MemoryStore::new());
            assert!(is_reserved(&reserve(&store, 1, 1, OVER, OVER)));
            assert!(is_reserved(&reserve(&store, 2, 1, LIVE, LIVE)));
            let (removed, reserved) = race(
                &store,
                |store| block_on(store.sweep(usize::MAX)).unwrap(),
                |store| reserve(store, 1, 2, LIVE, LIVE),
            );
            assert!(removed <= 1, "{removed} records removed");
            assert!(matches!(reserved, ReserveOutcome::Reserved { attempt: 1, .. }), "{reserved:?}");
            assert_eq!(complete(&store, 1, 2, LIVE), CompleteOutcome::Completed);
            assert_eq!(complete(&store, 2, 1, LIVE), CompleteOutcome::Completed);
            assert_eq!(store.records(), 2);
        },
        SCHEDULES,
    );
}

#[test]
fn two_sweeps_count_each_record_once() {
    shuttle::check_random(
        || {
            let store = Arc::new(MemoryStore::new());
            for name in 0..6 {
                let record_ttl = if name < 4 { OVER } else { LIVE };
                assert!(is_reserved(&reserve(&store, name, 1, OVER, record_ttl)));
            }
            let garbage = store.records() - 2;
            let sweep = |store: &MemoryStore| block_on(store.sweep(3)).unwrap();
            let (one, other) = race(&store, sweep, sweep);
            assert!(one <= 3 && other <= 3 && one + other == garbage, "{one} and {other} of {garbage}");
            assert_eq!(store.records(), 2);
        },
        SCHEDULES,
    );
}

#[test]
fn the_bound_on_records_holds_and_the_counters_are_exact_in_the_end() {
    shuttle::check_random(
        || {
            let store = Arc::new(MemoryStore::with_options(MemoryOptions::new().max_records(3)));
            // Four keys of a life of one microsecond each, from two threads, in a store with room for three.
            let work = |owner: u8| {
                move |store: &MemoryStore| {
                    for name in [owner, 10 + owner] {
                        let request =
                            ReserveRequest::new(token(owner), Fingerprint::from_parts(["f"]), span(OVER))
                                .record_ttl(span(OVER));
                        match block_on(store.reserve(&key(name), request)) {
                            Ok(_) => _ = complete(store, name, owner, OVER),
                            Err(error) => assert_eq!(error.kind, StoreErrorKind::Full),
                        }
                        assert!(store.records() <= 3);
                    }
                }
            };
            race(&store, work(1), work(2));
            let _later = block_on(store.get(&key(1))).unwrap();
            block_on(store.sweep(usize::MAX)).unwrap();
            assert_eq!((store.records(), store.bytes()), (0, 0));
        },
        SCHEDULES,
    );
}

#[test]
fn bytes_follow_answers_that_come_and_go_at_once() {
    shuttle::check_random(
        || {
            let store = Arc::new(MemoryStore::new());
            assert!(is_reserved(&reserve(&store, 1, 1, LIVE, LIVE)));
            assert!(is_reserved(&reserve(&store, 2, 2, LIVE, LIVE)));
            let in_flight = store.bytes();
            race(&store, |store| complete(store, 1, 1, LIVE), |store| complete(store, 2, 2, OVER));
            assert_eq!(store.bytes(), in_flight + 1 + 2);
            race(&store, |store| complete(store, 2, 2, LIVE), |store| block_on(store.sweep(9)).unwrap());
            assert_eq!((store.records(), store.bytes()), (1, in_flight / 2 + 1));
        },
        SCHEDULES,
    );
}
