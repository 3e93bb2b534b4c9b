//! Owners whose lease ends before or during their transaction.

use std::time::Duration;

use idem_conformance::span;
use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{Admission, Effect, Engine, RenewOutcome, ReservationStore, StoredValue};
use idem_postgres::{PostgresOptions, PostgresStore, ReservationExt, TransactionError};
use test_servers::postgres::Postgres;

use crate::support::{LEASE, Shop, key, pay, payload, request, store_error};

#[tokio::test]
async fn nobody_takes_the_key_of_an_open_transaction_after_its_lease() {
    let shop = Shop::with_clock().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    shop.server.clock().forward(LEASE * 2);
    let challenger = request(OwnerToken::random());
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
async fn a_zombie_that_lost_its_key_cannot_begin_a_transaction() {
    let shop = Shop::with_clock().await;
    let zombie = shop.reserved().await;
    shop.server.clock().forward(LEASE * 2);
    assert_eq!(shop.next_attempt().await, Some(2));
    let begun = zombie.begin_transaction(&shop.store).await;
    assert!(matches!(begun, Err(TransactionError::Lost)), "{begun:?}");
    assert_eq!(shop.open_transactions().await, 0);
}

#[tokio::test]
async fn an_owner_whose_lease_is_over_completes_if_nobody_took_its_key() {
    let shop = Shop::with_clock().await;
    let late = shop.reserved().await;
    shop.server.clock().forward(LEASE * 2);
    let transaction = late.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert!(shop.is_replayed("paid").await);
}

#[tokio::test]
async fn a_record_that_expires_during_its_transaction_is_lost_and_rolled_back() {
    let shop = Shop::with_clock().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    shop.server.clock().forward(Duration::from_secs(365 * 24 * 3600));
    // The record is locked, so that it is neither swept nor taken over.
    assert_eq!(shop.store.sweep(10).await.unwrap(), 0);
    assert_eq!(shop.next_attempt().await, None);
    let completed = transaction.complete(StoredValue::bytes("paid")).await;
    assert!(matches!(completed, Err(TransactionError::Lost)), "{completed:?}");
    assert_eq!(shop.payments().await, 0);
    assert_eq!(shop.eventual_attempt().await, 1);
}

#[tokio::test]
async fn the_key_of_a_client_that_vanished_in_its_transaction_becomes_free() {
    let options = PostgresOptions::new().idle_in_transaction_timeout(Duration::from_millis(100));
    let shop = Shop::on(Postgres::start_with_clock().await, options).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    // The client is silent and stays connected. The server ends the session.
    shop.until_no_transaction_is_open().await;
    shop.server.clock().forward(LEASE * 2);
    assert_eq!(shop.eventual_attempt().await, 2);
    let error = store_error(transaction.complete(StoredValue::bytes("paid")).await);
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_heartbeat_that_finds_the_record_locked_keeps_the_key() {
    let shop = Shop::with_clock().await;
    let reservation = shop.reserved().await;
    let mut client = shop.server.client().await;
    let locking = client.transaction().await.unwrap();
    locking.execute("SELECT FROM idem_record FOR UPDATE", &[]).await.unwrap();
    let renewed =
        shop.store.renew(&key(), idem_core::backend::owner(&reservation), span(LEASE)).await.unwrap();
    match renewed {
        // Nothing was extended.
        RenewOutcome::Renewed { lease_left } => assert!(lease_left < LEASE),
        other => panic!("{other:?}"),
    }
    shop.server.clock().forward(LEASE * 2);
    let renewed =
        shop.store.renew(&key(), idem_core::backend::owner(&reservation), span(LEASE)).await.unwrap();
    assert_eq!(renewed, RenewOutcome::Renewed { lease_left: Duration::ZERO });
}

#[tokio::test]
async fn the_key_of_a_client_that_vanished_during_a_statement_becomes_free() {
    let shop = Shop::with_clock().await;
    let url = shop.server.url();
    // A runtime that ends stands for a process that is killed.
    let client = tokio::task::spawn_blocking(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = PostgresStore::connect(&url).await.unwrap();
            let engine = Engine::builder(store.clone()).lease(LEASE).build().unwrap();
            let reserved = engine.reserve(&key(), &payload()).await.unwrap();
            let Admission::Granted(reservation) = reserved else { panic!("{reserved:?}") };
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
