//! Servers whose clock steps, and records whose time to live an operator removed.

use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome, StateView};
use idem_core::{CompleteOutcome, Effect, ReleaseOutcome, RenewOutcome, ReservationStore, StoreErrorKind};
use redis::Value;
use test_servers::redis::Kind;

use super::support::{ClockedServer, name};
use super::{Granted, HOUR, LEASE, ask, completed, completion, is_replayed, key, reserve, reserved, span};

#[tokio::test]
async fn a_clock_that_steps_forward_ends_leases_early_and_the_zombie_gets_lost() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let key = key("stepped over");
    let Granted { owner: zombie, fence: first, .. } = reserved(&store, &key).await;
    server.clock().forward(HOUR);
    let Granted { owner, fence: second, attempt } = reserved(&store, &key).await;
    assert_eq!(attempt, 2);
    assert!(second > first);
    assert_eq!(store.complete(&key, zombie, completion("too late")).await.unwrap(), CompleteOutcome::Lost);
    completed(&store, &key, owner, "an answer").await;
}

#[tokio::test]
async fn a_clock_that_steps_back_keeps_a_key_for_no_longer_than_its_lease() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let (key, never_asked_for) = (key("held"), key("never asked for"));
    let first = reserved(&store, &key).await.fence;
    reserved(&store, &never_asked_for).await;
    server.clock().back(HOUR);

    let outcome = reserve(&store, &key).await.unwrap();
    assert!(
        matches!(outcome, ReserveOutcome::InFlight { lease_left, .. } if lease_left <= LEASE),
        "{outcome:?}"
    );
    let view = store.get(&never_asked_for).await.unwrap().unwrap();
    assert!(matches!(view.state, StateView::InFlight { lease_left, .. } if lease_left <= LEASE), "{view:?}");

    server.clock().forward(LEASE + Duration::from_millis(2));
    let Granted { fence: second, attempt, .. } = reserved(&store, &key).await;
    assert_eq!(attempt, 2);
    assert!(second > first, "the clock is an hour behind, and fences must still grow");
}

#[tokio::test]
async fn an_owner_whose_servers_clock_steps_back_renews_and_completes() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let key = key("renewed");
    let owner = reserved(&store, &key).await.owner;
    server.clock().back(HOUR);
    match store.renew(&key, owner, span(LEASE)).await.unwrap() {
        RenewOutcome::Renewed { lease_left } => assert_eq!(lease_left, LEASE),
        other => panic!("{other:?}"),
    }
    server.clock().forward(LEASE / 2);
    assert!(matches!(reserve(&store, &key).await.unwrap(), ReserveOutcome::InFlight { .. }));
    completed(&store, &key, owner, "an answer").await;
}

#[tokio::test]
async fn fences_go_on_growing_across_releases_while_the_clock_is_behind() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let key = key("released");
    let Granted { mut owner, fence: mut last, .. } = reserved(&store, &key).await;
    for _ in 0..10 {
        server.clock().back(HOUR);
        assert_eq!(store.release(&key, owner).await.unwrap(), ReleaseOutcome::Released);
        let Granted { owner: next, fence, attempt } = reserved(&store, &key).await;
        assert_eq!(attempt, 1);
        assert!(fence > last);
        (owner, last) = (next, fence);
    }
}

/// The time to live measures the lease. An operator who removes it ends the lease.
#[tokio::test]
async fn a_record_that_was_made_persistent_can_be_taken_over_or_is_replayed_forever() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let (running, done) = (key("running"), key("done"));
    let Granted { owner: zombie, fence: first, .. } = reserved(&store, &running).await;
    let owner = reserved(&store, &done).await.owner;
    completed(&store, &done, owner, "an answer").await;
    for key in [&running, &done] {
        ask(&server, redis::cmd("PERSIST").arg(name(key))).await;
        assert!(store.get(key).await.unwrap().is_some());
    }
    assert!(is_replayed(&store, &done, "an answer").await);
    let Granted { fence: second, attempt, .. } = reserved(&store, &running).await;
    assert_eq!(attempt, 2);
    assert!(second > first);
    assert_eq!(store.complete(&running, zombie, completion("late")).await.unwrap(), CompleteOutcome::Lost);
}

#[tokio::test]
async fn a_clock_beyond_the_last_fence_makes_no_record_and_no_tombstone() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let key = key("in the year 2256");
    server.clock().forward(230 * 366 * 24 * HOUR);
    let reserving = reserve(&store, &key).await.unwrap_err();
    let releasing = store.release(&key, OwnerToken::random()).await.unwrap_err();
    for error in [reserving, releasing] {
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Internal, Effect::NotApplied));
    }
    assert_eq!(ask(&server, &redis::cmd("DBSIZE")).await, Value::Int(0));
}
