//! What users do to a transaction that they should not, and what cannot be kept from them.

use std::time::Duration;

use idem_core::{Effect, ReservationStore, StoreErrorKind, StoredValue};
use idem_postgres::{Options, ReservationExt, Statements, Transaction, TransactionError};
use test_servers::Proxy;
use test_servers::postgres::Postgres;

use crate::support::{Shop, key, pay};

async fn begun(shop: &Shop) -> Transaction {
    shop.reserved().await.begin_transaction(&shop.store).await.unwrap()
}

#[tokio::test]
async fn a_commit_in_the_users_sql_is_noticed_also_where_the_completion_fails_before() {
    let shop = Shop::on(Postgres::start().await, Options::new().max_answer_bytes(3)).await;
    let transaction = begun(&shop).await;
    pay(&transaction).await;
    transaction.batch_execute("COMMIT").await.unwrap();
    let completed = transaction.complete(StoredValue::bytes("too large")).await;
    assert!(matches!(completed, Err(TransactionError::Ended)), "{completed:?}");
    assert_eq!(shop.payments().await, 1);
    assert_eq!(shop.eventual_attempt().await, 2);
}

#[tokio::test]
async fn a_commit_in_the_users_sql_is_noticed_also_where_a_statement_fails_after_it() {
    for sql in ["COMMIT; BEGIN", "COMMIT AND CHAIN"] {
        let shop = Shop::open().await;
        let transaction = begun(&shop).await;
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
async fn a_commit_in_the_users_sql_is_never_silent_though_the_connection_is_lost_after_it() {
    let shop = Shop::open().await;
    let transaction = begun(&shop).await;
    pay(&transaction).await;
    transaction.batch_execute("COMMIT").await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT'";
    shop.server.client().await.batch_execute(end).await.unwrap();
    transaction.complete(StoredValue::bytes("paid")).await.unwrap_err();
    assert_eq!(shop.payments().await, 1);
    assert_eq!(shop.eventual_attempt().await, 2);
}

#[tokio::test]
async fn a_transaction_that_its_user_prepares_for_two_phases_is_not_said_to_be_rolled_back() {
    let server = Postgres::start_with(&["max_prepared_transactions=2"]).await;
    let shop = Shop::on(server, Options::new()).await;
    let transaction = begun(&shop).await;
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
async fn a_commit_in_a_block_or_a_procedure_is_refused_by_the_server_and_nothing_is_committed() {
    let procedure = "CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'";
    for sql in ["DO 'BEGIN COMMIT; END'", "CALL commits()"] {
        let shop = Shop::open().await;
        shop.server.client().await.batch_execute(procedure).await.unwrap();
        let transaction = begun(&shop).await;
        pay(&transaction).await;
        transaction.batch_execute(sql).await.unwrap_err();
        let Err(TransactionError::Store(error)) = transaction.complete(StoredValue::bytes("paid")).await
        else {
            panic!()
        };
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied));
        assert_eq!(shop.payments().await, 0);
        assert_eq!(shop.eventual_attempt().await, 1);
    }
}

#[tokio::test]
async fn a_copy_that_is_not_finished_does_not_keep_the_key() {
    let shop = Shop::on(
        Postgres::start().await,
        Options::new().idle_in_transaction_timeout(Duration::from_millis(300)),
    )
    .await;
    let transaction = begun(&shop).await;
    let sink = transaction.copy_in::<_, &'static [u8]>("COPY payment (key) FROM STDIN").await.unwrap();
    let Err(TransactionError::Store(error)) = transaction.complete(StoredValue::bytes("paid")).await else {
        panic!()
    };
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::NotApplied));
    assert_eq!(shop.eventual_attempt().await, 1);
    drop(sink);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_link_that_breaks_under_a_running_statement_does_not_keep_the_key() {
    let server = Postgres::start().await;
    let proxy = Proxy::start(server.address()).await;
    let shop = Shop::through(server, proxy.address(), Options::new()).await;
    let transaction = begun(&shop).await;
    pay(&transaction).await;
    let sleeping = transaction.batch_execute("SELECT pg_sleep(3600)");
    tokio::time::timeout(Duration::from_millis(50), sleeping).await.unwrap_err();
    proxy.cut();
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_connection_whose_prepared_statements_its_user_has_thrown_away_is_not_used_for_long() {
    let options = Options::new().statements(Statements::Prepared).pool_size(1);
    let shop = Shop::on(Postgres::start().await, options).await;
    assert!(shop.store.get(&key()).await.unwrap().is_none());
    let transaction = begun(&shop).await;
    transaction.batch_execute("DEALLOCATE ALL").await.unwrap();
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    let error = shop.store.get(&key()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied));
    shop.store.get(&key()).await.unwrap().unwrap();
}
