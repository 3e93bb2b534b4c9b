//! A Cluster of six nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use test_servers::redis::{Cluster, Kind, Server, owner_of};
use tokio::task::JoinSet;

use super::*;
use crate::link::Connection;
use crate::link::cluster::slot;

fn options() -> RedisOptions {
    RedisOptions::new().command_timeout(Duration::from_secs(1)).stall_timeout(Duration::from_secs(1))
}

/// Increments many keys until `stop`. Returns how many increments of each key succeeded, and how many have an unknown
/// effect.
fn counters(link: &Link, keys: usize) -> (Arc<AtomicBool>, JoinSet<(String, u64, u64)>) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut counters = JoinSet::new();
    for n in 0..keys {
        let (link, stop, key) = (link.clone(), Arc::clone(&stop), format!("counter:{n}"));
        counters.spawn(async move {
            let (mut done, mut unknown) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                match send(&link, &["INCR", &key]).await {
                    Ok(_) => done += 1,
                    Err(failure) => {
                        assert!(is_transient(&failure), "{failure:?}");
                        unknown += u64::from(failure.effect == Effect::Unknown);
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (key, done, unknown)
        });
    }
    (stop, counters)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_on_all_masters() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let cluster = blocking(move || Cluster::start(kind)).await;
        let link = link(&cluster.url(), &options()).await;
        for n in 0..100 {
            ask(&link, &["SET", &format!("k{n}"), "v"]).await;
        }
        for node in &cluster.nodes[..3] {
            let keys: u64 = redis::from_redis_value(node.command(&["DBSIZE"])).unwrap();
            assert!(keys > 10, "{keys}");
        }
        assert_eq!(link.each_master(&redis::cmd("PING")).await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_moved_under_load_and_nothing_is_done_twice_or_lost() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options()).await;
    let (stop, counters) = counters(&link, 64);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _cluster = blocking(move || {
        // The slot of every key that is on the first master, while the key is incremented.
        for n in 0..64 {
            let slot = slot(format!("counter:{n}").as_bytes());
            if slot <= 5460 {
                cluster.move_slot(slot, 0, 1, || std::thread::sleep(Duration::from_millis(20)));
            }
        }
        cluster
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for (key, done, unknown) in counters.join_all().await {
        let counted: u64 = redis::from_redis_value(ask(&link, &["GET", &key]).await).unwrap();
        assert_eq!((counted, unknown), (done, 0), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_half_moved_is_served_by_both_sides() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options()).await;
    let slot = slot(b"{tag}").to_string();
    let owner = owner_of(slot.parse().unwrap());
    let target = (owner + 1) % 3;
    ask(&link, &["SET", "{tag}old", "v"]).await;
    cluster.nodes[target].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &Cluster::id(owner)]);
    cluster.nodes[owner].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &Cluster::id(target)]);
    // The source serves the keys that it still has, and redirects for the others.
    assert_eq!(ask(&link, &["GET", "{tag}old"]).await, Value::BulkString(b"v".to_vec()));
    ask(&link, &["SET", "{tag}new", "w"]).await;
    assert_eq!(ask(&link, &["GET", "{tag}new"]).await, Value::BulkString(b"w".to_vec()));
    let there: u64 = redis::from_redis_value(cluster.nodes[target].command(&["DBSIZE"])).unwrap();
    assert_eq!(there, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_followed_under_load() {
    let mut cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options()).await;
    let (stop, counters) = counters(&link, 16);
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.nodes[0].kill();
    let _cluster = blocking(move || {
        cluster.wait_until_replaced(0);
        cluster
    })
    .await;
    for n in 0..64 {
        persist(&link, &["SET", &format!("after:{n}"), "v"]).await;
    }
    stop.store(true, Ordering::Relaxed);
    // What the replica did not have is lost. Nothing was counted that was not sent.
    for (key, done, unknown) in counters.join_all().await {
        let counted: u64 = redis::from_redis_value(ask(&link, &["GET", &key]).await).unwrap();
        assert!(counted <= done + unknown && done > 0, "{key}: {counted}, {done}, {unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_that_replaces_a_frozen_master_is_found() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options()).await;
    ask(&link, &["SET", "warm", "v"]).await;
    cluster.nodes[0].process.pause();
    let cluster = blocking(move || {
        cluster.wait_until_replaced(0);
        cluster
    })
    .await;
    // A key in the first master's slots. No node redirects: the frozen one does not answer, and the others are not asked.
    let key = (0..1000).map(|n| format!("k{n}")).find(|key| slot(key.as_bytes()) <= 5460).unwrap();
    persist(&link, &["SET", &key, "v"]).await;
    let there: String = redis::from_redis_value(cluster.nodes[3].command(&["GET", &key])).unwrap();
    assert_eq!(there, "v");
    cluster.nodes[0].process.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_down_fails_without_effect_and_works_again() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options()).await;
    ask(&link, &["SET", "k", "v"]).await;
    let slot = slot(b"k");
    let owner = owner_of(slot);
    let slot = slot.to_string();
    cluster.nodes[owner].command(&["CLUSTER", "DELSLOTS", &slot]);
    let failure = send(&link, &["GET", "k"]).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Unavailable, Effect::NotApplied), "{failure:?}");
    cluster.nodes[owner].command(&["CLUSTER", "ADDSLOTS", &slot]);
    persist(&link, &["SET", "k", "v"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_a_cluster_is_misconfigured() {
    let server = Server::redis();
    let url = server.url().replace("redis://", "redis+cluster://");
    let error = try_link(&url, &options()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applications_cluster_connection_can_be_shared() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let nodes: Vec<_> = cluster.nodes.iter().map(Server::url).collect();
    let connection = redis::cluster::ClusterClient::new(nodes).unwrap().get_async_connection().await.unwrap();
    let link = Link::over(Connection::from(connection), &RedisOptions::new());
    for n in 0..20 {
        ask(&link, &["SET", &format!("k{n}"), "v"]).await;
    }
    // Its client may have sent the command before, so no error proves that nothing happened.
    let failure = send(&link, &["LPUSH", "k1", "x"]).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Corrupt, Effect::Unknown));
    let answers = link.each_master(&redis::cmd("PING")).await;
    assert_eq!(answers.len(), 3, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn circular_redirections_are_followed_with_pauses() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options()).await;
    let slot = slot(b"k");
    let owner = owner_of(slot);
    let other = (owner + 1) % 3;
    let slot = slot.to_string();
    // Each node says that the slot belongs to the other, as happens briefly at the end of a resharding.
    cluster.nodes[owner].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &Cluster::id(other)]);
    let asked = |node: &Server| -> u64 { node.info("total_error_replies").unwrap().parse().unwrap() };
    let before = asked(&cluster.nodes[owner]) + asked(&cluster.nodes[other]);
    let failure = send(&link, &["GET", "k"]).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Unavailable, Effect::NotApplied), "{failure:?}");
    let redirections = asked(&cluster.nodes[owner]) + asked(&cluster.nodes[other]) - before;
    assert!((2..100).contains(&redirections), "{redirections} of one command");
    cluster.nodes[other].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &Cluster::id(other)]);
    assert_eq!(persist(&link, &["GET", "k"]).await, Value::Nil);
}
