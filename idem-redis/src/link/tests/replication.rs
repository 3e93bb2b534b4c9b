//! Operations that wait for replicas.

use test_servers::redis::{Cluster, Kind, Server};
use test_servers::{Proxy, eventually};
use tokio::time::Instant;

use super::*;

fn options(timeout: Duration) -> RedisOptions {
    RedisOptions::new().replicas(1, timeout)
}

/// Writes, and waits for the replica.
async fn write(link: &Link, key: &str) -> Result<(), Failure> {
    let wait = link.replication_wait(key.as_bytes()).await?.expect("the options ask for it");
    ask(link, &["SET", key, "v"]).await;
    wait.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_on_the_replica() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let (master, replica) = blocking(move || Server::with_replica(kind)).await;
        let link = link(&master.url(), &options(Duration::from_secs(20))).await;
        for n in 0..20 {
            let key = format!("k{n}");
            write(&link, &key).await.unwrap();
            assert_eq!(replica.command(&["GET", &key]), Value::BulkString(b"v".to_vec()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_replica_acknowledges_nothing_and_the_shared_connection_does_not_wait() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let (master, replica) = blocking(move || Server::with_replica(kind)).await;
        let timeout = Duration::from_secs(2);
        let link = link(&master.url(), &options(timeout)).await;
        write(&link, "warm").await.unwrap();
        replica.process.pause();
        let waiting = tokio::spawn({
            let link = link.clone();
            async move { write(&link, "k").await }
        });
        // Other commands go on: hundreds of round trips during one wait.
        let began = Instant::now();
        for _ in 0..200 {
            ask(&link, &["INCR", "n"]).await;
        }
        assert!(began.elapsed() < timeout, "the shared connection has waited");
        let failure = waiting.await.unwrap().unwrap_err();
        assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Timeout, Effect::Unknown));
        assert!(failure.error.to_string().contains("of 1 replicas"), "{failure:?}");
        replica.process.resume();
        write(&link, "k").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_one_round() {
    let (master, _replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let link = link(&master.url(), &options(Duration::from_secs(20))).await;
    write(&link, "warm").await.unwrap();
    let before = waits(&master);
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let link = link.clone();
        callers.spawn(async move { write(&link, &format!("k{n}")).await.unwrap() });
    }
    callers.join_all().await;
    let rounds = waits(&master) - before;
    assert!((1..500).contains(&rounds), "{rounds} for 1000 callers");
}

fn waits(server: &Server) -> u64 {
    let line = server.info("cmdstat_wait").unwrap_or_default();
    line.split(',')
        .find_map(|part| part.strip_prefix("calls="))
        .and_then(|calls| calls.parse().ok())
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_was_restarted_in_between_acknowledges_nothing() {
    let (mut master, _replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let link = link(&master.url(), &options(Duration::from_secs(20))).await;
    let wait = link.replication_wait(b"k").await.unwrap().unwrap();
    ask(&link, &["SET", "k", "v"]).await;
    // It comes back without its data, and so does its replica: `WAIT` would now report success.
    let master = blocking(move || {
        master.restart();
        master
    })
    .await;
    persist(&link, &["PING"]).await;
    let failure = wait.finish().await.unwrap_err();
    assert_eq!(failure.effect, Effect::Unknown);
    drop(master);
}

/// Cuts the connection that waits for replicas, and no other.
fn cut_barrier(master: &Server) {
    let clients: String = redis::from_redis_value(master.command(&["CLIENT", "LIST"])).unwrap();
    let waiting = clients.lines().find(|line| line.contains("cmd=wait")).unwrap();
    let id = waiting.split(' ').next().and_then(|id| id.strip_prefix("id=")).unwrap();
    master.command(&["CLIENT", "KILL", "ID", id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_barrier_connection_acknowledges_nothing_that_was_sent_before_it() {
    let (master, _replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let link = link(&master.url(), &options(Duration::from_secs(20))).await;
    write(&link, "warm").await.unwrap();
    let wait = link.replication_wait(b"k").await.unwrap().unwrap();
    ask(&link, &["SET", "k", "v"]).await;
    cut_barrier(&master);
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(failure) = write(&link, "another").await {
        assert!(is_transient(&failure) && Instant::now() < deadline, "{failure:?}");
    }
    assert_eq!(wait.finish().await.unwrap_err().effect, Effect::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_still_waits_for_replicas() {
    let (master, _replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let link = link(&master.url(), &options(Duration::from_secs(20))).await;
    write(&link, "k").await.unwrap();
    master.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let wait = link.replication_wait(b"k").await.unwrap().unwrap();
    ask(&link, &["PEXPIRE", "k", "100000"]).await;
    wait.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_only_the_replicas_of_the_keys_master_count() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options(Duration::from_secs(1))).await;
    let key = |first: u16, last: u16| {
        (0..1000)
            .map(|n| format!("k{n}"))
            .find(|key| (first..=last).contains(&crate::link::cluster::slot(key.as_bytes())))
            .unwrap()
    };
    let (first, second) = (key(0, 5460), key(5461, 10_922));
    write(&link, &first).await.unwrap();
    write(&link, &second).await.unwrap();
    cluster.nodes[3].process.pause();
    let failure = write(&link, &first).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Timeout, Effect::Unknown));
    write(&link, &second).await.unwrap();
    cluster.nodes[3].process.resume();
}

#[tokio::test]
async fn without_the_option_no_replica_is_asked() {
    let server = Server::redis();
    let link = link(&server.url(), &RedisOptions::new()).await;
    assert!(link.replication_wait(b"k").await.unwrap().is_none());
}

#[test]
fn a_round_that_ended_with_its_runtime_does_not_block_the_next() {
    let (master, _replica) = Server::with_replica(Kind::Redis);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let link = first.block_on(link(&master.url(), &options(Duration::from_secs(20))));
    first.block_on(async {
        let wait = link.replication_wait(b"k").await.unwrap().unwrap();
        ask(&link, &["SET", "k", "v"]).await;
        // Its task exists and has not run yet.
        let mut finished = std::pin::pin!(wait.finish());
        std::future::poll_fn(|cx| std::task::Poll::Ready(finished.as_mut().poll(cx).is_pending())).await;
    });
    drop(first);
    let second = runtime();
    second.block_on(async {
        persist(&link, &["PING"]).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        let written = async {
            while write(&link, "k").await.is_err() {
                assert!(Instant::now() < deadline, "it never succeeds");
            }
        };
        tokio::time::timeout(Duration::from_secs(10), written).await.expect("a caller waits forever");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_of_another_server_behind_the_same_address_does_not_count() {
    let (lonely, (other, _replica)) = (Server::redis(), blocking(|| Server::with_replica(Kind::Redis)).await);
    let proxy = Proxy::start(lonely.address()).await;
    let options = options(Duration::from_millis(100));
    let link = link(&format!("redis://{}", proxy.address()), &options).await;
    let failure = write(&link, "k").await.unwrap_err();
    assert!(failure.error.to_string().contains("of 1 replicas"), "{failure:?}");
    // From now on the address leads to another server, as after a failover behind a name. The connection for commands
    // stays; the barrier's is made again.
    proxy.retarget(other.address());
    cut_barrier(&lonely);
    let deadline = Instant::now() + Duration::from_secs(30);
    while write(&link, "k").await.is_err() {
        assert!(Instant::now() < deadline, "it never succeeds");
    }
    assert_eq!(
        other.command(&["EXISTS", "k"]),
        Value::Int(1),
        "acknowledged by a replica that does not have it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_without_a_node_at_the_lookup_waits_for_its_replica_too() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let owner = test_servers::redis::owner_of(crate::link::cluster::slot(b"k"));
    let slot = crate::link::cluster::slot(b"k").to_string();
    cluster.nodes.iter().for_each(|node| drop(node.try_command(&["CLUSTER", "DELSLOTS", &slot])));
    let link = link(&cluster.url(), &options(Duration::from_secs(20))).await;
    assert_eq!(link.replication_wait(b"k").await.err().unwrap().effect, Effect::NotApplied);
    cluster.nodes[owner].command(&["CLUSTER", "ADDSLOTS", &slot]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(failure) = link.replication_wait(b"k").await {
        assert!(is_transient(&failure) && Instant::now() < deadline, "{failure:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    write(&link, "k").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_move_do_not_affect_those_that_stay() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options(Duration::from_secs(20))).await;
    write(&link, "k").await.unwrap();
    let moving = (0..1000)
        .map(|n| format!("m{n}"))
        .find(|key| crate::link::cluster::slot(key.as_bytes()) < 5461)
        .unwrap();
    let slot = crate::link::cluster::slot(moving.as_bytes()).to_string();
    cluster.nodes[1].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &Cluster::id(0)]);
    cluster.nodes[0].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &Cluster::id(1)]);
    let wait = link.replication_wait(b"k").await.unwrap().unwrap();
    ask(&link, &["SET", "k", "v"]).await;
    // The key is not there yet, so the first node redirects to the second.
    ask(&link, &["SET", &moving, "v"]).await;
    wait.finish().await.unwrap();
}

#[test]
fn a_round_on_a_stopped_runtime_delays_no_caller_beyond_the_replica_timeout() {
    let (master, _replica) = Server::with_replica(Kind::Redis);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let span = Duration::from_millis(200);
    let idle = runtime();
    let link = idle.block_on(link(&master.url(), &short_timeouts().replicas(1, span)));
    idle.block_on(async {
        let wait = link.replication_wait(b"k").await.unwrap().unwrap();
        ask(&link, &["SET", "k", "v"]).await;
        // Its task exists and never runs.
        let mut finished = std::pin::pin!(wait.finish());
        std::future::poll_fn(|cx| std::task::Poll::Ready(finished.as_mut().poll(cx).is_pending())).await;
    });
    runtime().block_on(async {
        persist(&link, &["PING"]).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < deadline, "it never succeeds");
            // The link's connections belonged to the other runtime too, and are made again.
            let Ok(Some(wait)) = link.replication_wait(b"k").await else { continue };
            if send(&link, &["SET", "k", "v"]).await.is_err() {
                continue;
            }
            let kept = tokio::time::timeout(Duration::from_secs(10), wait.finish()).await;
            match kept.expect("a caller waits forever") {
                Ok(()) => break,
                Err(failure) => assert_eq!(failure.effect, Effect::Unknown, "{failure:?}"),
            }
        }
    });
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_joins_others_waiting_for_replicas_waits_no_longer_than_they_do() {
    let (master, replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let timeout = Duration::from_secs(2);
    let link = link(&master.url(), &options(timeout)).await;
    write(&link, "warm").await.unwrap();
    replica.process.pause();
    let first = tokio::spawn({
        let link = link.clone();
        async move { write(&link, "k").await }
    });
    let master = blocking(move || {
        eventually("the first waits", || master.info("blocked_clients").as_deref() == Some("1"));
        master
    })
    .await;
    let began = Instant::now();
    let failure = write(&link, "l").await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Timeout, Effect::Unknown));
    assert!(began.elapsed() < timeout * 3 / 2, "it waited for its own round after the first");
    first.await.unwrap().unwrap_err();
    drop((master, replica));
}
