//! Servers whose clock steps back or forward.

use std::time::Duration;

use idem_conformance::span;
use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{
    CompleteOutcome, ExpiredLeasePolicy, FencingToken, ReleaseOutcome, RenewOutcome, ReservationStore,
};

use crate::support::{DAY, LEASE, Shop, completion, key, request};

const HOUR: Duration = Duration::from_secs(3600);

async fn reserve(shop: &Shop, owner: OwnerToken) -> ReserveOutcome {
    shop.store.reserve(&key(), request(owner)).await.unwrap()
}

async fn reserved(shop: &Shop) -> (OwnerToken, FencingToken) {
    let owner = OwnerToken::random();
    match reserve(shop, owner).await {
        ReserveOutcome::Reserved { fence, .. } => (owner, fence),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn after_a_clock_step_back_a_key_is_kept_for_one_lease_at_most() {
    let shop = Shop::with_clock().await;
    let (owner, _) = reserved(&shop).await;
    shop.server.clock().back(HOUR);
    match reserve(&shop, OwnerToken::random()).await {
        ReserveOutcome::InFlight { lease_left, .. } => assert!(lease_left <= LEASE, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
    // A read does not start the lease again.
    shop.server.clock().forward(LEASE / 2);
    match reserve(&shop, OwnerToken::random()).await {
        ReserveOutcome::InFlight { lease_left, .. } => assert!(lease_left <= LEASE / 2, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
    shop.server.clock().forward(LEASE / 2);
    assert!(matches!(
        reserve(&shop, OwnerToken::random()).await,
        ReserveOutcome::Reserved { attempt: 2, .. }
    ));
    let completion = completion("late");
    let zombie = shop.store.complete(&key(), owner, completion).await.unwrap();
    assert_eq!(zombie, CompleteOutcome::Lost);
}

#[tokio::test]
async fn after_a_clock_step_back_a_renewal_grants_one_lease_at_most() {
    let shop = Shop::with_clock().await;
    let (owner, _) = reserved(&shop).await;
    shop.server.clock().back(HOUR);
    match shop.store.renew(&key(), owner, span(LEASE)).await.unwrap() {
        RenewOutcome::Renewed { lease_left } => assert!(lease_left <= LEASE, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn after_a_clock_step_back_an_abandoned_record_is_kept_for_its_ttl() {
    let shop = Shop::with_clock().await;
    let owner = OwnerToken::random();
    let remembered = request(owner).record_ttl(span(HOUR));
    shop.store.reserve(&key(), remembered).await.map(drop).unwrap();
    shop.store.abandon(&key(), owner).await.map(drop).unwrap();
    shop.server.clock().back(DAY);
    let refusing = request(OwnerToken::random()).on_expired_lease(ExpiredLeasePolicy::Refuse);
    let refused = shop.store.reserve(&key(), refusing.clone()).await.unwrap();
    assert_eq!(refused, ReserveOutcome::LeaseExpired { attempt: 1 });
    shop.server.clock().forward(HOUR);
    let forgotten = shop.store.reserve(&key(), refusing).await.unwrap();
    assert!(matches!(forgotten, ReserveOutcome::Reserved { attempt: 1, .. }), "{forgotten:?}");
}

#[tokio::test]
async fn fences_keep_growing_when_the_clock_steps_back() {
    let shop = Shop::with_clock().await;
    let (owner, first) = reserved(&shop).await;
    assert_eq!(shop.store.release(&key(), owner).await.unwrap(), ReleaseOutcome::Released);
    shop.server.clock().back(HOUR);
    let (_, second) = reserved(&shop).await;
    assert!(second > first);

    // The same after the record was removed.
    shop.server.clock().forward(DAY * 30);
    assert_eq!(shop.store.sweep(10).await.unwrap(), 1);
    shop.server.clock().back(DAY * 60);
    let (_, third) = reserved(&shop).await;
    assert!(third > second);
}

#[tokio::test]
async fn a_clock_step_forward_ends_leases_early_and_the_zombie_gets_lost() {
    let shop = Shop::with_clock().await;
    let (owner, first) = reserved(&shop).await;
    shop.server.clock().forward(HOUR);
    let (_, second) = reserved(&shop).await;
    assert!(second > first);
    let completion = completion("late");
    let zombie = shop.store.complete(&key(), owner, completion).await.unwrap();
    assert_eq!(zombie, CompleteOutcome::Lost);
}
