//! The guard: what it commits, and what its drop does.

use idem_conformance::span;
use idem_core::{
    Admission, CompleteOutcome, Effect, ReleaseOutcome, RenewOutcome, StoreErrorKind, StoredValue,
};
use idem_postgres::{Options, ReservationExt, Statements, TransactionError};
use test_servers::Proxy;
use test_servers::postgres::{PgBouncer, Postgres};
use tokio_postgres::IsolationLevel;

use crate::support::{Shop, key, pay, payload, words};

#[tokio::test]
async fn effect_and_completion_are_there_together() {
    let shop = Shop::open().await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    assert_eq!(shop.payments().await, 0);
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
    assert_eq!(shop.open_transactions().await, 0);
}

#[tokio::test]
async fn so_they_are_behind_a_pooler_and_with_prepared_statements() {
    let server = Postgres::start().await;
    let pgbouncer = PgBouncer::start(&server).await;
    let through = pgbouncer.url();
    let shop = Shop::on(server, Options::new().statements(Statements::Prepared)).await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
    assert!(shop.is_replayed("paid").await);

    let store = idem_postgres::PostgresStore::connect(&through).await.unwrap();
    let engine = idem_core::Engine::builder(store.clone()).build().unwrap();
    let other = idem_core::Key::new("payments", "43").unwrap();
    let Admission::Granted(reservation) = engine.reserve(&other, &payload()).await.unwrap() else { panic!() };
    let transaction = reservation.begin_transaction(&store).await.unwrap();
    transaction.batch_execute("INSERT INTO payment (key) VALUES ('43')").await.unwrap();
    transaction.complete(StoredValue::bytes("paid, too")).await.unwrap();
    let again = engine.reserve(&other, &payload()).await.unwrap();
    assert!(matches!(again, Admission::Replayed(response) if response.body == "paid, too"));
    assert_eq!(shop.payments().await, 2);
}

#[tokio::test]
async fn dropped_it_is_rolled_back_and_the_next_is_attempt_2() {
    let shop = Shop::open().await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!((shop.payments().await, shop.open_transactions().await), (0, 0));
}

#[tokio::test]
async fn rolled_back_it_gives_its_reservation_back() {
    let shop = Shop::open().await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    let reservation = transaction.rollback().await;
    assert_eq!((shop.payments().await, shop.open_transactions().await), (0, 0));

    // It can begin anew.
    let transaction = reservation.begin_transaction(&shop.store).await.unwrap();
    let reservation = transaction.rollback().await;
    assert_eq!(reservation.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(shop.next_attempt().await, Some(1));
}

#[tokio::test]
async fn a_completion_goes_on_when_its_caller_does_not_wait_for_it() {
    let shop = Shop::open().await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    drop(transaction.complete(StoredValue::bytes("paid")));
    while !shop.is_replayed("paid").await {
        tokio::task::yield_now().await;
    }
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_statement_that_its_caller_gave_up_does_not_keep_the_key() {
    let shop = Shop::open().await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    let sleeping = transaction.batch_execute("SELECT pg_sleep(3600)");
    tokio::time::timeout(std::time::Duration::from_millis(50), sleeping).await.unwrap_err();
    drop(transaction);
    assert_eq!(shop.eventual_attempt().await, 2);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn its_heartbeat_pauses_and_it_is_still_the_owner() {
    let shop = Shop::open().await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    let renewed = transaction.reservation().renew().await.unwrap();
    assert!(matches!(renewed, RenewOutcome::Renewed { .. }), "{renewed:?}");
    transaction.complete(StoredValue::bytes("paid")).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_too_large_rolls_the_effect_back_and_frees_the_key() {
    let shop = Shop::on(Postgres::start().await, Options::new().max_answer_bytes(3)).await;
    let transaction = shop.reserved().await.begin_transaction(&shop.store).await.unwrap();
    pay(&transaction).await;
    let Err(TransactionError::Store(error)) = transaction.complete(StoredValue::bytes("paid")).await else {
        panic!()
    };
    assert_eq!((error.kind, error.effect), (StoreErrorKind::TooLarge, Effect::NotApplied));
    assert_eq!(shop.eventual_attempt().await, 1);
    assert_eq!(shop.payments().await, 0);
}

#[tokio::test]
async fn without_a_connection_nothing_begins_and_the_key_is_free() {
    let options = Options::new().pool_size(1).pool_timeout(std::time::Duration::from_millis(50));
    let shop = Shop::on(Postgres::start().await, options).await;
    let reservation = shop.reserved().await;
    let all = shop.store.pool().get().await.unwrap();
    let Err(TransactionError::Store(error)) = reservation.begin_transaction(&shop.store).await else {
        panic!()
    };
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::NotApplied));
    assert!(words(&error).contains("pool_size"), "{}", words(&error));
    drop(all);
    assert_eq!(shop.eventual_attempt().await, 1);
}

#[tokio::test]
async fn a_completed_key_is_not_begun() {
    let shop = Shop::open().await;
    let reservation = shop.reserved().await;
    let completion =
        idem_core::store::Completion::new(StoredValue::bytes("first"), span(crate::support::DAY));
    let done = idem_core::ReservationStore::complete(
        &shop.store,
        &key(),
        idem_core::backend::owner(&reservation),
        completion,
    )
    .await;
    assert_eq!(done.unwrap(), CompleteOutcome::Completed);
    let begun = reservation.begin_transaction(&shop.store).await;
    assert!(matches!(begun, Err(TransactionError::AlreadyCompleted)), "{begun:?}");
    assert!(shop.is_replayed("first").await);
    assert_eq!(shop.open_transactions().await, 0);
}

#[tokio::test]
async fn a_beginning_that_is_cancelled_leaves_no_transaction_and_frees_the_key() {
    for statements in [Statements::Unnamed, Statements::Prepared] {
        let shop = Shop::on(Postgres::start().await, Options::new().statements(statements)).await;
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
                    let owner = idem_core::store::OwnerToken::random();
                    let request =
                        idem_core::store::ReserveRequest::new(owner, payload(), span(crate::support::LEASE));
                    let told =
                        idem_core::ReservationStore::reserve(&shop.store, &key(), request).await.unwrap();
                    if matches!(told, idem_core::store::ReserveOutcome::Reserved { .. }) {
                        let released = idem_core::ReservationStore::release(&shop.store, &key(), owner).await;
                        break released.unwrap();
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
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

/// A standby refuses to begin at that level. What had been sent behind it would be answered outside of any transaction, and
/// behind a pooler perhaps to somebody else.
#[tokio::test]
async fn at_serializable_nothing_is_sent_before_the_beginning_is_answered() {
    let server = Postgres::start().await;
    let proxy = Proxy::start(server.address()).await;
    let shop = Shop::through(server, proxy.address(), Options::new()).await;
    let reservation = shop.reserved().await;
    // Whoever asks for the record's lock has to wait, and is seen to.
    let operator = shop.server.client().await;
    operator.batch_execute("BEGIN; SELECT FROM idem_record FOR UPDATE").await.unwrap();
    proxy.hold_replies(true);
    let store = shop.store.clone();
    let beginning = tokio::spawn(async move {
        reservation.begin_transaction_at(&store, IsolationLevel::Serializable).await.map(drop)
    });
    // The beginning is done and not answered yet; or the lock was asked for all the same.
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
