//! Owners whose lease is over: inside of their transaction, and before it.

use idem_conformance::span;
use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{Effect, ReservationStore, StoredValue};
use idem_postgres::{Options, ReservationExt, TransactionError};
use test_servers::postgres::Postgres;

use crate::support::{LEASE, Shop, key, pay, payload};

async fn shop(options: Options) -> Shop {
    Shop::on(Postgres::start_with_clock().await, options).await
}

#[tokio::test]
async fn nobody_takes_the_key_of_a_transaction_that_is_open_past_its_lease() {
    let shop = shop(Options::new()).await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    shop.server.clock().forward(LEASE * 2);
    let challenger = ReserveRequest::new(OwnerToken::random(), payload(), span(LEASE));
    match shop.store.reserve(&key(), challenger).await.unwrap() {
        ReserveOutcome::InFlight { attempt: 1, lease_left } => {
            assert!(!lease_left.is_zero() && lease_left <= LEASE);
        }
        other => panic!("{other:?}"),
    }
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert!(shop.is_replayed("paid").await);
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_zombie_that_lost_its_key_does_not_begin() {
    let shop = shop(Options::new()).await;
    let zombie = shop.reserved().await;
    shop.server.clock().forward(LEASE * 2);
    assert_eq!(shop.next_attempt().await, Some(2));
    let begun = zombie.begin_transaction(&shop.store).await;
    assert!(matches!(begun, Err(TransactionError::Lost)), "{begun:?}");
    assert_eq!(shop.open_transactions().await, 0);
}

#[tokio::test]
async fn an_owner_whose_lease_is_over_and_whose_key_nobody_took_completes() {
    let shop = shop(Options::new()).await;
    let late = shop.reserved().await;
    shop.server.clock().forward(LEASE * 2);
    let transaction = late.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert!(shop.is_replayed("paid").await);
}

#[tokio::test]
async fn a_record_that_expires_inside_of_its_transaction_is_lost_and_its_effect_rolled_back() {
    let shop = shop(Options::new()).await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    shop.server.clock().forward(Duration::from_secs(365 * 24 * 3600));
    // It is locked, so that it is neither swept nor taken.
    assert_eq!(shop.store.sweep(10).await.unwrap(), 0);
    assert_eq!(shop.next_attempt().await, None);
    let completed = transaction.complete(StoredValue::bytes("paid")).await;
    assert!(matches!(completed, Err(TransactionError::Lost)), "{completed:?}");
    assert_eq!(shop.payments().await, 0);
    assert_eq!(shop.eventual_attempt().await, 1);
}

#[tokio::test]
async fn the_key_of_a_client_that_vanished_inside_of_its_transaction_becomes_free() {
    let options = Options::new().idle_in_transaction_timeout(Duration::from_millis(100));
    let shop = shop(options).await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    // It says nothing any more; its connection stays. The server ends it.
    shop.until_no_transaction_is_open().await;
    shop.server.clock().forward(LEASE * 2);
    assert_eq!(shop.eventual_attempt().await, 2);
    let Err(TransactionError::Store(error)) = transaction.complete(StoredValue::bytes("paid")).await else {
        panic!()
    };
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_heartbeat_that_finds_the_record_locked_by_its_owner_is_still_the_owners() {
    let shop = shop(Options::new()).await;
    let reservation = shop.reserved().await;
    let mut client = shop.server.client().await;
    let locking = client.transaction().await.unwrap();
    locking.execute("SELECT FROM idem_record FOR UPDATE", &[]).await.unwrap();
    let renewed =
        shop.store.renew(&key(), idem_core::backend::owner(&reservation), span(LEASE)).await.unwrap();
    match renewed {
        // Nothing was extended, and nothing is promised.
        idem_core::RenewOutcome::Renewed { lease_left } => assert!(lease_left < LEASE),
        other => panic!("{other:?}"),
    }
    shop.server.clock().forward(LEASE * 2);
    let renewed =
        shop.store.renew(&key(), idem_core::backend::owner(&reservation), span(LEASE)).await.unwrap();
    assert_eq!(renewed, idem_core::RenewOutcome::Renewed { lease_left: Duration::ZERO });
}

#[tokio::test]
async fn the_key_of_a_client_that_vanished_in_the_midst_of_a_statement_becomes_free() {
    let shop = shop(Options::new()).await;
    let url = shop.server.url();
    // A process of its own, as far as the server can see: whatever it was about to do, it does not.
    let client = tokio::task::spawn_blocking(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = idem_postgres::PostgresStore::connect(&url).await.unwrap();
            let engine = idem_core::Engine::builder(store.clone()).lease(LEASE).build().unwrap();
            let reserved = engine.reserve(&key(), &payload()).await.unwrap();
            let idem_core::Admission::Granted(reservation) = reserved else { panic!("{reserved:?}") };
            let transaction = reservation.begin_transaction(&store).await.unwrap();
            pay(&transaction).await;
            let sleeping = transaction.batch_execute("SELECT pg_sleep(3600)");
            tokio::time::timeout(Duration::from_millis(50), sleeping).await.unwrap_err();
            std::mem::forget(transaction);
        });
        runtime.shutdown_background();
    });
    client.await.unwrap();
    shop.server.clock().forward(LEASE * 2);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 0);
}
