//! Servers that stop, and links that break or fall silent.

use idem_conformance::span;
use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{CompleteOutcome, Effect, ReservationStore, StoreError, StoreErrorKind, StoredValue};
use idem_postgres::{Options, PostgresStore};
use test_servers::Proxy;
use test_servers::postgres::Postgres;

use crate::support::{DAY, LEASE, Shop, key, payload, words};

fn request(owner: OwnerToken) -> ReserveRequest {
    ReserveRequest::new(owner, payload(), span(LEASE))
}

fn completion() -> Completion {
    Completion::new(StoredValue::bytes("paid"), span(DAY))
}

/// Sends a reservation again with its token for as long as its outcome is unknown or nobody answers.
async fn insist(store: &PostgresStore, owner: OwnerToken) -> ReserveOutcome {
    loop {
        match store.reserve(&key(), request(owner)).await {
            Ok(outcome) => return outcome,
            Err(error) => assert!(error.is_transient(), "{}", words(&error)),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_restarted_keeps_what_it_acknowledged_and_the_store_goes_on() {
    let shop = Shop::open().await;
    let (owner, other) = (OwnerToken::random(), OwnerToken::random());
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { .. }));
    shop.server.crash().await;
    assert!(matches!(insist(&shop.store, other).await, ReserveOutcome::InFlight { attempt: 1, .. }));
    let done = shop.store.complete(&key(), owner, completion()).await.unwrap();
    assert_eq!(done, CompleteOutcome::Completed);
    shop.server.crash().await;
    assert!(matches!(insist(&shop.store, other).await, ReserveOutcome::Completed { .. }));
}

#[tokio::test]
async fn while_no_server_answers_nothing_has_an_effect_and_no_error_shows_the_password() {
    let shop = Shop::open().await;
    let url = shop.server.url().replace("idem@", "idem:a-secret@");
    let store = PostgresStore::connect(&url).await.unwrap();
    shop.server.stop();
    // The connections that were open are found to be closed; or, at the latest, by who uses them.
    let error = loop {
        let error = store.reserve(&key(), request(OwnerToken::random())).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{}", words(&error));
        if error.effect == Effect::NotApplied {
            break error;
        }
    };
    let refused = PostgresStore::connect(&url).await.unwrap_err();
    assert_eq!((refused.kind, refused.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    for shown in [words(&error), words(&refused), format!("{store:?} {error:?} {refused:?}")] {
        assert!(!shown.contains("a-secret"), "{shown}");
    }
}

#[tokio::test]
async fn a_server_that_is_shut_down_in_good_order_is_unavailable_until_it_is_back() {
    let shop = Shop::open().await;
    let owner = OwnerToken::random();
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { .. }));
    shop.server.stop();
    let refused = shop.store.complete(&key(), owner, completion()).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{}", words(&refused));
    shop.server.run().await;
    loop {
        match shop.store.complete(&key(), owner, completion()).await {
            Ok(outcome) => break assert_eq!(outcome, CompleteOutcome::Completed),
            Err(error) => assert!(error.is_transient(), "{}", words(&error)),
        }
    }
}

async fn proxied(options: Options) -> (Proxy, Shop) {
    let server = Postgres::start().await;
    let proxy = Proxy::start(server.address()).await;
    let shop = Shop::through(server, proxy.address(), options).await;
    (proxy, shop)
}

fn is_unknown(error: &StoreError) -> bool {
    (error.kind, error.effect) == (StoreErrorKind::Unavailable, Effect::Unknown)
}

#[tokio::test]
async fn a_reservation_whose_reply_is_lost_is_unknown_and_sent_again_it_is_the_same_one() {
    let (proxy, shop) = proxied(Options::new()).await;
    let owner = OwnerToken::random();
    proxy.cut_when_request_contains(b"_reserve");
    let lost = shop.store.reserve(&key(), request(owner)).await.unwrap_err();
    assert!(is_unknown(&lost) && proxy.has_met_request(), "{}", words(&lost));
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { attempt: 1, .. }));
    let count = shop.server.client().await.query_one("SELECT count(*) FROM idem_record", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_completion_whose_reply_is_lost_is_unknown_and_sent_again_already_completed() {
    let (proxy, shop) = proxied(Options::new()).await;
    let owner = OwnerToken::random();
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { .. }));
    proxy.cut_when_request_contains(b"_complete");
    let lost = shop.store.complete(&key(), owner, completion()).await.unwrap_err();
    assert!(is_unknown(&lost) && proxy.has_met_request(), "{}", words(&lost));
    let again = shop.store.complete(&key(), owner, completion()).await.unwrap();
    assert_eq!(again, CompleteOutcome::AlreadyCompleted);
}

