//! What an operator can do about a run of unknown outcome.

use std::time::Duration;

use idem_core::store::Completion;
use idem_core::{
    Admission, CompleteOutcome, Effect, Engine, ExpiredLeasePolicy, Operation, Outcome, ReservationStore,
    Resolution, ResolveOutcome, StoreErrorKind, StoredValue,
};
use tokio::time::{advance, sleep, timeout};

use crate::support::{
    Fault, LEASE, TestStore, attempt_number, engine_with, fingerprint, granted, key, span, until_called,
};

fn refusing(store: &TestStore) -> Engine {
    engine_with(store, |settings| settings.expired_lease(ExpiredLeasePolicy::Refuse))
}

fn done() -> Resolution {
    Resolution::Complete(StoredValue::bytes("it was done"))
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
    assert!(
        matches!(replayed, Admission::Replayed(response) if response == StoredValue::bytes("it was done"))
    );
    let late = store
        .complete(&key(), zombie, Completion::new(StoredValue::bytes("late"), span(LEASE)))
        .await
        .unwrap();
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
async fn a_live_owner_is_not_disturbed() {
    let store = TestStore::new();
    let owner = store.reserved_elsewhere(&key()).await;
    advance(Duration::from_secs(20)).await;
    let outcome = refusing(&store).resolve(&key(), done()).await.unwrap();
    assert_eq!(outcome, ResolveOutcome::StillRunning { lease_left: Duration::from_secs(40) });
    // One reservation is the owner's; the operator made none.
    assert_eq!((store.calls(Operation::Get), store.calls(Operation::Reserve)), (1, 1));
    let own =
        store.complete(&key(), owner, Completion::new(StoredValue::bytes("own"), span(LEASE))).await.unwrap();
    assert_eq!(own, CompleteOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_releases_just_before_the_operator_reserves_is_not_overruled() {
    let store = TestStore::new();
    let engine = refusing(&store);
    let owner = store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;
    store.fail_next(Operation::Reserve, Fault::Slow(Duration::from_secs(1)));
    let operator = engine.clone();
    let resolving = tokio::spawn(async move { operator.resolve(&key(), done()).await });
    until_called(&store, Operation::Reserve, 2).await;
    let _ = store.release(&key(), owner).await.unwrap();
    assert_eq!(resolving.await.unwrap().unwrap(), ResolveOutcome::Lost);
    // The owner has said that nothing happened, so the request runs, and as a first attempt.
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_key_can_be_resolved_at_once() {
    let store = TestStore::new();
    let owner = store.reserved_elsewhere(&key()).await;
    let _ = store.abandon(&key(), owner).await.unwrap();
    assert_eq!(refusing(&store).resolve(&key(), done()).await.unwrap(), ResolveOutcome::Resolved);
}

#[tokio::test(start_paused = true)]
async fn a_completed_key_keeps_its_answer_and_an_unknown_one_is_not_found() {
    let store = TestStore::new();
    let engine = refusing(&store);
    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::NotFound);
    let _ = granted(&engine, &key()).await.complete(StoredValue::bytes("first")).await.unwrap();
    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::AlreadyCompleted);
    let replayed = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(replayed, Admission::Replayed(response) if response == StoredValue::bytes("first")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_resolves_the_key_as_not_kept() {
    let store = TestStore::new();
    let engine = refusing(&store);
    store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;
    store.fail_next(Operation::Complete, Fault::Refused(StoreErrorKind::TooLarge));
    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::NotKept);
    assert!(matches!(engine.reserve(&key(), &fingerprint()).await.unwrap(), Admission::NotKept));
}

#[tokio::test(start_paused = true)]
async fn a_failed_completion_leaves_the_key_blocked_until_it_is_resolved() {
    let store = TestStore::new();
    let engine = refusing(&store);
    store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;
    store.fail_all(Operation::Complete, Fault::Refused(StoreErrorKind::Unavailable));
    let error = engine.resolve(&key(), done()).await.unwrap_err();
    assert_eq!((error.kind, error.operation), (StoreErrorKind::Unavailable, Operation::Complete));

    store.heal();
    sleep(LEASE).await;
    let blocked = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(blocked, Admission::LeaseExpired { attempt: 2 }), "{blocked:?}");
    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::Resolved);
}

#[tokio::test(start_paused = true)]
async fn a_resolve_dropped_while_it_completes_continues_or_can_be_repeated() {
    for is_back in [true, false] {
        let store = TestStore::new();
        let engine = refusing(&store);
        store.reserved_elsewhere(&key()).await;
        advance(LEASE).await;
        store.fail_all(Operation::Complete, Fault::Stuck);
        let dropped = timeout(Duration::from_secs(1), engine.resolve(&key(), done())).await;
        assert!(dropped.is_err());
        if is_back {
            store.heal();
        }
        // A completion is tried for a lease; what it held runs out within another.
        sleep(LEASE * 2 + Duration::from_secs(1)).await;
        store.heal();
        let expected = if is_back { ResolveOutcome::AlreadyCompleted } else { ResolveOutcome::Resolved };
        assert_eq!(engine.resolve(&key(), Resolution::Release).await.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_takeover_of_unknown_outcome_leaves_the_key_blocked_until_it_is_resolved() {
    let store = TestStore::new();
    let engine = refusing(&store);
    store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;
    store.fail_next(Operation::Reserve, Fault::ReplyLost);
    store.fail_all(Operation::Reserve, Fault::Refused(StoreErrorKind::Unavailable));
    let error = engine.resolve(&key(), done()).await.unwrap_err();
    assert_eq!((error.effect, error.operation), (Effect::Unknown, Operation::Reserve));

    store.heal();
    sleep(LEASE).await;
    // Nobody has said that the first attempt had no effect.
    let blocked = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(blocked, Admission::LeaseExpired { .. }), "{blocked:?}");
    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::Resolved);
}

#[tokio::test(start_paused = true)]
async fn a_resolve_dropped_during_the_takeover_leaves_the_key_blocked_until_resolved() {
    let store = TestStore::new();
    let engine = refusing(&store);
    store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;
    store.fail_next(Operation::Reserve, Fault::Silent);
    let dropped = timeout(Duration::from_secs(1), engine.resolve(&key(), done())).await;
    assert!(dropped.is_err());

    sleep(LEASE).await;
    let blocked = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(blocked, Admission::LeaseExpired { .. }), "{blocked:?}");
    assert_eq!(engine.resolve(&key(), done()).await.unwrap(), ResolveOutcome::Resolved);
}
