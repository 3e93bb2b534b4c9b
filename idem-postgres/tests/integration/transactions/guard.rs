//! The guard: what it commits, and what dropping it does.

use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{
    Admission, CompleteOutcome, Engine, Key, ReleaseOutcome, RenewOutcome, ReservationStore, StoreErrorKind,
    StoredValue,
};
use idem_postgres::{PostgresOptions, PostgresStore, ReservationExt, Statements, TransactionError};
use test_servers::postgres::{PgBouncer, Postgres};
use tokio_postgres::IsolationLevel;

use crate::support::{Shop, assert_without_effect, completion, key, pay, payload, request, store_error};

#[tokio::test]
async fn effect_and_completion_commit_together() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    assert_eq!(shop.payments().await, 0);
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
    assert_eq!(shop.open_transactions().await, 0);
}

#[tokio::test]
async fn they_commit_together_behind_a_pooler_and_with_prepared_statements() {
    let server = Postgres::start().await;
    let pgbouncer = PgBouncer::start(&server).await;
    let through = pgbouncer.url();
    let shop = Shop::on(server, PostgresOptions::new().statements(Statements::Prepared)).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert!(shop.is_replayed("paid").await);

    let store = PostgresStore::connect(&through).await.unwrap();
    let engine = Engine::builder(store.clone()).build().unwrap();
    let other = Key::new("payments", "43").unwrap();
    let Admission::Granted(reservation) = engine.reserve(&other, &payload()).await.unwrap() else { panic!() };
    let transaction = reservation.begin_transaction(&store).await.unwrap();
    transaction.batch_execute("INSERT INTO payment (key) VALUES ('43')").await.unwrap();
    transaction.complete(StoredValue::bytes("paid, too")).await.unwrap();
    let again = engine.reserve(&other, &payload()).await.unwrap();
    assert!(matches!(again, Admission::Replayed(value) if value.body == "paid, too"));
    assert_eq!(shop.payments().await, 2);
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_and_the_next_attempt_is_2() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!((shop.payments().await, shop.open_transactions().await), (0, 0));
}

#[tokio::test]
async fn a_rollback_returns_the_reservation() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    let reservation = transaction.rollback().await;
    assert_eq!((shop.payments().await, shop.open_transactions().await), (0, 0));

    // The reservation can begin another transaction.
    let transaction = reservation.begin_transaction(&shop.store).await.unwrap();
    let reservation = transaction.rollback().await;
    assert_eq!(reservation.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(shop.next_attempt().await, Some(1));
}

#[tokio::test]
async fn a_completion_continues_when_its_future_is_dropped() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    drop(transaction.complete(StoredValue::bytes("paid")));
    while !shop.is_replayed("paid").await {
        tokio::task::yield_now().await;
    }
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_statement_whose_future_was_dropped_does_not_keep_the_key() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    let sleeping = transaction.batch_execute("SELECT pg_sleep(3600)");
    tokio::time::timeout(Duration::from_millis(50), sleeping).await.unwrap_err();
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn the_heartbeat_of_an_open_transaction_pauses_and_keeps_the_key() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    let renewed = transaction.reservation().renew().await.unwrap();
    assert!(matches!(renewed, RenewOutcome::Renewed { .. }), "{renewed:?}");
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_too_large_rolls_back_and_frees_the_key() {
    let shop = Shop::open_with(PostgresOptions::new().max_answer_bytes(3)).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    let error = store_error(transaction.complete(StoredValue::bytes("paid")).await);
    assert_without_effect(&error, StoreErrorKind::TooLarge, "");
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn without_a_connection_no_transaction_begins_and_the_key_is_free() {
    let options = PostgresOptions::new().pool_size(1).pool_timeout(Duration::from_millis(500));
    let shop = Shop::open_with(options).await;
    let reservation = shop.reserved().await;
    let all = shop.store.pool().get().await.unwrap();
    let error = store_error(reservation.begin_transaction(&shop.store).await);
    assert_without_effect(&error, StoreErrorKind::Timeout, "pool_size");
    drop(all);
    assert_eq!(shop.eventual_attempt().await, 1);
}

#[tokio::test]
async fn a_transaction_for_a_completed_key_is_refused() {
    let shop = Shop::open().await;
    let reservation = shop.reserved().await;
    let completion = completion("first");
    let done =
        ReservationStore::complete(&shop.store, &key(), idem_core::backend::owner(&reservation), completion)
            .await;
    assert_eq!(done.unwrap(), CompleteOutcome::Completed);
    let begun = reservation.begin_transaction(&shop.store).await;
    assert!(matches!(begun, Err(TransactionError::AlreadyCompleted)), "{begun:?}");
    assert!(shop.is_replayed("first").await);
    assert_eq!(shop.open_transactions().await, 0);
}

#[tokio::test]
async fn a_cancelled_begin_leaves_no_transaction_and_frees_the_key() {
    for statements in [Statements::Unnamed, Statements::Prepared] {
        let shop = Shop::open_with(PostgresOptions::new().statements(statements)).await;
        let mut has_begun = false;
        for polls in 1..200 {
            let reservation = shop.reserved().await;
            let mut beginning = Box::pin(reservation.begin_transaction(&shop.store));
            for _ in 0..polls {
                let poll = std::future::poll_fn(|context| {
                    std::task::Poll::Ready(beginning.as_mut().poll(context).is_ready())
                });
                has_begun = poll.await;
                if has_begun {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(beginning);
            let release = async {
                loop {
                    let owner = OwnerToken::random();
                    let request = request(owner);
                    let outcome = ReservationStore::reserve(&shop.store, &key(), request).await.unwrap();
                    if matches!(outcome, ReserveOutcome::Reserved { .. }) {
                        let released = ReservationStore::release(&shop.store, &key(), owner).await;
                        break released.unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            assert_eq!(release.await, ReleaseOutcome::Released);
            shop.until_no_transaction_is_open().await;
            if has_begun {
                break;
            }
        }
        assert!(has_begun);
    }
}

/// A standby refuses this level. A statement that was already sent would run outside of any transaction, and behind a pooler
/// perhaps for another client.
#[tokio::test]
async fn at_serializable_nothing_is_sent_before_begin_is_answered() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let reservation = shop.reserved().await;
    // A session that wants the record's lock has to wait, which is visible.
    let operator = shop.server.client().await;
    operator.batch_execute("BEGIN; SELECT FROM idem_record FOR UPDATE").await.unwrap();
    proxy.hold_replies(true);
    let store = shop.store.clone();
    let beginning = tokio::spawn(async move {
        reservation.begin_transaction_at(&store, IsolationLevel::Serializable).await.map(drop)
    });
    // Either BEGIN is done and not answered, or the lock was requested too early.
    let reached = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        OR state = 'idle in transaction' AND query LIKE 'BEGIN ISOLATION LEVEL SERIALIZABLE%'";
    let client = shop.server.client().await;
    let query: String = loop {
        if let Some(row) = client.query_opt(reached, &[]).await.unwrap() {
            break row.get(0);
        }
    };
    assert!(query.starts_with("BEGIN"), "{query}");
    operator.batch_execute("COMMIT").await.unwrap();
    proxy.hold_replies(false);
    beginning.await.unwrap().unwrap();
}
