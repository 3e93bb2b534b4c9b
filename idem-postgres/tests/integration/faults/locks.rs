//! Rows that another session has locked, and timeouts for the wait.

use idem_conformance::span;
use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{ReservationStore, StoreErrorKind};
use idem_postgres::{PostgresOptions, PostgresStore};
use test_servers::postgres::Postgres;
use tokio_postgres::{Client, IsolationLevel};

use crate::support::{LEASE, Shop, assert_without_effect, completion, key, request};

async fn locked(client: &mut Client) -> tokio_postgres::Transaction<'_> {
    let transaction = client.transaction().await.unwrap();
    transaction.execute("SELECT FROM idem_record FOR UPDATE", &[]).await.unwrap();
    transaction
}

#[tokio::test]
async fn no_reservation_and_no_sweep_waits_for_a_lock() {
    let shop = Shop::on(Postgres::start_with_clock().await, PostgresOptions::new()).await;
    let owner = OwnerToken::random();
    shop.store.reserve(&key(), request(owner).record_ttl(span(LEASE))).await.map(drop).unwrap();
    shop.server.clock().forward(LEASE * 3);
    let mut client = shop.server.client().await;
    let transaction = locked(&mut client).await;
    // The record has expired, and the session that locks it decides what becomes of it.
    assert_eq!(shop.store.sweep(10).await.unwrap(), 0);
    let outcome = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::InFlight { attempt: 1, .. }), "{outcome:?}");
    transaction.rollback().await.unwrap();
    assert_eq!(shop.store.sweep(10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_sweep_keeps_a_record_that_was_reserved_meanwhile() {
    let shop = Shop::on(Postgres::start_with_clock().await, PostgresOptions::new()).await;
    let owner = OwnerToken::random();
    shop.store.reserve(&key(), request(owner).record_ttl(span(LEASE))).await.map(drop).unwrap();
    shop.server.clock().forward(LEASE * 3);
    // The sweep's own statement, on a snapshot from before the reservation.
    let mut client = shop.server.client().await;
    let snapshot = client.build_transaction();
    let transaction = snapshot.isolation_level(IsolationLevel::RepeatableRead).start().await.unwrap();
    transaction.query("SELECT FROM idem_record", &[]).await.unwrap();
    shop.store.reserve(&key(), request(OwnerToken::random())).await.map(drop).unwrap();
    let sweep = include_str!("../../../src/sql/sweep.sql");
    let refused = transaction.query_typed(sweep, &[(&10_i64, tokio_postgres::types::Type::INT8)]).await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "40001");
    assert_eq!(shop.store.sweep(10).await.unwrap(), 0);
    let outcome = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::InFlight { attempt: 1, .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_lock_timeout_and_a_statement_timeout_are_timeouts_without_effect() {
    for (setting, code) in [("lock_timeout", "55P03"), ("statement_timeout", "57014")] {
        let shop = Shop::open().await;
        let owner = OwnerToken::random();
        shop.store.reserve(&key(), request(owner)).await.map(drop).unwrap();
        let mut client = shop.server.client().await;
        client.batch_execute(&format!("ALTER ROLE idem SET {setting} = '20ms'")).await.unwrap();
        let limited = PostgresStore::connect(&shop.server.url()).await.unwrap();
        let _locked = locked(&mut client).await;
        let completion = completion("paid");
        let error = limited.complete(&key(), owner, completion).await.unwrap_err();
        assert_without_effect(&error, StoreErrorKind::Timeout, code);
    }
}

#[tokio::test]
async fn a_replay_and_a_refusal_write_nothing_not_even_a_lock() {
    let shop = Shop::open().await;
    let owner = OwnerToken::random();
    shop.store.reserve(&key(), request(owner)).await.map(drop).unwrap();
    let client = shop.server.client().await;
    let written = async || -> String {
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0)
    };
    let locks = async || -> i64 {
        let sql = "SELECT count(*) FROM idem_record WHERE xmax <> '0'";
        client.query_one(sql, &[]).await.unwrap().get(0)
    };
    let before = written().await;
    for _ in 0..100 {
        let outcome = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::InFlight { .. }));
    }
    assert_eq!((written().await, locks().await), (before, 0));

    let completion = completion("paid");
    shop.store.complete(&key(), owner, completion).await.map(drop).unwrap();
    // The first read of a new row writes a hint that its transaction is over.
    shop.store.get(&key()).await.unwrap().unwrap();
    let before = written().await;
    for _ in 0..100 {
        let outcome = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::Completed { .. }));
    }
    assert_eq!((written().await, locks().await), (before, 0));
}
