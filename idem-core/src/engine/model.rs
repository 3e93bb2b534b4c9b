//! What the shuttle model checker shows of this crate's concurrent parts, over thousands of random and of adversarial
//! (PCT) schedules:
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo nextest run -p idem-core --lib --target-dir target/shuttle -E 'test(/model::/)'
//! ```
//!
//! tokio's timers and its runtime are not modelled, so nothing here waits for time: the store answers at once, its clock
//! is moved by hand, and a dropped guard has no runtime to use.

use std::collections::HashMap;
use std::future::pending;
use std::time::Duration;

use async_trait::async_trait;
use shuttle::future::block_on;
use shuttle::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

use crate::engine::run::{Lease, Run};
use crate::engine::single_flight::{Joined, Leader, SharedResult, SingleFlight};
use crate::store::{
    Completion, FencingToken, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, Span,
    StateView, Timestamp, transition,
};
use crate::{
    AbandonOutcome, Admission, Answer, CompleteOutcome, Engine, Fingerprint, Key, ReleaseOutcome,
    RenewOutcome, ReservationStore, StoreError, StoredValue,
};

const SCHEDULES: usize = 3000;
const LEASE: Duration = Duration::from_secs(60);

/// Runs a model under random schedules, and under schedules that look for rare orders.
fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), SCHEDULES);
    shuttle::check_pct(model, SCHEDULES, 3);
}

fn key() -> Key {
    Key::new("scope", "name").unwrap()
}

fn fingerprint() -> Fingerprint {
    Fingerprint::from_parts(["payload"])
}

/// The state machine over a map. Other threads may run before and after each operation.
#[derive(Clone, Debug, Default)]
struct Store {
    records: Arc<Mutex<HashMap<Key, Record>>>,
    micros: Arc<AtomicU64>,
}

impl Store {
    fn run<O>(
        &self,
        key: &Key,
        transition: impl FnOnce(Option<&Record>, Timestamp) -> (O, Option<Record>),
    ) -> O {
        let mut records = self.records.lock().unwrap();
        let now = Timestamp::from_micros(1 + self.micros.load(Ordering::SeqCst));
        let (outcome, write) = transition(records.get(key), now);
        if let Some(record) = write {
            records.insert(key.clone(), record);
        }
        outcome
    }

    fn advance(&self, by: Duration) {
        self.micros.fetch_add(by.as_micros().try_into().unwrap(), Ordering::SeqCst);
    }
}

