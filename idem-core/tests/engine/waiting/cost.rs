//! What waiters cost the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use idem_core::{Engine, ExpiredLeasePolicy, Fingerprint, InFlightPolicy, Operation, Outcome};
use tokio::time::{advance, sleep};

use super::{AT_MOST, call, call_as, outcomes};
use crate::stores::LockedStore;
use crate::support::{Fault, LEASE, TestStore, attempt_number, engine_with, key, waiting_engine};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn waiters_that_come_and_go_share_one_poll() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    let engine = waiting_engine(&store, SECOND);
    let mut waiters = Vec::new();
    for _ in 0..4000 {
        let engine = engine.clone();
        waiters.push(tokio::spawn(async move { attempt_number(&engine).await }));
        sleep(Duration::from_millis(5)).await;
    }
    for waiter in waiters {
        assert!(matches!(waiter.await.unwrap(), Outcome::InFlight { .. }));
    }
    let calls = [Operation::Reserve, Operation::Get].map(|operation| store.calls(operation));
    assert!(calls[0] < 20 && calls[1] < 200, "{calls:?} reservations and polls in twenty seconds");
}

#[tokio::test(start_paused = true)]
async fn waiters_whose_time_is_up_together_send_nothing_more() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    let runs = Arc::default();
    for outcome in outcomes(call(&waiting_engine(&store, SECOND), 4000, &runs)).await {
        assert!(matches!(outcome, Outcome::InFlight { .. }), "{outcome:?}");
    }
    let calls = [Operation::Reserve, Operation::Get].map(|operation| store.calls(operation));
    assert!(calls[0] < 20 && calls[1] < 20, "{calls:?} reservations and polls in a second");
}

#[tokio::test(start_paused = true)]
async fn a_burst_with_another_payload_is_refused_by_few_reservations() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    store.fail_all(Operation::Reserve, Fault::Slow(Duration::from_millis(10)));
    let runs = Arc::default();
    let other = Fingerprint::from_parts(["another payload"]);
    for outcome in outcomes(call_as(other, &waiting_engine(&store, AT_MOST), 1000, &runs)).await {
        assert!(matches!(outcome, Outcome::FingerprintMismatch), "{outcome:?}");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    assert!(store.calls(Operation::Reserve) < 20, "{} reservations", store.calls(Operation::Reserve));
}

#[tokio::test(start_paused = true)]
async fn a_burst_during_a_reservation_is_refused_by_few_reservations() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    store.fail_all(Operation::Reserve, Fault::Slow(Duration::from_millis(10)));
    let engine = waiting_engine(&store, AT_MOST);
    let runs = Arc::default();
    let other = Fingerprint::from_parts(["another payload"]);
    let mut calls = call_as(other, &engine, 1, &runs);
    sleep(Duration::from_millis(5)).await;
    // Too late for the refusal that is being sent. They join again, together.
    calls.extend(call_as(other, &engine, 100, &runs));
    for outcome in outcomes(calls).await {
        assert!(matches!(outcome, Outcome::FingerprintMismatch), "{outcome:?}");
    }
    assert!(store.calls(Operation::Reserve) < 20, "{} reservations", store.calls(Operation::Reserve));
}

#[tokio::test(start_paused = true)]
async fn a_burst_after_an_expired_lease_is_refused_by_few_reservations() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;
    store.fail_all(Operation::Reserve, Fault::Slow(Duration::from_millis(10)));
    let engine = engine_with(&store, |settings| {
        settings
            .in_flight(InFlightPolicy::Wait { timeout: AT_MOST })
            .expired_lease(ExpiredLeasePolicy::Refuse)
    });
    let runs = Arc::default();
    for outcome in outcomes(call(&engine, 1000, &runs)).await {
        assert!(matches!(outcome, Outcome::LeaseExpired { attempt: 1 }), "{outcome:?}");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    assert!(store.calls(Operation::Reserve) < 20, "{} reservations", store.calls(Operation::Reserve));
}

#[tokio::test(start_paused = true)]
async fn an_expired_record_that_stays_locked_is_reserved_less_and_less_often() {
    let store = Arc::new(LockedStore::default());
    let wait = InFlightPolicy::Wait { timeout: SECOND };
    let engine = Engine::builder(Arc::clone(&store)).in_flight(wait).build().unwrap();
    assert!(matches!(attempt_number(&engine).await, Outcome::InFlight { .. }));
    assert!(store.reservations() < 20, "{} reservations in a second", store.reservations());
}