#[tokio::test]
async fn a_connection_whose_caller_went_away_in_the_midst_of_a_statement_is_not_used_again() {
    let (proxy, shop) = proxied(Options::new().pool_size(1)).await;
    let (owner, key) = (OwnerToken::random(), key());
    proxy.hold_replies(true);
    let before = proxy.connections();
    let silent = shop.store.reserve(&key, request(owner));
    tokio::time::timeout(Duration::from_millis(50), silent).await.unwrap_err();
    assert_eq!(shop.store.pool().status().size, 0);
    proxy.hold_replies(false);
    // The one connection there may be is a new one, and what was asked for on the old one stands or does not.
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { attempt: 1, .. }));
    assert_eq!(proxy.connections(), before + 1);
}

#[tokio::test]
async fn a_pool_that_is_exhausted_fails_without_effect_when_its_time_is_up() {
    let options = Options::new().pool_size(1).pool_timeout(Duration::from_millis(20));
    let shop = Shop::on(Postgres::start().await, options).await;
    let _all = shop.store.pool().get().await.unwrap();
    let error = shop.store.get(&key()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::NotApplied));
    assert!(words(&error).contains("pool_size"), "{}", words(&error));
}

#[tokio::test]
async fn a_server_with_too_many_connections_is_unavailable_and_says_what_to_do() {
    let server = Postgres::start_with(&["max_connections=5", "superuser_reserved_connections=1"]).await;
    let shop = Shop::on(server, Options::new().pool_size(16)).await;
    let mut all = Vec::new();
    let error = loop {
        match PostgresStore::connect(&shop.server.url()).await {
            Ok(store) => all.push(store),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    assert!(words(&error).contains("53300") && words(&error).contains("pooler"), "{}", words(&error));
}

#[tokio::test]
async fn a_connection_that_turns_out_to_take_no_writes_is_not_used_again() {
    let shop = Shop::on(Postgres::start().await, Options::new().pool_size(1)).await;
    let client = shop.server.client().await;
    client.batch_execute("ALTER ROLE idem SET default_transaction_read_only = on").await.unwrap();
    drop(deadpool_postgres::Object::take(shop.store.pool().get().await.unwrap()));
    let error = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    // As after a failover: what is connected to now takes writes.
    client.batch_execute("SET transaction_read_only = off; ALTER ROLE idem RESET ALL").await.unwrap();
    let told = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(told, ReserveOutcome::Reserved { attempt: 1, .. }));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_taken_for_an_exhausted_pool() {
    let (proxy, shop) = proxied(Options::new().connect_timeout(Duration::from_millis(300))).await;
    proxy.cut();
    proxy.hold_requests(true);
    for pool_timeout in [Duration::from_millis(300), Duration::from_millis(100), Duration::from_secs(5)] {
        let options = Options::new().connect_timeout(Duration::from_millis(300)).pool_timeout(pool_timeout);
        let url = format!("postgres://idem@{}/postgres", proxy.address());
        let error = PostgresStore::connect_with(&url, options).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::NotApplied));
        assert!(words(&error).contains("could not be made in time"), "{}", words(&error));
    }
    drop(shop);
}

#[tokio::test]
async fn of_several_hosts_the_one_that_takes_writes_is_found() {
    let primary = Postgres::start_with(&["wal_level=replica", "max_wal_senders=3"]).await;
    drop(PostgresStore::connect(&primary.url()).await.unwrap());
    let standby = primary.standby().await;
    primary.run().await;
    let url = format!(
        "postgres://idem@{},{}/postgres?target_session_attrs=read-write",
        standby.address(),
        primary.address()
    );
    let store = PostgresStore::connect(&url).await.unwrap();
    assert!(matches!(insist(&store, OwnerToken::random()).await, ReserveOutcome::Reserved { .. }));
}
