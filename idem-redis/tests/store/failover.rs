//! Masters that fail while the store is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use test_servers::redis::{Cluster, Kind, SLOTS, SentinelGroup, Setup};
use tokio::task::JoinSet;

use super::*;

fn options() -> RedisOptions {
    RedisOptions::new().command_timeout(Duration::from_millis(500)).stall_timeout(Duration::from_millis(500))
}

/// Reserves and completes keys until `stop`. Returns how many.
fn load(store: &RedisStore) -> (Arc<AtomicBool>, JoinSet<usize>) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return n;
                }
                let (key, owner) = (key(&format!("{caller}:{n}")), OwnerToken::random());
                let reserved = persist(|| store.reserve(&key, request(owner))).await;
                assert!(matches!(reserved, ReserveOutcome::Reserved { attempt: 1, .. }), "{reserved:?}");
                // `Lost` if the promoted replica did not have the reservation.
                let _ = persist(|| store.complete(&key, owner, completion("done"))).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            unreachable!()
        });
    }
    (stop, callers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_follows_sentinel_to_the_promoted_replica() {
    let mut watched = blocking(SentinelGroup::start).await;
    let store = connect(&watched.url(), options()).await;
    let (stop, callers) = load(&store);
    tokio::time::sleep(Duration::from_millis(300)).await;
    watched.servers[0].kill();
    // A dead Sentinel does not stop the store.
    watched.sentinels[0].process.kill();
    let _watched = blocking(move || {
        watched.wait_until_replaced(0);
        watched
    })
    .await;
    live(&store, "after").await;
    stop.store(true, Ordering::Relaxed);
    assert!(callers.join_all().await.into_iter().sum::<usize>() > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_runs_scripts_that_it_does_not_know() {
    let watched = blocking(SentinelGroup::start).await;
    let store = connect(&watched.url(), options()).await;
    live(&store, "before").await;
    let _watched = blocking(move || {
        watched.sentinels[0].command(&["SENTINEL", "FAILOVER", "shop"]).unwrap();
        watched.wait_until_replaced(0);
        for server in &watched.servers {
            server.command(&["SCRIPT", "FLUSH"]);
        }
        watched
    })
    .await;
    live(&store, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_finds_the_replica_that_replaces_a_clusters_master() {
    for frozen in [false, true] {
        let mut cluster = blocking(|| Cluster::start(Kind::Redis)).await;
        let store = connect(&cluster.url(), options()).await;
        let (stop, callers) = load(&store);
        tokio::time::sleep(Duration::from_millis(300)).await;
        if frozen {
            cluster.nodes[0].process.pause();
        } else {
            cluster.nodes[0].kill();
        }
        let _cluster = blocking(move || {
            cluster.wait_until_replaced(0);
            cluster
        })
        .await;
        for n in 0..30 {
            live(&store, &format!("after:{n}")).await;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(callers.join_all().await.into_iter().sum::<usize>() > 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_under_load_and_every_key_lives_once() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let store = connect(&cluster.url(), options()).await;
    let (stop, callers) = load(&store);
    let (first, last) = SLOTS[0];
    let _cluster = blocking(move || {
        for slot in (first..=last).step_by(40) {
            cluster.move_slot(slot, 0, 1, || std::thread::sleep(Duration::from_millis(5)));
        }
        cluster
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let lives: usize = callers.join_all().await.into_iter().sum();
    assert!(lives > 100, "{lives}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_acknowledged_by_a_durable_server_survives_its_crash() {
    let mut server = Setup::new(Kind::Redis).durable().start();
    let store = connect(&server.url(), options()).await;
    live(&store, "before").await;
    server.restart();
    let before = key("before");
    let replayed = persist(|| store.reserve(&before, request(OwnerToken::random()))).await;
    assert!(matches!(replayed, ReserveOutcome::Completed { .. }), "{replayed:?}");
}
