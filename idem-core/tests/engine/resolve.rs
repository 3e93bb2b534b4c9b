//! What an operator can do about a run of unknown outcome.

use std::time::Duration;

use idem_core::{
    Admission, CompleteOutcome, Completion, Engine, ExpiredLeasePolicy, ReservationStore, Resolution,
    ResolveOutcome, Response,
};
use tokio::time::advance;

use crate::support::{LEASE, TestStore, engine_with, fingerprint, key};

fn refusing(store: &TestStore) -> Engine {
    engine_with(store, |settings| settings.expired_lease(ExpiredLeasePolicy::Refuse))
}

fn done() -> Resolution {
    Resolution::Complete(Response::bytes("it was done"))
}

#[tokio::test(start_paused = true)]
async fn an_expired_key_can_be_completed_and_its_zombie_is_refused() {
    let store = TestStore::new();
    let engine = refusing(&store);
    let zombie = store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;
    let stuck = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(stuck, Admission::LeaseExpired { attempt: 1 }));

    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::Resolved);
    let replayed = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(replayed, Admission::Replayed(response) if response == Response::bytes("it was done")));
    let late = store.complete(&key(), zombie, Completion::new(Response::bytes("late"), LEASE)).await.unwrap();
    assert_eq!(late, CompleteOutcome::Lost);
}

#[tokio::test(start_paused = true)]
async fn an_expired_key_can_be_released() {
    let store = TestStore::new();
    let engine = refusing(&store);
    store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;
    assert_eq!(engine.resolve(&key(), Resolution::Release).await.unwrap(), ResolveOutcome::Resolved);
    assert!(matches!(engine.reserve(&key(), &fingerprint()).await.unwrap(), Admission::Granted(_)));
}

#[tokio::test(start_paused = true)]
async fn a_live_owner_is_left_alone() {
    let store = TestStore::new();
    let owner = store.reserved_elsewhere(&key()).await;
    advance(Duration::from_secs(20)).await;
    let outcome = refusing(&store).resolve(&key(), done()).await.unwrap();
    assert_eq!(outcome, ResolveOutcome::StillRunning { lease_left: Duration::from_secs(40) });
    let own = store.complete(&key(), owner, Completion::new(Response::bytes("own"), LEASE)).await.unwrap();
    assert_eq!(own, CompleteOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_key_can_be_resolved_at_once() {
    let store = TestStore::new();
    let owner = store.reserved_elsewhere(&key()).await;
    store.abandon(&key(), owner).await.unwrap();
    assert_eq!(refusing(&store).resolve(&key(), done()).await.unwrap(), ResolveOutcome::Resolved);
}

#[tokio::test(start_paused = true)]
async fn a_completed_key_keeps_its_answer_and_an_unknown_one_is_not_found() {
    let store = TestStore::new();
    let engine = refusing(&store);
    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::NotFound);
    let Admission::Granted(reservation) = engine.reserve(&key(), &fingerprint()).await.unwrap() else {
        panic!("the key is free");
    };
    reservation.complete(Response::bytes("first")).await.unwrap();
    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::AlreadyCompleted);
    let replayed = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(replayed, Admission::Replayed(response) if response == Response::bytes("first")));
}