#[async_trait]
impl ReservationStore for Store {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        Ok(self.run(key, |found, now| transition::reserve(found, &request, now).unwrap()))
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        Ok(self.run(key, |found, now| transition::renew(found, owner, lease, now)))
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        Ok(self.run(key, |found, now| transition::complete(found, owner, completion, now)))
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        Ok(self.run(key, |found, now| transition::release(found, owner, now).unwrap()))
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        Ok(self.run(key, |found, now| transition::abandon(found, owner, now)))
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        Ok(self.run(key, |found, now| (found.and_then(|record| record.view(now)), None)))
    }

    async fn sweep(&self, _limit: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

/// Counts the leaders, and checks that there are never two.
#[derive(Default)]
struct Leaders {
    now: AtomicUsize,
    ever: AtomicUsize,
}

impl Leaders {
    /// Leads for a while. Returns how many led before.
    fn hold(&self, _leader: &Leader) -> usize {
        assert_eq!(self.now.fetch_add(1, Ordering::SeqCst), 0, "two callers lead");
        thread::yield_now();
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.ever.fetch_add(1, Ordering::SeqCst)
    }
}

#[test]
fn every_waiter_leads_or_gets_a_result_and_the_flight_is_gone_in_the_end() {
    check(|| {
        let (single_flight, leaders) = (SingleFlight::new(), Arc::new(Leaders::default()));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (single_flight, leaders) = (Arc::clone(&single_flight), Arc::clone(&leaders));
                thread::spawn(move || {
                    match block_on(single_flight.join(&key(), fingerprint(), pending())) {
                        // The first two fail: the leadership must pass on. The third has an answer.
                        Joined::Leader(leader) => {
                            if leaders.hold(&leader) >= 2 {
                                leader.publish(SharedResult::Answered(Answer::NotKept));
                            }
                        }
                        Joined::Result(result) => assert!(matches!(result, SharedResult::Answered(_))),
                        Joined::Elapsed { .. } => panic!("nobody's time is up"),
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert!(leaders.ever.load(Ordering::SeqCst) >= 3);
        assert!(single_flight.is_empty());
    });
}

#[test]
fn a_waiter_that_gives_up_never_takes_the_leadership_with_it() {
    check(|| {
        let (single_flight, leaders) = (SingleFlight::new(), Arc::new(Leaders::default()));
        let callers: Vec<_> = (0..4)
            .map(|number| {
                let (single_flight, leaders) = (Arc::clone(&single_flight), Arc::clone(&leaders));
                thread::spawn(move || {
                    // Half of the callers give up at some point; the others wait until they have led.
                    let gives_up = async {
                        if number % 2 == 0 {
                            shuttle::future::yield_now().await;
                        } else {
                            pending::<()>().await;
                        }
                    };
                    match block_on(single_flight.join(&key(), fingerprint(), gives_up)) {
                        Joined::Leader(leader) => drop(leaders.hold(&leader)),
                        Joined::Result(_) => panic!("nobody has a result"),
                        Joined::Elapsed { .. } => assert_eq!(number % 2, 0, "it has no time limit"),
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert!(leaders.ever.load(Ordering::SeqCst) >= 2);
        assert!(single_flight.is_empty());
    });
}

#[test]
fn waiters_of_a_run_that_loses_its_lease_all_end_and_never_two_of_them_lead() {
    // A waiter that watches a lease creates a timer of tokio, which needs a runtime. None of the timers fires.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    check(|| {
        let (single_flight, leaders) = (SingleFlight::new(), Arc::new(Leaders::default()));
        let Joined::Leader(zombie) = block_on(single_flight.join(&key(), fingerprint(), pending())) else {
            panic!("nobody leads");
        };
        let lease = Lease::granted(tokio::time::Instant::now(), LEASE * 1000);
        let run = Run::granted(&key(), OwnerToken::from_bytes([1; 16]), FencingToken::MIN, 1, lease);
        let run = std::sync::Arc::new(run);
        zombie.start(&run);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let (single_flight, leaders) = (Arc::clone(&single_flight), Arc::clone(&leaders));
                thread::spawn(move || match block_on(single_flight.join(&key(), fingerprint(), pending())) {
                    Joined::Leader(leader) => {
                        leaders.hold(&leader);
                        leader.publish(SharedResult::Answered(Answer::NotKept));
                    }
                    Joined::Result(SharedResult::Answered(Answer::NotKept)) => {}
                    _ => panic!("the zombie must not publish"),
                })
            })
            .collect();
        thread::yield_now();
        run.lose();
        thread::yield_now();
        drop(zombie);
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(leaders.ever.load(Ordering::SeqCst) > 0);
        assert!(single_flight.is_empty());
    });
}

#[test]
fn a_refusal_is_never_older_than_the_wait_for_it() {
    check(|| {
        // What the store would say; it changes with every request.
        let (single_flight, truth) = (SingleFlight::new(), Arc::new(AtomicU32::new(0)));
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (single_flight, truth) = (Arc::clone(&single_flight), Arc::clone(&truth));
                thread::spawn(move || {
                    let before = truth.load(Ordering::SeqCst);
                    match block_on(single_flight.join(&key(), fingerprint(), pending())) {
                        Joined::Leader(mut leader) => {
                            leader.begin_request();
                            let attempt = truth.fetch_add(1, Ordering::SeqCst) + 1;
                            leader.publish(SharedResult::LeaseExpired { attempt });
                        }
                        Joined::Result(SharedResult::LeaseExpired { attempt }) => {
                            assert!(attempt > before, "got {attempt}, which was over before the call");
                        }
                        _ => panic!("there is no other result"),
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert!(single_flight.is_empty());
    });
}

#[test]
fn of_an_owner_and_its_successor_exactly_one_completion_is_accepted() {
    check(|| {
        let store = Store::default();
        let engine = || Engine::builder(store.clone()).lease(LEASE).build().unwrap();
        let Admission::Granted(zombie) = block_on(engine().reserve(&key(), &fingerprint())).unwrap() else {
            panic!("the key is free");
        };
        let successor = {
            let (engine, store) = (engine(), store.clone());
            thread::spawn(move || {
                store.advance(LEASE);
                match block_on(engine.reserve(&key(), &fingerprint())).unwrap() {
                    Admission::Granted(reservation) => {
                        assert_eq!(reservation.attempt().number, 2);
                        block_on(reservation.complete(StoredValue::bytes("second"))).unwrap()
                    }
                    Admission::Replayed(response) => {
                        assert_eq!(response, StoredValue::bytes("first"));
                        CompleteOutcome::Lost
                    }
                    other => panic!("{other:?}"),
                }
            })
        };
        let first = block_on(zombie.complete(StoredValue::bytes("first"))).unwrap();
        let second = successor.join().unwrap();
        assert!(matches!(
            (first, second),
            (CompleteOutcome::Completed, CompleteOutcome::Lost)
                | (CompleteOutcome::Lost, CompleteOutcome::Completed)
        ));
        let view = block_on(store.get(&key())).unwrap().unwrap();
        let kept = if first == CompleteOutcome::Completed { "first" } else { "second" };
        assert!(
            matches!(view.state, StateView::Completed { answer, .. } if answer == StoredValue::bytes(kept).into())
        );
    });
}

#[test]
fn concurrent_callers_run_one_handler_and_its_answer_goes_to_all_of_them() {
    check(|| {
        let engine = Engine::builder(Store::default()).build().unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (engine, runs) = (engine.clone(), Arc::clone(&runs));
                thread::spawn(move || {
                    let handler = async |_| {
                        shuttle::future::yield_now().await;
                        Ok::<_, String>(runs.fetch_add(1, Ordering::SeqCst))
                    };
                    let outcome = block_on(engine.execute(&key(), &fingerprint(), handler)).unwrap();
                    assert!(
                        matches!(
                            outcome,
                            crate::Outcome::Executed(0)
                                | crate::Outcome::Replayed(0)
                                | crate::Outcome::InFlight { .. }
                        ),
                        "{outcome:?}"
                    );
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    });
}
