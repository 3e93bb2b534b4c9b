//! What waiters get when the store fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idem_core::{
    Engine, ExecuteError, ExpiredLeasePolicy, InFlightPolicy, Operation, Outcome, StoreErrorKind,
    StoreFailurePolicy,
};
use tokio::time::{Instant, sleep};

use super::{AT_MOST, call};
use crate::support::{
    Fault, LEASE, TestStore, attempt_number, engine_with, fingerprint, key, waiting_engine,
};

/// An engine that waits and fails open.
fn fail_open(store: &TestStore, at_most: Duration, expired_lease: ExpiredLeasePolicy) -> Engine {
    engine_with(store, |settings| {
        settings
            .in_flight(InFlightPolicy::Wait { timeout: at_most })
            .store_failure(StoreFailurePolicy::FailOpen)
            .expired_lease(expired_lease)
    })
}

#[tokio::test(start_paused = true)]
async fn every_waiter_gets_the_error_of_one_failed_reservation() {
    let store = TestStore::new();
    store.fail_all(Operation::Reserve, Fault::Stuck);
    let runs = Arc::default();
    for call in call(&waiting_engine(&store, AT_MOST), 1000, &runs) {
        let Err(ExecuteError::Store(error)) = call.await.unwrap() else { panic!("the store has failed") };
        assert_eq!(error.kind, StoreErrorKind::Timeout);
    }
    // Twice by the one that leads: a silent sending is repeated once.
    assert_eq!((store.calls(Operation::Reserve), runs.load(Ordering::SeqCst)), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn every_waiter_gets_the_error_of_one_failed_poll() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    store.fail_all(Operation::Get, Fault::Refused(StoreErrorKind::Corrupt));
    let runs = Arc::default();
    for call in call(&waiting_engine(&store, AT_MOST), 10, &runs) {
        let Err(ExecuteError::Store(error)) = call.await.unwrap() else { panic!("the store has failed") };
        assert_eq!(error.kind, StoreErrorKind::Corrupt);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_poll_never_lets_a_waiter_run_next_to_the_known_owner() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    store.fail_all(Operation::Get, Fault::Refused(StoreErrorKind::Unavailable));
    let engine = fail_open(&store, AT_MOST, ExpiredLeasePolicy::TakeOver);
    let runs = Arc::default();
    for call in call(&engine, 10, &runs) {
        assert!(matches!(call.await.unwrap(), Err(ExecuteError::Store(_))));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn fail_open_never_runs_after_an_expired_owner_under_refuse() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    let engine = fail_open(&store, LEASE * 5, ExpiredLeasePolicy::Refuse);
    let runs = Arc::default();
    let waiter = call(&engine, 1, &runs).remove(0);
    sleep(LEASE / 2).await;
    store.fail_all(Operation::Reserve, Fault::Refused(StoreErrorKind::Unavailable));
    let Err(ExecuteError::Store(error)) = waiter.await.unwrap() else { panic!("the store has failed") };
    assert_eq!((error.kind, error.operation), (StoreErrorKind::Unavailable, Operation::Reserve));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn unprotected_runs_of_one_request_run_one_after_another() {
    for fault in [Fault::Stuck, Fault::Refused(StoreErrorKind::Unavailable)] {
        let store = TestStore::new();
        store.fail_all(Operation::Reserve, fault);
        let engine = fail_open(&store, AT_MOST, ExpiredLeasePolicy::TakeOver);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let callers: Vec<_> = (0..1000)
            .map(|_| {
                let (engine, running, most) = (engine.clone(), Arc::clone(&running), Arc::clone(&most));
                tokio::spawn(async move {
                    let handler = async |_| {
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        sleep(Duration::from_secs(1)).await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        Ok::<_, String>(1_u8)
                    };
                    engine.execute(&key(), &fingerprint(), handler).await.unwrap()
                })
            })
            .collect();
        let mut runs = 0;
        for caller in callers {
            match caller.await.unwrap() {
                Outcome::Unprotected(1) => runs += 1,
                Outcome::InFlight { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
        assert!(runs > 1, "{runs} runs: the next one follows when one is over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_hangs_keeps_a_waiter_no_longer_than_its_timeout() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    store.fail_all(Operation::Get, Fault::Stuck);
    let at_most = Duration::from_secs(1);
    let start = Instant::now();
    let outcome = attempt_number(&waiting_engine(&store, at_most)).await;
    assert!(matches!(outcome, Outcome::InFlight { .. }), "{outcome:?}");
    assert_eq!(start.elapsed(), at_most);
}
