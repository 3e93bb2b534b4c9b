//! Misuse of a transaction that cannot be prevented.

use std::time::Duration;

use idem_core::{ReservationStore, StoreErrorKind, StoredValue};
use idem_postgres::{PostgresOptions, Statements, TransactionError};
use test_servers::postgres::Postgres;

use crate::support::{Shop, assert_without_effect, key, pay, store_error};

#[tokio::test]
async fn a_commit_in_the_users_sql_is_detected_when_the_answer_is_too_large() {
    let shop = Shop::open_with(PostgresOptions::new().max_answer_bytes(3)).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    transaction.batch_execute("COMMIT").await.unwrap();
    let completed = transaction.complete(StoredValue::bytes("too large")).await;
    assert!(matches!(completed, Err(TransactionError::Ended)), "{completed:?}");
    assert_eq!(shop.payments().await, 1);
    assert_eq!(shop.eventual_attempt().await, 2);
}

#[tokio::test]
async fn a_commit_in_the_users_sql_is_detected_when_a_later_statement_fails() {
    for sql in ["COMMIT; BEGIN", "COMMIT AND CHAIN"] {
        let shop = Shop::open().await;
        let transaction = shop.begun().await;
        pay(&transaction).await;
        transaction.batch_execute(sql).await.unwrap();
        transaction.batch_execute("SELECT 1 / 0").await.unwrap_err();
        let completed = transaction.complete(StoredValue::bytes("paid")).await;
        assert!(matches!(completed, Err(TransactionError::Ended)), "{sql}: {completed:?}");
        assert_eq!(shop.payments().await, 1);
        assert_eq!(shop.eventual_attempt().await, 2, "{sql}");
    }
}

#[tokio::test]
async fn a_commit_in_the_users_sql_is_not_silent_when_the_connection_is_then_lost() {
    let shop = Shop::open().await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    transaction.batch_execute("COMMIT").await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT'";
    shop.server.client().await.batch_execute(end).await.unwrap();
    transaction.complete(StoredValue::bytes("paid")).await.unwrap_err();
    assert_eq!(shop.payments().await, 1);
    assert_eq!(shop.eventual_attempt().await, 2);
}

#[tokio::test]
async fn a_prepared_transaction_does_not_count_as_rolled_back() {
    let server = Postgres::start_with(&["max_prepared_transactions=2"]).await;
    let shop = Shop::on(server, PostgresOptions::new()).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    transaction.batch_execute("PREPARE TRANSACTION 'theirs'").await.unwrap();
    let completed = transaction.complete(StoredValue::bytes("paid")).await;
    assert!(matches!(completed, Err(TransactionError::Ended)), "{completed:?}");
    assert_eq!(shop.next_attempt().await, None);
    shop.server.client().await.batch_execute("COMMIT PREPARED 'theirs'").await.unwrap();
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_commit_in_a_do_block_or_procedure_fails_and_commits_nothing() {
    let procedure = "CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'";
    for sql in ["DO 'BEGIN COMMIT; END'", "CALL commits()"] {
        let shop = Shop::open().await;
        shop.server.client().await.batch_execute(procedure).await.unwrap();
        let transaction = shop.begun().await;
        pay(&transaction).await;
        transaction.batch_execute(sql).await.unwrap_err();
        let error = store_error(transaction.complete(StoredValue::bytes("paid")).await);
        assert_without_effect(&error, StoreErrorKind::Misconfigured, "");
        assert_eq!(shop.payments().await, 0);
        assert_eq!(shop.eventual_attempt().await, 1);
    }
}

#[tokio::test]
async fn an_unfinished_copy_does_not_keep_the_key() {
    let shop =
        Shop::open_with(PostgresOptions::new().idle_in_transaction_timeout(Duration::from_millis(300))).await;
    let transaction = shop.begun().await;
    let sink = transaction.copy_in::<_, &'static [u8]>("COPY payment (key) FROM STDIN").await.unwrap();
    let error = store_error(transaction.complete(StoredValue::bytes("paid")).await);
    assert_without_effect(&error, StoreErrorKind::Timeout, "");
    assert_eq!(shop.eventual_attempt().await, 1);
    drop(sink);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_connection_that_breaks_during_a_statement_does_not_keep_the_key() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    let sleeping = transaction.batch_execute("SELECT pg_sleep(3600)");
    tokio::time::timeout(Duration::from_millis(50), sleeping).await.unwrap_err();
    proxy.cut();
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_connection_that_lost_its_prepared_statements_is_replaced() {
    let options = PostgresOptions::new().statements(Statements::Prepared).pool_size(1);
    let shop = Shop::open_with(options).await;
    assert!(shop.store.get(&key()).await.unwrap().is_none());
    let transaction = shop.begun().await;
    transaction.batch_execute("DEALLOCATE ALL").await.unwrap();
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    let error = shop.store.get(&key()).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "");
    shop.store.get(&key()).await.unwrap().unwrap();
}
