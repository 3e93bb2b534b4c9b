//! Others who have the lock of a row, and limits on the wait for it.

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{Effect, ReservationStore, StoreErrorKind, StoredValue};
use idem_postgres::{Options, PostgresStore};
use test_servers::postgres::Postgres;
use tokio_postgres::Client;

use crate::support::{DAY, LEASE, Shop, key, payload, words};

fn request(owner: OwnerToken) -> ReserveRequest {
    ReserveRequest::new(owner, payload(), span(LEASE))
}

async fn locked(client: &mut Client) -> tokio_postgres::Transaction<'_> {
    let transaction = client.transaction().await.unwrap();
    transaction.execute("SELECT FROM idem_record FOR UPDATE", &[]).await.unwrap();
    transaction
}

#[tokio::test]
async fn no_reservation_and_no_sweep_waits_for_a_lock() {
    let shop = Shop::on(Postgres::start_with_clock().await, Options::new()).await;
    let owner = OwnerToken::random();
    shop.store.reserve(&key(), request(owner).record_ttl(span(LEASE))).await.map(drop).unwrap();
    shop.server.clock().forward(LEASE * 3);
    let mut client = shop.server.client().await;
    let transaction = locked(&mut client).await;
    // Its lease is over and it has expired; who has it locked decides what becomes of it.
    assert_eq!(shop.store.sweep(10).await.unwrap(), 0);
    let told = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(told, ReserveOutcome::InFlight { attempt: 1, .. }), "{told:?}");
    transaction.rollback().await.unwrap();
    assert_eq!(shop.store.sweep(10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_sweep_leaves_a_record_that_was_reserved_while_it_looked() {
    let shop = Shop::on(Postgres::start_with_clock().await, Options::new()).await;
    let owner = OwnerToken::random();
    shop.store.reserve(&key(), request(owner).record_ttl(span(LEASE))).await.map(drop).unwrap();
    shop.server.clock().forward(LEASE * 3);
    // Another statement of the sweep's own text, on a snapshot from before the reservation.
    let mut client = shop.server.client().await;
    let snapshot = client.build_transaction();
    let transaction =
        snapshot.isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).start().await.unwrap();
    transaction.query("SELECT FROM idem_record", &[]).await.unwrap();
    shop.store.reserve(&key(), request(OwnerToken::random())).await.map(drop).unwrap();
    let sweep = include_str!("../../src/sql/sweep.sql");
    let refused = transaction.query_typed(sweep, &[(&10_i64, tokio_postgres::types::Type::INT8)]).await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "40001");
    assert_eq!(shop.store.sweep(10).await.unwrap(), 0);
    let told = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(told, ReserveOutcome::InFlight { attempt: 1, .. }), "{told:?}");
}

#[tokio::test]
async fn a_limit_on_the_wait_for_locks_or_on_statements_is_a_timeout_without_effect() {
    for (setting, code) in [("lock_timeout", "55P03"), ("statement_timeout", "57014")] {
        let shop = Shop::open().await;
        let owner = OwnerToken::random();
        shop.store.reserve(&key(), request(owner)).await.map(drop).unwrap();
        let mut client = shop.server.client().await;
        client.batch_execute(&format!("ALTER ROLE idem SET {setting} = '20ms'")).await.unwrap();
        let limited = PostgresStore::connect(&shop.server.url()).await.unwrap();
        let _locked = locked(&mut client).await;
        let completion = Completion::new(StoredValue::bytes("paid"), span(DAY));
        let error = limited.complete(&key(), owner, completion).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::NotApplied));
        assert!(words(&error).contains(code), "{}", words(&error));
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
        let told = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
        assert!(matches!(told, ReserveOutcome::InFlight { .. }));
    }
    assert_eq!((written().await, locks().await), (before, 0));

    let completion = Completion::new(StoredValue::bytes("paid"), span(DAY));
    shop.store.complete(&key(), owner, completion).await.map(drop).unwrap();
    // The first look at a new row notes that its transaction is over.
    shop.store.get(&key()).await.unwrap().unwrap();
    let before = written().await;
    for _ in 0..100 {
        let told = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
        assert!(matches!(told, ReserveOutcome::Completed { .. }));
    }
    assert_eq!((written().await, locks().await), (before, 0));
}
