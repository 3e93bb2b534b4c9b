//! Servers that do not keep records.

use idem_conformance::span;
use idem_core::{Effect, RenewOutcome, StoreErrorKind};
use idem_redis::{Fact, HealthMode};
use test_servers::redis::{Cluster, Kind, SLOTS, Server, Setup};

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

    let store = connect(&server.url(), Options::new().health(HealthMode::Warn)).await;
    live(&store, "k").await;
    let health = store.health().await;
    assert_eq!(health.servers[0].eviction, Fact::Known("volatile-lru".to_owned()));
}

#[tokio::test]
async fn eviction_that_is_switched_on_later_ends_new_reservations_and_nothing_else() {
    let server = Server::redis();
    let store = connect(&server.url(), Options::new().health_interval(Duration::from_millis(10))).await;
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

    // Whoever has something keeps it, and duplicates are still told.
    let refused = store.reserve(&held, request(OwnerToken::random())).await.unwrap();
    assert!(matches!(refused, ReserveOutcome::InFlight { .. }), "{refused:?}");
    let replayed = store.reserve(&key("done"), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(replayed, ReserveOutcome::Completed { .. }), "{replayed:?}");
    let renewed = store.renew(&held, owner, span(HOUR)).await.unwrap();
    assert!(matches!(renewed, RenewOutcome::Renewed { .. }), "{renewed:?}");
    assert_eq!(store.complete(&held, owner, answer(b"done")).await.unwrap(), CompleteOutcome::Completed);

    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    while store.reserve(&key("again"), request(owner)).await.is_err() {
        assert!(Instant::now() < deadline, "its end is not noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A user who may do what the README tells operators, and this.
fn allow(server: &Server, more: &str) {
    let rules = "on >p ~idem:* -@all +eval +evalsha +get +set +pttl +pexpire +pexpiretime +time";
    let rules = rules.split(' ').chain(more.split(' ').filter(|rule| !rule.is_empty()));
    let command: Vec<_> = ["ACL", "SETUSER", "app"].into_iter().chain(rules).collect();
    server.command(&command);
}

#[tokio::test]
async fn a_user_who_may_run_scripts_and_nothing_else_can_use_a_store() {
    let server = Server::redis();
    allow(&server, "");
    let store = connect(&format!("redis://app:p@{}", server.address()), Options::new()).await;
    live(&store, "k").await;
    let health = store.health().await;
    assert!(matches!(&health.servers[0].eviction, Fact::Unknown(_)), "{health}");
    assert!(matches!(&health.servers[0].version, Fact::Unknown(_)), "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_a_cluster_needs_two_commands_more_and_one_who_waits_for_replicas_one() {
    let readme = include_str!("../../README.md");
    assert!(readme.contains("`+cluster|slots +asking`") && readme.contains("`+wait`"));
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    for node in &cluster.nodes {
        allow(node, "+cluster|slots +asking +wait");
    }
    let url = cluster.url().replace("cluster://", "cluster://app:p@");
    let store = connect(&url, Options::new().replicas(1, Duration::from_secs(20))).await;
    for n in 0..20 {
        live(&store, &n.to_string()).await;
    }
    // All slots of one master are on their way to another, so that every new key of them is asked for there.
    let (first, last) = (SLOTS[0].0, SLOTS[0].1);
    for slot in (first..=last).step_by(8) {
        let slot = slot.to_string();
        cluster.nodes[1].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &Cluster::id(0)]);
        cluster.nodes[0].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &Cluster::id(1)]);
    }
    let store = connect(&url, Options::new()).await;
    for n in 0..100 {
        live(&store, &format!("moving:{n}")).await;
    }
}

#[tokio::test]
async fn a_replica_is_refused_in_words() {
    let master = Server::redis();
    let replica =
        Setup::new(Kind::Redis).set(&["replicaof", "127.0.0.1", &master.port().to_string()]).start();
    let error = RedisStore::connect(&replica.url()).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert!(cause(&error).contains("is a replica"), "{}", cause(&error));
}

#[tokio::test]
async fn a_user_who_may_not_run_a_command_of_a_script_is_told_that_nothing_happened_and_who_can_help() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Setup::new(kind).start();
        for forbidden in ["-set", "-time", "-get", "-evalsha"] {
            server.command(&["ACL", "SETUSER", "app", "reset", "on", ">p", "~idem:*", "+@all", forbidden]);
            let store = connect(&format!("redis://app:p@{}", server.address()), Options::new()).await;
            let error = store.reserve(&key("k"), request(OwnerToken::random())).await.unwrap_err();
            assert_eq!(
                (error.kind, error.effect),
                (StoreErrorKind::Misconfigured, Effect::NotApplied),
                "{kind:?} {forbidden}: {error:?}"
            );
        }
        assert_eq!(redis::from_redis_value(server.command(&["DBSIZE"])), Ok(0));
    }
}
