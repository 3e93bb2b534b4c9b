//! Servers whose clock is set.

use idem_conformance::span;
use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{CompleteOutcome, FencingToken, ReleaseOutcome, ReservationStore, StoredValue};
use idem_postgres::Options;
use test_servers::postgres::Postgres;

use crate::support::{DAY, LEASE, Shop, key, payload};

const HOUR: Duration = Duration::from_secs(3600);

async fn shop() -> Shop {
    Shop::on(Postgres::start_with_clock().await, Options::new()).await
}

async fn reserve(shop: &Shop, owner: OwnerToken) -> ReserveOutcome {
    shop.store.reserve(&key(), ReserveRequest::new(owner, payload(), span(LEASE))).await.unwrap()
}

async fn reserved(shop: &Shop) -> (OwnerToken, FencingToken) {
    let owner = OwnerToken::random();
    match reserve(shop, owner).await {
        ReserveOutcome::Reserved { fence, .. } => (owner, fence),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_clock_that_steps_back_keeps_a_key_no_longer_than_its_lease_from_then_on() {
    let shop = shop().await;
    let (owner, _) = reserved(&shop).await;
    shop.server.clock().back(HOUR);
    match reserve(&shop, OwnerToken::random()).await {
        ReserveOutcome::InFlight { lease_left, .. } => assert!(lease_left <= LEASE, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
    // Looking does not begin the lease anew.
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
    let completion = Completion::new(StoredValue::bytes("late"), span(DAY));
    let zombie = shop.store.complete(&key(), owner, completion).await.unwrap();
    assert_eq!(zombie, CompleteOutcome::Lost);
}

#[tokio::test]
async fn an_owner_whose_clock_stepped_back_renews_to_its_lease_from_then_on() {
    let shop = shop().await;
    let (owner, _) = reserved(&shop).await;
    shop.server.clock().back(HOUR);
    match shop.store.renew(&key(), owner, span(LEASE)).await.unwrap() {
        idem_core::RenewOutcome::Renewed { lease_left } => assert!(lease_left <= LEASE, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_abandoned_record_is_remembered_no_longer_than_its_ttl_after_a_step_back() {
    let shop = shop().await;
    let owner = OwnerToken::random();
    let request = ReserveRequest::new(owner, payload(), span(LEASE)).record_ttl(span(HOUR));
    shop.store.reserve(&key(), request).await.map(drop).unwrap();
    shop.store.abandon(&key(), owner).await.map(drop).unwrap();
    shop.server.clock().back(DAY);
    let refusing = ReserveRequest::new(OwnerToken::random(), payload(), span(LEASE))
        .on_expired_lease(idem_core::ExpiredLeasePolicy::Refuse);
    let refused = shop.store.reserve(&key(), refusing.clone()).await.unwrap();
    assert_eq!(refused, ReserveOutcome::LeaseExpired { attempt: 1 });
    shop.server.clock().forward(HOUR);
    let forgotten = shop.store.reserve(&key(), refusing).await.unwrap();
    assert!(matches!(forgotten, ReserveOutcome::Reserved { attempt: 1, .. }), "{forgotten:?}");
}

#[tokio::test]
async fn fences_go_on_growing_when_the_clock_steps_back() {
    let shop = shop().await;
    let (owner, first) = reserved(&shop).await;
    assert_eq!(shop.store.release(&key(), owner).await.unwrap(), ReleaseOutcome::Released);
    shop.server.clock().back(HOUR);
    let (_, second) = reserved(&shop).await;
    assert!(second > first);

    // Also over the life of the record, once it was removed.
    shop.server.clock().forward(DAY * 30);
    assert_eq!(shop.store.sweep(10).await.unwrap(), 1);
    shop.server.clock().back(DAY * 60);
    let (_, third) = reserved(&shop).await;
    assert!(third > second);
}

#[tokio::test]
async fn a_clock_that_steps_forward_ends_leases_early_and_the_zombie_is_told() {
    let shop = shop().await;
    let (owner, first) = reserved(&shop).await;
    shop.server.clock().forward(HOUR);
    let (_, second) = reserved(&shop).await;
    assert!(second > first);
    let completion = Completion::new(StoredValue::bytes("late"), span(DAY));
    let zombie = shop.store.complete(&key(), owner, completion).await.unwrap();
    assert_eq!(zombie, CompleteOutcome::Lost);
}
