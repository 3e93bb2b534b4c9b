//! Servers that stop, and connections that break or fall silent.

use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{CompleteOutcome, Effect, ReservationStore, StoreError, StoreErrorKind};
use idem_postgres::{PostgresOptions, PostgresStore};
use test_servers::postgres::Postgres;

use crate::support::{Shop, assert_without_effect, completion, key, request, url_of, words};

/// Resends a reservation with its token while its outcome is unknown or no server answers.
async fn insist(store: &PostgresStore, owner: OwnerToken) -> ReserveOutcome {
    loop {
        match store.reserve(&key(), request(owner)).await {
            Ok(outcome) => return outcome,
            Err(error) => assert!(error.is_transient(), "{}", words(&error)),
        }
    }
}

#[tokio::test]
async fn a_killed_server_keeps_what_it_acknowledged_and_the_store_recovers() {
    let shop = Shop::open().await;
    let (owner, other) = (OwnerToken::random(), OwnerToken::random());
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { .. }));
    shop.server.crash().await;
    assert!(matches!(insist(&shop.store, other).await, ReserveOutcome::InFlight { attempt: 1, .. }));
    let done = shop.store.complete(&key(), owner, completion("paid")).await.unwrap();
    assert_eq!(done, CompleteOutcome::Completed);
    shop.server.crash().await;
    assert!(matches!(insist(&shop.store, other).await, ReserveOutcome::Completed { .. }));
}

#[tokio::test]
async fn without_a_server_nothing_has_an_effect_and_no_error_shows_the_password() {
    let shop = Shop::open().await;
    let url = shop.server.url().replace("idem@", "idem:a-secret@");
    let store = PostgresStore::connect(&url).await.unwrap();
    shop.server.stop();
    // Open connections are found to be closed, at the latest when they are used.
    let error = loop {
        let error = store.reserve(&key(), request(OwnerToken::random())).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{}", words(&error));
        if error.effect == Effect::NotApplied {
            break error;
        }
    };
    let refused = PostgresStore::connect(&url).await.unwrap_err();
    assert_without_effect(&refused, StoreErrorKind::Unavailable, "");
    for shown in [words(&error), words(&refused), format!("{store:?} {error:?} {refused:?}")] {
        assert!(!shown.contains("a-secret"), "{shown}");
    }
}

#[tokio::test]
async fn a_server_that_shut_down_is_unavailable_until_it_is_back() {
    let shop = Shop::open().await;
    let owner = OwnerToken::random();
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { .. }));
    shop.server.stop();
    let refused = shop.store.complete(&key(), owner, completion("paid")).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{}", words(&refused));
    shop.server.run().await;
    loop {
        match shop.store.complete(&key(), owner, completion("paid")).await {
            Ok(outcome) => break assert_eq!(outcome, CompleteOutcome::Completed),
            Err(error) => assert!(error.is_transient(), "{}", words(&error)),
        }
    }
}

fn is_unknown(error: &StoreError) -> bool {
    (error.kind, error.effect) == (StoreErrorKind::Unavailable, Effect::Unknown)
}

#[tokio::test]
async fn a_reservation_whose_reply_is_lost_is_unknown_and_can_be_resent() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let owner = OwnerToken::random();
    proxy.cut_when_request_contains(b"_reserve");
    let lost = shop.store.reserve(&key(), request(owner)).await.unwrap_err();
    assert!(is_unknown(&lost) && proxy.has_met_request(), "{}", words(&lost));
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { attempt: 1, .. }));
    let count = shop.server.client().await.query_one("SELECT count(*) FROM idem_record", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_completion_whose_reply_is_lost_is_unknown_and_can_be_resent() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new()).await;
    let owner = OwnerToken::random();
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { .. }));
    proxy.cut_when_request_contains(b"_complete");
    let lost = shop.store.complete(&key(), owner, completion("paid")).await.unwrap_err();
    assert!(is_unknown(&lost) && proxy.has_met_request(), "{}", words(&lost));
    let again = shop.store.complete(&key(), owner, completion("paid")).await.unwrap();
    assert_eq!(again, CompleteOutcome::AlreadyCompleted);
}

#[tokio::test]
async fn a_connection_whose_statement_was_dropped_is_not_used_again() {
    let (proxy, shop) = Shop::proxied(PostgresOptions::new().pool_size(1)).await;
    let (owner, key) = (OwnerToken::random(), key());
    proxy.hold_replies(true);
    let before = proxy.connections();
    let silent = shop.store.reserve(&key, request(owner));
    tokio::time::timeout(Duration::from_millis(50), silent).await.unwrap_err();
    assert_eq!(shop.store.pool().status().size, 0);
    proxy.hold_replies(false);
    // The only connection is a new one. The statement on the old one took effect or did not.
    assert!(matches!(insist(&shop.store, owner).await, ReserveOutcome::Reserved { attempt: 1, .. }));
    assert_eq!(proxy.connections(), before + 1);
}

#[tokio::test]
async fn an_exhausted_pool_is_a_timeout_without_effect() {
    let options = PostgresOptions::new().pool_size(1).pool_timeout(Duration::from_millis(500));
    let shop = Shop::open_with(options).await;
    let _all = shop.store.pool().get().await.unwrap();
    let error = shop.store.get(&key()).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Timeout, "pool_size");
}

#[tokio::test]
async fn a_server_with_too_many_connections_is_unavailable_and_says_what_to_do() {
    let server = Postgres::start_with(&["max_connections=5", "superuser_reserved_connections=1"]).await;
    let shop = Shop::on(server, PostgresOptions::new().pool_size(16)).await;
    let mut all = Vec::new();
    let error = loop {
        match PostgresStore::connect(&shop.server.url()).await {
            Ok(store) => all.push(store),
            Err(error) => break error,
        }
    };
    assert_without_effect(&error, StoreErrorKind::Unavailable, "");
    assert!(words(&error).contains("53300") && words(&error).contains("pooler"), "{}", words(&error));
}

#[tokio::test]
async fn a_read_only_connection_is_not_used_again() {
    let shop = Shop::open_with(PostgresOptions::new().pool_size(1)).await;
    let client = shop.server.client().await;
    client.batch_execute("ALTER ROLE idem SET default_transaction_read_only = on").await.unwrap();
    drop(deadpool_postgres::Object::take(shop.store.pool().get().await.unwrap()));
    let error = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Unavailable, "");
    // As after a failover: new connections accept writes.
    client.batch_execute("SET transaction_read_only = off; ALTER ROLE idem RESET ALL").await.unwrap();
    let outcome = shop.store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { attempt: 1, .. }));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_an_exhausted_pool() {
    let (proxy, shop) =
        Shop::proxied(PostgresOptions::new().connect_timeout(Duration::from_millis(300))).await;
    proxy.cut();
    proxy.hold_requests(true);
    for pool_timeout in [Duration::from_millis(300), Duration::from_millis(100), Duration::from_secs(5)] {
        let options =
            PostgresOptions::new().connect_timeout(Duration::from_millis(300)).pool_timeout(pool_timeout);
        let url = url_of(proxy.address());
        let error = PostgresStore::connect_with(&url, options).await.unwrap_err();
        assert_without_effect(&error, StoreErrorKind::Timeout, "could not be made in time");
    }
    drop(shop);
}

#[tokio::test]
async fn of_several_hosts_the_primary_is_used() {
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
