//! Waiting for another's answer without a stampede.

mod cost;
mod store_failures;
mod this_process;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idem_core::store::Completion;
use idem_core::{
    Answer, Engine, ExecuteError, Fingerprint, Operation, Outcome, ReservationStore, StoreErrorKind,
    StoredValue,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::{Fault, LEASE, TestStore, fingerprint, key, span, waiting_engine};

const AT_MOST: Duration = Duration::from_secs(30);

type Execution = Result<Outcome<usize>, ExecuteError<String>>;

/// Starts callers whose handler counts its runs and takes a second.
fn call(engine: &Engine, callers: usize, runs: &Arc<AtomicUsize>) -> Vec<JoinHandle<Execution>> {
    call_as(fingerprint(), engine, callers, runs)
}

fn call_as(
    fingerprint: Fingerprint,
    engine: &Engine,
    callers: usize,
    runs: &Arc<AtomicUsize>,
) -> Vec<JoinHandle<Execution>> {
    (0..callers)
        .map(|_| {
            let (engine, runs) = (engine.clone(), Arc::clone(runs));
            tokio::spawn(async move {
                let handler = async |_| {
                    let run = runs.fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_secs(1)).await;
                    Ok(run)
                };
                engine.execute(&key(), &fingerprint, handler).await
            })
        })
        .collect()
}

async fn outcomes(calls: Vec<JoinHandle<Execution>>) -> Vec<Outcome<usize>> {
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap().unwrap());
    }
    outcomes
}

fn count(outcomes: &[Outcome<usize>], wanted: impl Fn(&Outcome<usize>) -> bool) -> usize {
    outcomes.iter().filter(|outcome| wanted(outcome)).count()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_cost_the_store_what_one_costs() {
    let store = TestStore::new();
    let runs = Arc::default();
    let start = Instant::now();
    let outcomes = outcomes(call(&waiting_engine(&store, AT_MOST), 10_000, &runs)).await;
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Executed(0))), 1);
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Replayed(0))), 9_999);
    assert_eq!(start.elapsed(), Duration::from_secs(1), "waiters are answered at the completion");
    let calls = [Operation::Reserve, Operation::Get, Operation::Complete].map(|op| store.calls(op));
    assert_eq!(calls, [1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_another_process_is_polled_by_one_waiter() {
    let store = TestStore::new();
    let owner = store.reserved_elsewhere(&key()).await;
    let runs = Arc::default();
    let calls = call(&waiting_engine(&store, AT_MOST), 1000, &runs);
    sleep(Duration::from_secs(5)).await;
    let answer = Answer::Value(StoredValue { format: idem_core::Codec::Json.format(0), body: "42".into() });
    let _ = store.complete(&key(), owner, Completion::new(answer, span(LEASE))).await.unwrap();
    let outcomes = outcomes(calls).await;
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Replayed(42))), 1000);
    assert_eq!((runs.load(Ordering::SeqCst), store.calls(Operation::Reserve)), (0, 2));
    assert!(store.calls(Operation::Get) < 60, "{} polls in five seconds", store.calls(Operation::Get));
}

#[tokio::test(start_paused = true)]
async fn when_the_owner_vanishes_exactly_one_waiter_takes_over() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    sleep(LEASE - Duration::from_secs(10)).await;
    let runs = Arc::default();
    let outcomes = outcomes(call(&waiting_engine(&store, AT_MOST), 1000, &runs)).await;
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Executed(0))), 1);
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Replayed(0))), 999);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_time_is_up_learns_when_to_ask_again() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    let start = Instant::now();
    let runs = Arc::default();
    for outcome in outcomes(call(&waiting_engine(&store, AT_MOST), 3, &runs)).await {
        let Outcome::InFlight { retry_after } = outcome else { panic!("{outcome:?}") };
        assert!(retry_after <= LEASE - AT_MOST && retry_after >= Duration::from_secs(29), "{retry_after:?}");
    }
    assert_eq!(start.elapsed(), AT_MOST);
}

