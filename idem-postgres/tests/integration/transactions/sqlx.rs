//! The same guard, and `complete_in`, over sqlx.

use std::time::Duration;

use idem_core::store::OwnerToken;
use idem_core::{CompleteOutcome, StoreErrorKind, StoredValue};
use idem_postgres::sqlx::{ReservationExt, Transaction};
use idem_postgres::{PostgresOptions, TransactionError};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, Executor, PgPool};
use test_servers::Proxy;
use test_servers::postgres::Postgres;

use crate::support::{Shop, assert_without_effect, completion, key, store_error, url_of};

async fn shop() -> (Shop, PgPool) {
    let shop = Shop::open().await;
    let pool = pool(&shop.server.url()).await;
    (shop, pool)
}

async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(1))
        .connect(url)
        .await
        .unwrap()
}

async fn begun(shop: &Shop, pool: &PgPool) -> Transaction {
    shop.reserved().await.begin_sqlx_transaction(&shop.store, pool).await.unwrap()
}

async fn pay(transaction: &mut Transaction) {
    sqlx::query("INSERT INTO payment (key) VALUES ($1)")
        .bind("42")
        .execute(&mut **transaction)
        .await
        .unwrap();
}

#[tokio::test]
async fn effect_and_completion_commit_together() {
    let (shop, pool) = shop().await;
    let mut transaction = begun(&shop, &pool).await;
    pay(&mut transaction).await;
    assert_eq!(shop.payments().await, 0);
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
    // The connection can be used again.
    let mut connection = pool.acquire().await.unwrap();
    assert!(!connection.is_in_transaction());
    connection.begin().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_and_the_next_attempt_is_2() {
    let (shop, pool) = shop().await;
    let mut transaction = begun(&shop, &pool).await;
    pay(&mut transaction).await;
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_rollback_returns_the_reservation() {
    let (shop, pool) = shop().await;
    let mut transaction = begun(&shop, &pool).await;
    pay(&mut transaction).await;
    let reservation = transaction.rollback().await;
    assert_eq!((shop.payments().await, shop.open_transactions().await), (0, 0));
    reservation.release().await.map(drop).unwrap();
    assert_eq!(shop.next_attempt().await, Some(1));
}

#[tokio::test]
async fn a_statement_whose_future_was_dropped_does_not_keep_the_key() {
    let (shop, pool) = shop().await;
    let mut transaction = begun(&shop, &pool).await;
    pay(&mut transaction).await;
    let sleeping = transaction.execute("SELECT pg_sleep(3600)");
    tokio::time::timeout(Duration::from_millis(50), sleeping).await.unwrap_err();
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_commit_in_the_users_sql_is_detected_and_the_next_attempt_is_2() {
    for sql in ["COMMIT", "COMMIT; BEGIN", "ROLLBACK"] {
        let (shop, pool) = shop().await;
        let mut transaction = begun(&shop, &pool).await;
        pay(&mut transaction).await;
        transaction.execute(sqlx::raw_sql(sql)).await.unwrap();
        let completed = transaction.complete(StoredValue::bytes("paid")).await;
        assert!(matches!(completed, Err(TransactionError::Ended)), "{sql}: {completed:?}");
        assert_eq!(shop.eventual_attempt().await, 2, "{sql}");
        assert_eq!(shop.open_transactions().await, 0, "{sql}");
    }
}

#[tokio::test]
async fn a_commit_in_the_users_sql_is_detected_when_a_later_statement_fails() {
    for sql in ["COMMIT; BEGIN", "COMMIT AND CHAIN"] {
        let (shop, pool) = shop().await;
        let mut transaction = begun(&shop, &pool).await;
        pay(&mut transaction).await;
        transaction.execute(sqlx::raw_sql(sql)).await.unwrap();
        transaction.execute("SELECT 1 / 0").await.unwrap_err();
        let completed = transaction.complete(StoredValue::bytes("paid")).await;
        assert!(matches!(completed, Err(TransactionError::Ended)), "{sql}: {completed:?}");
        assert_eq!(shop.payments().await, 1, "{sql}");
        assert_eq!(shop.eventual_attempt().await, 2, "{sql}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_during_a_statement_does_not_keep_the_key() {
    let server = Postgres::start().await;
    let proxy = Proxy::start(server.address()).await;
    let pool = pool(&url_of(proxy.address())).await;
    let shop = Shop::on(server, PostgresOptions::new()).await;
    let mut transaction = begun(&shop, &pool).await;
    pay(&mut transaction).await;
    let sleeping = transaction.execute("SELECT pg_sleep(3600)");
    tokio::time::timeout(Duration::from_millis(50), sleeping).await.unwrap_err();
    proxy.cut();
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn a_nested_transaction_is_a_savepoint() {
    let (shop, pool) = shop().await;
    let mut transaction = begun(&shop, &pool).await;
    pay(&mut transaction).await;
    let mut nested = transaction.begin().await.unwrap();
    nested.execute("INSERT INTO payment (key) VALUES ('43')").await.unwrap();
    nested.rollback().await.unwrap();
    transaction.begin().await.unwrap().commit().await.unwrap();
    // A dropped savepoint is rolled back with the next statement.
    drop(transaction.begin().await.unwrap());
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
}

#[tokio::test]
async fn an_open_savepoint_is_not_released_in_place_of_the_commit() {
    let (shop, pool) = shop().await;
    let mut transaction = begun(&shop, &pool).await;
    pay(&mut transaction).await;
    std::mem::forget(transaction.begin().await.unwrap());
    let completed = transaction.complete(StoredValue::bytes("paid")).await;
    let error = store_error(completed);
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "");
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
    shop.until_no_transaction_is_open().await;
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_found_to_be_committed() {
    let server = Postgres::start().await;
    let proxy = Proxy::start(server.address()).await;
    let pool = pool(&url_of(proxy.address())).await;
    let shop = Shop::on(server, PostgresOptions::new()).await;
    let mut transaction = begun(&shop, &pool).await;
    pay(&mut transaction).await;
    proxy.cut_when_request_contains(b"COMMIT");
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert!(proxy.has_met_request());
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
}

#[tokio::test]
async fn a_cancelled_begin_leaves_no_transaction_in_the_pool() {
    for polls in 0..40 {
        let (shop, pool) = shop().await;
        let reservation = shop.reserved().await;
        let mut beginning = Box::pin(reservation.begin_sqlx_transaction(&shop.store, &pool));
        for _ in 0..polls {
            if is_ready(beginning.as_mut()).await {
                break;
            }
        }
        drop(beginning);
        shop.eventual_attempt().await;
        shop.until_no_transaction_is_open().await;
        if polls > 8 {
            break;
        }
    }
}

/// Polls once, and says whether the future was ready.
async fn is_ready<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

#[tokio::test]
async fn without_a_connection_no_transaction_begins_and_the_key_is_free() {
    let (shop, pool) = shop().await;
    let _all = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let reservation = shop.reserved().await;
    let begun = reservation.begin_sqlx_transaction(&shop.store, &pool).await;
    let error = store_error(begun);
    assert_without_effect(&error, StoreErrorKind::Timeout, "");
    assert_eq!(shop.eventual_attempt().await, 1);
}

#[tokio::test]
async fn complete_in_writes_in_the_callers_transaction() {
    let begin = "BEGIN ISOLATION LEVEL";
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let (shop, pool) = shop().await;
        let reservation = shop.reserved().await;
        let sql = sqlx::AssertSqlSafe(format!("{begin} {level}"));
        let mut transaction = pool.begin_with(sql).await.unwrap();
        let (store, owner) = (&shop.store, idem_core::backend::owner(&reservation));
        let zombie =
            store.complete_in_sqlx(&mut transaction, &key(), OwnerToken::random(), completion("paid")).await;
        assert_eq!(zombie.unwrap(), CompleteOutcome::Lost);
        let done = store.complete_in_sqlx(&mut transaction, &key(), owner, completion("paid")).await;
        assert_eq!(done.unwrap(), CompleteOutcome::Completed);
        let other = store.complete_in_sqlx(&mut transaction, &key(), owner, completion("other")).await;
        assert_eq!(other.unwrap(), CompleteOutcome::AnswerConflict);
        transaction.commit().await.unwrap();
        idem_core::backend::mark_committed(reservation, &StoredValue::bytes("paid").into());
        assert!(shop.is_replayed("paid").await);
    }
}

#[tokio::test]
async fn complete_in_says_why_a_transaction_is_refused() {
    let cases = [
        ("BEGIN READ ONLY", "SELECT 1", "read-only"),
        ("BEGIN", "SELECT 1 / 0", "roll it back"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1", "begin it after the reservation"),
    ];
    for (begin, first, says) in cases {
        let (shop, pool) = shop().await;
        let mut transaction = pool.begin_with(begin).await.unwrap();
        let _ = transaction.execute(first).await;
        let reservation = shop.reserved().await;
        let (key, owner) = (key(), idem_core::backend::owner(&reservation));
        let refused = shop.store.complete_in_sqlx(&mut transaction, &key, owner, completion("paid")).await;
        let error = refused.unwrap_err();
        assert_without_effect(&error, StoreErrorKind::Misconfigured, says);
    }
}
