//! Commits that get lost on the network, or whose replies do.

use std::time::Duration;

use idem_core::{Admission, Effect, Engine, StoredValue};
use idem_postgres::{PostgresOptions, ReservationExt, TransactionError};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::{Shop, key, pay, payload, store_error};

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_found_to_be_committed() {
    // Also with a single connection: the broken one makes room for the query.
    for pool_size in [16, 1] {
        let (proxy, shop) = Shop::proxied(PostgresOptions::new().pool_size(pool_size)).await;
        let transaction = shop.begun().await;
        pay(&transaction).await;
        proxy.cut_when_request_contains(b"COMMIT");
        transaction.complete(StoredValue::bytes("paid")).await.unwrap();
        assert!(proxy.has_met_request());
        assert_eq!(shop.payments().await, 1);

        // A client that resends the request gets the answer, and there is no second effect.
        let again = shop.engine.reserve(&key(), &payload()).await.unwrap();
        assert!(matches!(again, Admission::Replayed(value) if value.body == "paid"));
        assert_eq!(shop.payments().await, 1);
    }
}

#[tokio::test]
async fn a_connection_cut_before_the_commit_leaves_no_effect_and_frees_the_key() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    // This is in the statement of the completion.
    proxy.cut_when_request_contains(b"idem_record_complete");
    let completed = transaction.complete(StoredValue::bytes("paid")).await;
    let error = store_error(completed);
    assert!(proxy.has_met_request());
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn recovery_waits_for_a_commit_that_is_still_running() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let (admin, completing) = committing(&shop).await;
    proxy.cut();
    // The recovery has to wait for the commit, and must not trust the row that it sees.
    let asking = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE%' AND query NOT LIKE '%pg_stat_activity%'";
    until_one(&admin, asking).await;
    admin.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    completing.await.unwrap().unwrap();
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
}

#[tokio::test]
async fn an_interrupted_commit_is_not_committed_and_frees_the_key() {
    let (_proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let (admin, completing) = committing(&shop).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT'";
    admin.batch_execute(end).await.unwrap();
    let completed = completing.await.unwrap();
    let error = store_error(completed);
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

/// A commit that waits, in a constraint trigger, for a lock that the returned connection holds.
async fn committing(shop: &Shop) -> (Client, JoinHandle<Result<(), TransactionError>>) {
    let admin = shop.server.client().await;
    admin.batch_execute(include_str!("slow_commit.sql")).await.unwrap();
    let transaction = shop.begun().await;
    pay(&transaction).await;
    let completing = tokio::spawn(transaction.complete(StoredValue::bytes("paid")));
    until_one(
        &admin,
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'advisory'",
    )
    .await;
    (admin, completing)
}

async fn until_one(admin: &Client, count: &str) {
    while admin.query_one(count, &[]).await.unwrap().get::<_, i64>(0) != 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_found_when_its_answer_has_expired() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let engine = Engine::builder(shop.store.clone()).retention(Duration::from_micros(1)).build().unwrap();
    let Admission::Granted(reservation) = engine.reserve(&key(), &payload()).await.unwrap() else { panic!() };
    let transaction = reservation.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    proxy.cut_when_request_contains(b"COMMIT");
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert!(proxy.has_met_request());
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_commit_whose_record_is_gone_has_an_unknown_effect() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    // The server cannot be reached until the record was deleted, as an operator might do.
    proxy.cut_when_request_contains(b"COMMIT");
    proxy.refuse(true);
    let completing = tokio::spawn(transaction.complete(StoredValue::bytes("paid")));
    while shop.payments().await == 0 {
        tokio::task::yield_now().await;
    }
    shop.server.client().await.batch_execute("DELETE FROM idem_record").await.unwrap();
    proxy.refuse(false);
    let completed = completing.await.unwrap();
    let error = store_error(completed);
    assert_eq!(error.effect, Effect::Unknown);
}

#[tokio::test]
async fn a_lost_reply_is_recovered_with_the_longest_idle_timeout() {
    let (proxy, shop) =
        Shop::proxied(PostgresOptions::new().idle_in_transaction_timeout(Duration::MAX)).await;
    let transaction = shop.begun().await;
    pay(&transaction).await;
    proxy.cut_when_request_contains(b"COMMIT");
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert_eq!(shop.payments().await, 1);
}
