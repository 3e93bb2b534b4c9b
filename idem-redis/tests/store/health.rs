//! Servers that should not keep records.

use idem_core::{Effect, RenewOutcome, StoreErrorKind};
use idem_redis::{HealthMode, Reported};
use test_servers::redis::{Kind, Server, Setup};

use super::*;

fn cause(error: &StoreError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

#[tokio::test]
async fn a_strict_store_does_not_connect_to_a_server_that_evicts() {
    let server = Setup::new(Kind::Redis).set(&["maxmemory-policy", "volatile-lru"]).start();
    let error = RedisStore::connect(&server.url()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied));
    let cause = cause(&error);
    assert!(cause.contains("volatile-lru") && cause.contains("noeviction"), "{cause}");

    let store = connect(&server.url(), RedisOptions::new().health(HealthMode::Warn)).await;
    live(&store, "k").await;
    let health = store.health().await;
    assert_eq!(health.servers[0].eviction, Reported::Known("volatile-lru".to_owned()));
}

#[tokio::test]
async fn eviction_that_is_switched_on_later_ends_only_new_reservations() {
    let server = Server::redis();
    let store = connect(&server.url(), RedisOptions::new().health_interval(Duration::from_millis(10))).await;
    let (held, owner) = (key("held"), OwnerToken::random());
    let held_by_us = store.reserve(&held, request(owner)).await.unwrap();
    assert!(matches!(held_by_us, ReserveOutcome::Reserved { .. }), "{held_by_us:?}");
    live(&store, "done").await;
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);

    let deadline = Instant::now() + Duration::from_secs(30);
    let mut n = 0;
    let error = loop {
        assert!(Instant::now() < deadline, "it is not noticed");
        n += 1;
        match store.reserve(&key(&format!("new:{n}")), request(OwnerToken::random())).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied));
    assert!(cause(&error).contains("allkeys-lru"), "{}", cause(&error));
    // Nothing was written.
    assert_eq!(store.get(&key(&format!("new:{n}"))).await.unwrap(), None);

    // Owners keep their keys, and duplicates still get answers.
    let refused = store.reserve(&held, request(OwnerToken::random())).await.unwrap();
    assert!(matches!(refused, ReserveOutcome::InFlight { .. }), "{refused:?}");
    let replayed = store.reserve(&key("done"), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(replayed, ReserveOutcome::Completed { .. }), "{replayed:?}");
    let renewed = store.renew(&held, owner, span(HOUR)).await.unwrap();
    assert!(matches!(renewed, RenewOutcome::Renewed { .. }), "{renewed:?}");
    assert_eq!(store.complete(&held, owner, completion("done")).await.unwrap(), CompleteOutcome::Completed);

    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    while store.reserve(&key("again"), request(owner)).await.is_err() {
        assert!(Instant::now() < deadline, "its end is not noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn connecting_to_a_replica_says_so() {
    let master = Server::redis();
    let replica =
        Setup::new(Kind::Redis).set(&["replicaof", "127.0.0.1", &master.port().to_string()]).start();
    let error = RedisStore::connect(&replica.url()).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert!(cause(&error).contains("is a replica"), "{}", cause(&error));
}
