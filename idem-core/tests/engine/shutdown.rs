//! Shutting down.

use std::error::Error;
use std::time::Duration;

use idem_core::{
    Attempt, Engine, EngineShutdown, ExecuteError, Key, Operation, Outcome, StoreError, StoreErrorKind,
    StoreFailurePolicy,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::{
    Fault, LEASE, TestStore, attempt_number, engine, engine_with, fingerprint, granted, hang, key,
    until_called, waiting_engine,
};

fn run(engine: &Engine, name: &str, takes: Duration) -> JoinHandle<()> {
    let (engine, key) = (engine.clone(), Key::new("scope", name).unwrap());
    tokio::spawn(async move {
        let handler = async move |_: Attempt| {
            sleep(takes).await;
            Ok::<_, String>(1_u8)
        };
        let _ = engine.execute_detached(&key, &fingerprint(), handler).await;
    })
}

/// A caller whose handler must not run, in a task; its error.
fn refused(engine: &Engine) -> JoinHandle<StoreError> {
    let engine = engine.clone();
    tokio::spawn(async move {
        let handler = async |_| -> Result<u8, String> { panic!("must not run") };
        match engine.execute(&key(), &fingerprint(), handler).await {
            Err(ExecuteError::Store(error)) => error,
            other => panic!("{other:?}"),
        }
    })
}

fn is_shutdown(error: &StoreError) -> bool {
    error.source().is_some_and(|source| source.downcast_ref::<EngineShutdown>().is_some())
}

#[tokio::test(start_paused = true)]
async fn shutdown_refuses_new_runs_awaits_running_ones_and_abandons_the_rest() {
    let store = TestStore::new();
    let engine = engine(&store);
    for (name, seconds) in [("short", 1), ("longer", 9), ("too long", 100)] {
        run(&engine, name, Duration::from_secs(seconds));
    }
    sleep(Duration::from_millis(10)).await;
    let start = Instant::now();
    let report = engine.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.drained, report.abandoned, report.unsettled), (2, 1, 0));
    assert_eq!(start.elapsed(), Duration::from_secs(10));

    let refused = engine.execute(&key(), &fingerprint(), async |_| Ok::<_, String>(1_u8)).await;
    let Err(ExecuteError::Store(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(is_shutdown(&error));

    // What was abandoned may run again at once, elsewhere.
    let elsewhere = crate::support::engine(&store);
    let too_long = Key::new("scope", "too long").unwrap();
    let handler = async |attempt: Attempt| Ok::<_, String>(attempt.number);
    let outcome = elsewhere.execute(&too_long, &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn shutdown_returns_as_soon_as_the_last_run_is_over() {
    let engine = engine(&TestStore::new());
    run(&engine, "short", Duration::from_secs(3));
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let report = engine.shutdown(Duration::from_secs(1000)).await;
    assert_eq!((report.drained, report.abandoned), (1, 0));
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(engine.shutdown(Duration::from_secs(1000)).await.drained, 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_the_shutdown_learns_it_at_once() {
    let store = TestStore::new();
    let engine = engine(&store);
    let stopping = engine.clone();
    let handler = async |attempt: Attempt| {
        assert_eq!(stopping.shutdown(Duration::from_secs(1)).await.abandoned, 1);
        assert!(attempt.is_lost());
        attempt.lost().await;
        Ok::<_, String>(1_u8)
    };
    let outcome = engine.execute(&key(), &fingerprint(), handler).await.unwrap();
    // Nobody has taken the key, so its answer is still the answer.
    assert!(matches!(outcome, Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_does_not_delay_the_shutdown() {
    for fault in [Fault::Refused(StoreErrorKind::Unavailable), Fault::Stuck] {
        let store = TestStore::new();
        store.fail_all(Operation::Abandon, fault);
        let engine = engine(&store);
        for number in 0..1000 {
            run(&engine, &format!("hung {number}"), Duration::from_secs(100_000));
        }
        sleep(Duration::from_millis(10)).await;
        let start = Instant::now();
        let report = engine.shutdown(Duration::from_secs(1)).await;
        assert_eq!((report.abandoned, report.unsettled), (0, 1000));
        assert!(start.elapsed() <= Duration::from_millis(6100), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_another_process_is_refused_at_once_and_never_runs() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    let engine = waiting_engine(&store, Duration::from_secs(3600));
    let waiter = refused(&engine);
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let report = engine.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.drained, report.abandoned, report.unsettled, report.unprotected), (1, 0, 0, 0));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(is_shutdown(&waiter.await.unwrap()));
    let calls = store.calls(Operation::Reserve);
    sleep(LEASE * 2).await;
    assert_eq!(store.calls(Operation::Reserve), calls);
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_reservation_is_being_sent_is_refused_and_its_key_released() {
    for fault in [Fault::Slow(Duration::from_secs(2)), Fault::Silent] {
        let store = TestStore::new();
        store.fail_next(Operation::Reserve, fault);
        let engine = engine(&store);
        let caller = refused(&engine);
        sleep(Duration::from_millis(10)).await;
        let report = engine.shutdown(Duration::from_secs(1)).await;
        assert_eq!((report.drained, report.abandoned, report.unsettled), (1, 0, 0));
        assert!(is_shutdown(&caller.await.unwrap()));
        // It was released before the shutdown returned, so that elsewhere it is as if nothing had been.
        assert!(matches!(attempt_number(&crate::support::engine(&store)).await, Outcome::Executed(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_granted_at_the_instant_of_a_shutdown_is_released() {
    let store = TestStore::new();
    let engine = engine(&store);
    store.shut_down_during_next(&engine);
    assert!(is_shutdown(&refused(&engine).await.unwrap()));
    until_called(&store, Operation::Release, 1).await;
    assert_eq!(store.calls(Operation::Abandon), 0);
    assert!(matches!(attempt_number(&crate::support::engine(&store)).await, Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_has_returned_is_completed_and_not_abandoned() {
    let store = TestStore::new();
    store.fail_next(Operation::Complete, Fault::Slow(Duration::from_secs(4)));
    let engine = engine(&store);
    let completing = engine.clone();
    let run = tokio::spawn(async move { attempt_number(&completing).await });
    sleep(Duration::from_secs(1)).await;
    let report = engine.shutdown(Duration::from_secs(1)).await;
    assert_eq!((report.drained, report.abandoned, report.unsettled), (0, 0, 1));
    let elsewhere = crate::support::engine(&store);
    assert!(matches!(attempt_number(&elsewhere).await, Outcome::InFlight { .. }));
    assert!(matches!(run.await.unwrap(), Outcome::Executed(1)));
    assert!(matches!(attempt_number(&elsewhere).await, Outcome::Replayed(1)));
}

#[tokio::test(start_paused = true)]
async fn the_longest_deadline_is_no_overflow() {
    let engine = engine(&TestStore::new());
    run(&engine, "short", Duration::from_secs(3));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.shutdown(Duration::MAX).await.drained, 1);
}

#[tokio::test(start_paused = true)]
async fn an_abandon_whose_reply_was_lost_is_sent_again() {
    let store = TestStore::new();
    let engine = engine(&store);
    let _held = granted(&engine, &key()).await;
    store.fail_next(Operation::Abandon, Fault::ReplyLost);
    let report = engine.shutdown(Duration::from_secs(1)).await;
    assert_eq!((report.abandoned, report.unsettled), (1, 0));
    assert_eq!(store.calls(Operation::Abandon), 2);
}

#[tokio::test(start_paused = true)]
async fn at_most_128_abandons_are_sent_at_once() {
    let store = TestStore::new();
    let engine = engine(&store);
    let mut held = Vec::new();
    for i in 0..1000 {
        held.push(granted(&engine, &Key::new("scope", i.to_string()).unwrap()).await);
    }
    store.fail_all(Operation::Abandon, Fault::Slow(Duration::from_millis(10)));
    let report = engine.shutdown(Duration::ZERO).await;
    assert_eq!((report.abandoned, store.most_at_once(Operation::Abandon)), (1000, 128));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_reservation_is_lost_before_another_attempt_runs() {
    let store = TestStore::new();
    let engine = engine(&store);
    let held = granted(&engine, &key()).await;
    assert_eq!(engine.shutdown(Duration::from_secs(1)).await.abandoned, 1);
    assert!(held.attempt().is_lost());
    assert!(matches!(attempt_number(&crate::support::engine(&store)).await, Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn an_unprotected_run_that_continues_is_reported() {
    let store = TestStore::new();
    store.fail_all(Operation::Reserve, Fault::Refused(StoreErrorKind::Unavailable));
    let engine = engine_with(&store, |settings| settings.store_failure(StoreFailurePolicy::FailOpen));
    let running = hang(&engine);
    sleep(Duration::from_secs(1)).await;
    let report = engine.shutdown(Duration::from_secs(1)).await;
    assert_eq!((report.drained, report.abandoned, report.unsettled, report.unprotected), (0, 0, 0, 1));
    running.abort();
}
