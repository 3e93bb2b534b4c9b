//! Reservations whose outcome is unknown, or whose caller went away.

use std::pin::pin;
use std::time::Duration;

use idem_core::{Effect, Key, Operation, Outcome, StoreErrorKind};
use tokio::time::{sleep, timeout};

use crate::support::{Fault, LEASE, TestStore, attempt_number, engine, fingerprint, key, until_called};

const UNAVAILABLE: Fault = Fault::Refused(StoreErrorKind::Unavailable);

#[tokio::test(start_paused = true)]
async fn after_a_lost_reply_in_an_outage_the_key_is_free_once_the_store_is_back() {
    let store = TestStore::new();
    store.fail_next(Operation::Reserve, Fault::ReplyLost);
    store.fail_all(Operation::Reserve, UNAVAILABLE);
    store.fail_all(Operation::Release, UNAVAILABLE);
    let engine = engine(&store);
    let error = engine.reserve(&key(), &fingerprint()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::Unknown));

    sleep(Duration::from_secs(1)).await;
    store.heal();
    assert!(matches!(attempt_number(&engine).await, Outcome::InFlight { .. }));
    sleep(Duration::from_secs(5)).await;
    // Attempt 1: it was released, and has not just run out.
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_without_effect_leaves_nothing_to_release() {
    let store = TestStore::new();
    store.fail_all(Operation::Reserve, UNAVAILABLE);
    let error = engine(&store).reserve(&key(), &fingerprint()).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    // Long enough for whatever would be done in the background.
    sleep(LEASE).await;
    assert_eq!(store.calls(Operation::Release), 0);
}

#[test]
fn a_reservation_that_is_dropped_outside_its_runtime_is_released_in_it() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let store = TestStore::new();
    store.fail_next(Operation::Reserve, Fault::Silent);
    let (engine, key, fingerprint) = (engine(&store), key(), fingerprint());
    {
        let mut reservation = pin!(engine.reserve(&key, &fingerprint));
        let waited = runtime.block_on(async { timeout(Duration::from_secs(1), &mut reservation).await });
        assert!(waited.is_err());
    }
    runtime.block_on(until_called(&store, Operation::Release, 1));
    assert!(matches!(runtime.block_on(attempt_number(&engine)), Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn releases_are_sent_less_and_less_often_while_the_store_is_down() {
    let store = TestStore::new();
    store.fail_all(Operation::Reserve, Fault::Stuck);
    store.fail_all(Operation::Release, UNAVAILABLE);
    let engine = engine(&store);
    for _ in 0..10 {
        let error = engine.reserve(&key(), &fingerprint()).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::Unknown));
    }
    sleep(LEASE * 3).await;
    let releases = store.calls(Operation::Release);
    assert!((10..400).contains(&releases), "{releases} releases for 10 requests");
    // Beyond a lease there is nothing left to release.
    sleep(LEASE * 3).await;
    assert_eq!(store.calls(Operation::Release), releases);
}

#[tokio::test(start_paused = true)]
async fn at_most_64_releases_are_sent_at_once() {
    let store = TestStore::new();
    store.fail_all(Operation::Reserve, Fault::Stuck);
    store.fail_all(Operation::Release, Fault::Stuck);
    let engine = engine(&store);
    let requests: Vec<_> = (0..1000)
        .map(|number| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let key = Key::new("scope", format!("request {number}")).unwrap();
                engine.reserve(&key, &fingerprint()).await.unwrap_err().kind
            })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), StoreErrorKind::Timeout);
    }
    sleep(LEASE * 2).await;
    assert!(store.calls(Operation::Release) >= 64);
    let most = store.most_at_once(Operation::Release);
    assert!((1..=64).contains(&most), "{most} releases at once");
}
