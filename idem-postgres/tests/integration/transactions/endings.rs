//! Transactions that do not end with their completion.

use idem_core::{Effect, StoreError, StoreErrorKind, StoredValue};
use idem_postgres::{ReservationExt, Transaction, TransactionError};
use tokio_postgres::IsolationLevel;

use crate::support::{Shop, assert_without_effect, pay};

async fn fails(transaction: Transaction) -> StoreError {
    match transaction.complete(StoredValue::bytes("paid")).await {
        Err(TransactionError::Store(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_commit_in_the_users_sql_is_detected_and_the_next_attempt_is_2() {
    for sql in ["COMMIT", "COMMIT; BEGIN", "COMMIT AND CHAIN", "END"] {
        let shop = Shop::open().await;
        let transaction = shop.begun().await;
        pay(&transaction).await;
        transaction.batch_execute(sql).await.unwrap();
        let completed = transaction.complete(StoredValue::bytes("paid")).await;
        assert!(matches!(completed, Err(TransactionError::Ended)), "{sql}: {completed:?}");
        assert_eq!(shop.payments().await, 1);
        assert_eq!(shop.eventual_attempt().await, 2, "{sql}");
        assert_eq!(shop.open_transactions().await, 0);
    }
}

#[tokio::test]
async fn a_rollback_in_the_users_sql_is_detected() {
    for sql in ["ROLLBACK", "ROLLBACK; BEGIN", "ABORT"] {
        let shop = Shop::open().await;
        let transaction = shop.begun().await;
        pay(&transaction).await;
        transaction.batch_execute(sql).await.unwrap();
        let completed = transaction.complete(StoredValue::bytes("paid")).await;
        assert!(matches!(completed, Err(TransactionError::Ended)), "{sql}: {completed:?}");
        assert_eq!(shop.eventual_attempt().await, 2, "{sql}");
        assert_eq!(shop.payments().await, 0);
    }
}

#[tokio::test]
async fn savepoints_are_allowed() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    transaction.batch_execute("SAVEPOINT a").await.unwrap();
    pay(&transaction).await;
    transaction.batch_execute("ROLLBACK TO a").await.unwrap();
    pay(&transaction).await;
    transaction.batch_execute("SAVEPOINT b").await.unwrap();
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
}

#[tokio::test]
async fn after_a_failed_statement_nothing_is_committed_and_the_key_is_free() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    transaction.batch_execute("SELECT 1 / 0").await.unwrap_err();
    let error = fails(transaction).await;
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "roll it back");
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_constraint_that_fails_at_the_commit_rolls_back_and_frees_the_key() {
    let shop = Shop::open().await;
    let deferred = "ALTER TABLE payment ADD CONSTRAINT once UNIQUE (key) DEFERRABLE INITIALLY DEFERRED";
    shop.server.client().await.batch_execute(deferred).await.unwrap();
    let transaction = shop.begun().await;
    pay(&transaction).await;
    pay(&transaction).await;
    let error = fails(transaction).await;
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_serialization_failure_at_the_commit_rolls_back_and_frees_the_key() {
    let shop = Shop::open().await;
    let reservation = shop.reserved().await;
    let transaction =
        reservation.begin_transaction_at(&shop.store, IsolationLevel::Serializable).await.unwrap();
    transaction.query("SELECT count(*) FROM payment", &[]).await.unwrap();
    pay(&transaction).await;

    // A concurrent transaction did the same and committed first.
    let mut other = shop.server.client().await;
    let other =
        other.build_transaction().isolation_level(IsolationLevel::Serializable).start().await.unwrap();
    other.query("SELECT count(*) FROM payment", &[]).await.unwrap();
    other.execute("INSERT INTO payment (key) VALUES ('another')", &[]).await.unwrap();
    other.commit().await.unwrap();

    let error = fails(transaction).await;
    assert_without_effect(&error, StoreErrorKind::Unavailable, "40001");
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_killed_server_loses_the_effect_and_frees_the_key() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    shop.server.crash().await;
    let error = fails(transaction).await;
    assert_without_effect(&error, StoreErrorKind::Unavailable, "");
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_session_that_an_operator_ends_loses_the_effect() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    shop.server.client().await.batch_execute(end).await.unwrap();
    assert_eq!(fails(transaction).await.effect, Effect::NotApplied);
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}
