//! Users with few rights.

use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{AbandonOutcome, Effect, ReleaseOutcome, RenewOutcome, ReservationStore, StoreErrorKind};
use idem_redis::{RedisOptions, RedisStore, Reported};
use test_servers::blocking;
use test_servers::redis::{Cluster, Kind, SLOTS, Server, Setup};

use super::support::ClockedServer;
use super::{
    Granted, HOUR, LEASE, ask, completed, connect, is_replayed, key, live, request, reserve, reserved, span,
};

/// The README names the rights that a store needs.
#[tokio::test]
async fn a_user_with_the_rights_that_the_readme_names_can_do_everything() {
    for kind in [Kind::Redis, Kind::Valkey] {
        everything_with_the_rights_of_the_readme(&ClockedServer::start(kind)).await;
    }
}

async fn everything_with_the_rights_of_the_readme(server: &ClockedServer) {
    let readme = include_str!("../../README.md");
    let rights = readme.split("A user (ACL) needs `").nth(1).unwrap().split('`').next().unwrap();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("app").arg("on").arg(">secret").arg("~idem:*");
    ask(server, user.arg(rights.split(' ').collect::<Vec<_>>())).await;
    let store = RedisStore::connect(&format!("{}?user=app&password=secret", server.url())).await.unwrap();

    let key = key("with few rights");
    let first = reserved(&store, &key).await.owner;
    server.clock().back(HOUR);
    assert!(matches!(reserve(&store, &key).await.unwrap(), ReserveOutcome::InFlight { .. }));
    assert!(matches!(store.renew(&key, first, span(LEASE)).await.unwrap(), RenewOutcome::Renewed { .. }));
    assert_eq!(store.abandon(&key, first).await.unwrap(), AbandonOutcome::Abandoned);
    let Granted { owner: second, attempt, .. } = reserved(&store, &key).await;
    assert_eq!(attempt, 2);
    assert_eq!(store.release(&key, second).await.unwrap(), ReleaseOutcome::Released);
    let third = reserved(&store, &key).await.owner;
    completed(&store, &key, third, "an answer").await;
    assert!(is_replayed(&store, &key, "an answer").await);
    assert!(store.get(&key).await.unwrap().is_some());
}

/// Creates a user with the rights that the README names, and these.
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
    let store = connect(&format!("redis://app:p@{}", server.address()), RedisOptions::new()).await;
    live(&store, "k").await;
    let health = store.health().await;
    assert!(matches!(&health.servers[0].eviction, Reported::Unknown(_)), "{health}");
    assert!(matches!(&health.servers[0].version, Reported::Unknown(_)), "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_needs_two_more_rights_and_waiting_for_replicas_needs_one() {
    let readme = include_str!("../../README.md");
    assert!(readme.contains("`+cluster|slots +asking`") && readme.contains("`+wait`"));
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    for node in &cluster.nodes {
        allow(node, "+cluster|slots +asking +wait");
    }
    let url = cluster.url().replace("cluster://", "cluster://app:p@");
    let store = connect(&url, RedisOptions::new().replicas(1, Duration::from_secs(20))).await;
    for n in 0..20 {
        live(&store, &n.to_string()).await;
    }
    // These slots of one master are moving to another, so new keys in them are redirected there.
    let (first, last) = (SLOTS[0].0, SLOTS[0].1);
    for slot in (first..=last).step_by(8) {
        let slot = slot.to_string();
        cluster.nodes[1].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &Cluster::id(0)]);
        cluster.nodes[0].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &Cluster::id(1)]);
    }
    let store = connect(&url, RedisOptions::new()).await;
    for n in 0..100 {
        live(&store, &format!("moving:{n}")).await;
    }
}

#[tokio::test]
async fn a_user_who_may_not_run_a_command_of_a_script_gets_misconfigured_without_effect() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Setup::new(kind).start();
        for forbidden in ["-set", "-time", "-get", "-evalsha"] {
            server.command(&["ACL", "SETUSER", "app", "reset", "on", ">p", "~idem:*", "+@all", forbidden]);
            let store = connect(&format!("redis://app:p@{}", server.address()), RedisOptions::new()).await;
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
