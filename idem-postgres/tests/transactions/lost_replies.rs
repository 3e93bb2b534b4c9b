//! Commits whose replies, or which themselves, get lost on their way.

use std::time::Duration;

use idem_core::{Admission, Effect, Engine, StoredValue};
use idem_postgres::{Options, ReservationExt, TransactionError};
use test_servers::Proxy;
use test_servers::postgres::Postgres;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::{Shop, key, pay, payload};

async fn shop(proxied: Options) -> (Proxy, Shop) {
    let server = Postgres::start().await;
    let proxy = Proxy::start(server.address()).await;
    let shop = Shop::through(server, proxy.address(), proxied).await;
    (proxy, shop)
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_found_to_be_committed() {
    // With one connection, too: the broken one makes room for the question.
    for pool_size in [16, 1] {
        let (proxy, shop) = shop(Options::new().pool_size(pool_size)).await;
        let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
        pay(&transaction).await;
        proxy.cut_when_request_contains(b"COMMIT");
        transaction.complete(StoredValue::bytes("paid")).await.unwrap();
        assert!(proxy.has_met_request());
        assert_eq!(shop.payments().await, 1);

        // Who sends the whole request again gets the answer, and no second effect.
        let again = shop.engine.reserve(&key(), &payload()).await.unwrap();
        assert!(matches!(again, Admission::Replayed(response) if response.body == "paid"));
        assert_eq!(shop.payments().await, 1);
    }
}

#[tokio::test]
async fn a_link_that_is_cut_before_the_commit_leaves_nothing_and_frees_the_key() {
    let (proxy, shop) = shop(Options::new()).await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    // It stands in the statement of the completion.
    proxy.cut_when_request_contains(b"idem_record_complete");
    let completed = transaction.complete(StoredValue::bytes("paid")).await;
    let Err(TransactionError::Store(error)) = completed else { panic!("{completed:?}") };
    assert!(proxy.has_met_request());
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn while_a_commit_is_under_way_its_outcome_is_waited_for() {
    let (proxy, shop) = shop(Options::new()).await;
    let (admin, completing) = committing(&shop).await;
    proxy.cut();
    // Whoever asks now has to wait for the commit, and not believe the row that it sees.
    let asking = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE%' AND query NOT LIKE '%pg_stat_activity%'";
    until_one(&admin, asking).await;
    admin.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    completing.await.unwrap().unwrap();
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
}

#[tokio::test]
async fn a_commit_that_was_ended_in_its_midst_is_found_not_to_be_committed_and_frees_the_key() {
    let (_proxy, shop) = shop(Options::new()).await;
    let (admin, completing) = committing(&shop).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT'";
    admin.batch_execute(end).await.unwrap();
    let completed = completing.await.unwrap();
    let Err(TransactionError::Store(error)) = completed else { panic!("{completed:?}") };
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

/// A commit that waits, in a constraint's trigger, for a lock that the returned connection has.
async fn committing(shop: &Shop) -> (Client, JoinHandle<Result<(), TransactionError>>) {
    let admin = shop.server.client().await;
    admin.batch_execute(include_str!("slow_commit.sql")).await.unwrap();
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
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
async fn a_commit_whose_reply_is_lost_is_found_also_when_its_answer_has_expired_meanwhile() {
    let (proxy, shop) = shop(Options::new()).await;
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
async fn a_commit_whose_record_is_gone_is_not_said_to_be_lost() {
    let (proxy, shop) = shop(Options::new()).await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    // Nobody can ask until the record was removed, as an operator may do.
    proxy.cut_when_request_contains(b"COMMIT");
    proxy.refuse(true);
    let completing = tokio::spawn(transaction.complete(StoredValue::bytes("paid")));
    while shop.payments().await == 0 {
        tokio::task::yield_now().await;
    }
    shop.server.client().await.batch_execute("DELETE FROM idem_record").await.unwrap();
    proxy.refuse(false);
    let completed = completing.await.unwrap();
    let Err(TransactionError::Store(error)) = completed else { panic!("{completed:?}") };
    assert_eq!(error.effect, Effect::Unknown);
}

#[tokio::test]
async fn the_longest_patience_is_no_hindrance_to_a_lost_reply() {
    let (proxy, shop) = shop(Options::new().idle_in_transaction_timeout(Duration::MAX)).await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    proxy.cut_when_request_contains(b"COMMIT");
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert_eq!(shop.payments().await, 1);
}