#[tokio::test(start_paused = true)]
async fn a_failed_handler_makes_the_next_waiter_the_leader() {
    let store = TestStore::new();
    let engine = waiting_engine(&store, AT_MOST);
    let failing = engine.clone();
    let first = tokio::spawn(async move {
        let handler = async |_| {
            sleep(Duration::from_secs(1)).await;
            Err::<usize, _>("declined".to_owned())
        };
        failing.execute(&key(), &fingerprint(), handler).await
    });
    tokio::task::yield_now().await;
    let runs = Arc::default();
    let outcomes = outcomes(call(&engine, 100, &runs)).await;
    assert!(matches!(first.await.unwrap(), Err(ExecuteError::Handler(_))));
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Executed(0))), 1);
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Replayed(0))), 99);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_away_makes_the_next_waiter_the_leader() {
    let store = TestStore::new();
    let engine = waiting_engine(&store, AT_MOST);
    let first_runs = Arc::default();
    let first = call(&engine, 1, &first_runs).remove(0);
    tokio::task::yield_now().await;
    let runs = Arc::default();
    let calls = call(&engine, 100, &runs);
    sleep(Duration::from_millis(500)).await;
    first.abort();
    let outcomes = outcomes(calls).await;
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Executed(0))), 1);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_with_another_payload_get_a_mismatch_and_no_bytes() {
    let store = TestStore::new();
    let engine = waiting_engine(&store, AT_MOST);
    let runs = Arc::default();
    let calls = call(&engine, 10, &runs);
    tokio::task::yield_now().await;
    let other = Fingerprint::from_parts(["another payload"]);
    let handler = async |_| -> Result<usize, String> { panic!("must not run") };
    let outcome = engine.execute(&key(), &other, handler).await.unwrap();
    assert!(matches!(outcome, Outcome::FingerprintMismatch));
    assert_eq!(count(&outcomes(calls).await, |outcome| matches!(outcome, Outcome::Replayed(0))), 9);
}

#[tokio::test(start_paused = true)]
async fn a_polled_record_that_goes_to_another_payload_shows_no_bytes() {
    let store = TestStore::new();
    let owner = store.reserved_elsewhere(&key()).await;
    let runs = Arc::default();
    let calls = call(&waiting_engine(&store, AT_MOST), 3, &runs);
    sleep(Duration::from_secs(1)).await;
    let _ = store.release(&key(), owner).await.unwrap();
    let other = idem_core::store::OwnerToken::random();
    let request = idem_core::store::ReserveRequest::new(
        other,
        Fingerprint::from_parts(["another payload"]),
        span(LEASE),
    );
    let _ = store.reserve(&key(), request).await.unwrap();
    let _ = store
        .complete(&key(), other, Completion::new(StoredValue::bytes("secret"), span(LEASE)))
        .await
        .unwrap();
    for outcome in outcomes(calls).await {
        assert!(matches!(outcome, Outcome::FingerprintMismatch), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_get_not_kept_for_an_answer_that_was_not_kept() {
    let store = TestStore::new();
    store.fail_next(Operation::Complete, Fault::Refused(StoreErrorKind::TooLarge));
    let runs = Arc::default();
    let outcomes = outcomes(call(&waiting_engine(&store, AT_MOST), 10, &runs)).await;
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::Executed(0))), 1);
    assert_eq!(count(&outcomes, |outcome| matches!(outcome, Outcome::NotKept)), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiters_that_join_at_the_instant_of_completion_are_all_answered() {
    let engine = waiting_engine(&TestStore::new(), AT_MOST);
    for _ in 0..50 {
        let key = idem_core::Key::new("scope", format!("{:?}", std::time::Instant::now())).unwrap();
        let callers: Vec<_> = (0..32)
            .map(|_| {
                let (engine, key) = (engine.clone(), key.clone());
                tokio::spawn(async move {
                    engine.execute(&key, &fingerprint(), async |_| Ok::<_, String>(1_usize)).await.unwrap()
                })
            })
            .collect();
        let mut executed = 0;
        for caller in callers {
            match caller.await.unwrap() {
                Outcome::Executed(1) => executed += 1,
                Outcome::Replayed(1) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(executed, 1);
    }
}
