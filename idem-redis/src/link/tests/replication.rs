//! Operations that replicas have to have.

use test_servers::redis::{Cluster, Kind, Server};
use test_servers::{Proxy, eventually};
use tokio::time::Instant;

use super::*;

fn options(patience: Duration) -> Options {
    Options::new().replicas(1, patience)
}

/// Writes, and says whether the replica had it in time.
async fn write(link: &Link, key: &str) -> Result<(), Failure> {
    let pledge = link.pledge(key.as_bytes()).await?.expect("it was asked for");
    ask(link, &["SET", key, "v"]).await;
    pledge.kept().await
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
        let patience = Duration::from_secs(2);
        let link = link(&master.url(), &options(patience)).await;
        write(&link, "warm").await.unwrap();
        replica.process.pause();
        let waiting = tokio::spawn({
            let link = link.clone();
            async move { write(&link, "k").await }
        });
        // Others go on meanwhile: hundreds of round trips in the time of one wait.
        let began = Instant::now();
        for _ in 0..200 {
            ask(&link, &["INCR", "n"]).await;
        }
        assert!(began.elapsed() < patience, "the shared connection has waited");
        let failure = waiting.await.unwrap().unwrap_err();
        assert_eq!(said(&failure), (StoreErrorKind::Timeout, Effect::Unknown));
        assert!(failure.error.to_string().contains("of 1 replicas"), "{failure:?}");
        replica.process.resume();
        write(&link, "k").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_one_crossing() {
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
    let crossings = waits(&master) - before;
    assert!((1..500).contains(&crossings), "{crossings} for 1000 callers");
}

fn waits(server: &Server) -> u64 {
    let line = server.info("cmdstat_wait").unwrap_or_default();
    line.split(',')
        .find_map(|part| part.strip_prefix("calls="))
        .and_then(|calls| calls.parse().ok())
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_was_restarted_meanwhile_vouches_for_nothing() {
    let (mut master, _replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let link = link(&master.url(), &options(Duration::from_secs(20))).await;
    let pledge = link.pledge(b"k").await.unwrap().unwrap();
    ask(&link, &["SET", "k", "v"]).await;
    // It comes back without its data, and its replica follows it there: nothing is missing, if one asks now.
    let master = blocking(move || {
        master.restart();
        master
    })
    .await;
    persist(&link, &["PING"]).await;
    let failure = pledge.kept().await.unwrap_err();
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
async fn a_barrier_that_was_made_anew_vouches_for_nothing_that_came_before() {
    let (master, _replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let link = link(&master.url(), &options(Duration::from_secs(20))).await;
    write(&link, "warm").await.unwrap();
    let pledge = link.pledge(b"k").await.unwrap().unwrap();
    ask(&link, &["SET", "k", "v"]).await;
    cut_barrier(&master);
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(failure) = write(&link, "another").await {
        assert!(is_transient(&failure) && Instant::now() < deadline, "{failure:?}");
    }
    assert_eq!(pledge.kept().await.unwrap_err().effect, Effect::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_can_still_cross() {
    let (master, _replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let link = link(&master.url(), &options(Duration::from_secs(20))).await;
    write(&link, "k").await.unwrap();
    master.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let pledge = link.pledge(b"k").await.unwrap().unwrap();
    ask(&link, &["PEXPIRE", "k", "100000"]).await;
    pledge.kept().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_replica_of_the_keys_own_master_counts() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options(Duration::from_secs(1))).await;
    let key = |first: u16, last: u16| {
        (0..1000)
            .map(|n| format!("k{n}"))
            .find(|key| (first..=last).contains(&crate::link::slot(key.as_bytes())))
            .unwrap()
    };
    let (first, second) = (key(0, 5460), key(5461, 10_922));
    write(&link, &first).await.unwrap();
    write(&link, &second).await.unwrap();
    cluster.nodes[3].process.pause();
    let failure = write(&link, &first).await.unwrap_err();
    assert_eq!(said(&failure), (StoreErrorKind::Timeout, Effect::Unknown));
    write(&link, &second).await.unwrap();
    cluster.nodes[3].process.resume();
}

#[tokio::test]
async fn without_the_option_nobody_is_asked() {
    let server = Server::redis();
    let link = link(&server.url(), &Options::new()).await;
    assert!(link.pledge(b"k").await.unwrap().is_none());
}

#[test]
fn a_crossing_that_ended_with_its_runtime_is_in_nobodys_way() {
    let (master, _replica) = Server::with_replica(Kind::Redis);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let link = first.block_on(link(&master.url(), &options(Duration::from_secs(20))));
    first.block_on(async {
        let pledge = link.pledge(b"k").await.unwrap().unwrap();
        ask(&link, &["SET", "k", "v"]).await;
        // Its task is there, and has not run yet.
        let mut kept = std::pin::pin!(pledge.kept());
        std::future::poll_fn(|cx| std::task::Poll::Ready(kept.as_mut().poll(cx).is_pending())).await;
    });
    drop(first);
    let second = runtime();
    second.block_on(async {
        persist(&link, &["PING"]).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        let written = async {
            while write(&link, "k").await.is_err() {
                assert!(Instant::now() < deadline, "in vain");
            }
        };
        tokio::time::timeout(Duration::from_secs(10), written).await.expect("somebody waits for ever");
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
    // The address leads to another server from now on, as after a failover behind a name. The connection for commands stays
    // where it is; the one that waits for replicas is made anew.
    proxy.retarget(other.address());
    cut_barrier(&lonely);
    let deadline = Instant::now() + Duration::from_secs(30);
    while write(&link, "k").await.is_err() {
        assert!(Instant::now() < deadline, "in vain");
    }
    assert_eq!(
        other.command(&["EXISTS", "k"]),
        Value::Int(1),
        "acknowledged by a replica that does not have it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_served_when_the_slots_were_looked_up_needs_its_replica_too() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let owner = test_servers::redis::owner_of(crate::link::slot(b"k"));
    let slot = crate::link::slot(b"k").to_string();
    cluster.nodes.iter().for_each(|node| drop(node.try_command(&["CLUSTER", "DELSLOTS", &slot])));
    let link = link(&cluster.url(), &options(Duration::from_secs(20))).await;
    assert_eq!(link.pledge(b"k").await.err().unwrap().effect, Effect::NotApplied);
    cluster.nodes[owner].command(&["CLUSTER", "ADDSLOTS", &slot]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(failure) = link.pledge(b"k").await {
        assert!(is_transient(&failure) && Instant::now() < deadline, "{failure:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    write(&link, "k").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_move_are_no_matter_of_those_that_stay() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let link = link(&cluster.url(), &options(Duration::from_secs(20))).await;
    write(&link, "k").await.unwrap();
    let moving =
        (0..1000).map(|n| format!("m{n}")).find(|key| crate::link::slot(key.as_bytes()) < 5461).unwrap();
    let slot = crate::link::slot(moving.as_bytes()).to_string();
    cluster.nodes[1].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &Cluster::id(0)]);
    cluster.nodes[0].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &Cluster::id(1)]);
    let pledge = link.pledge(b"k").await.unwrap().unwrap();
    ask(&link, &["SET", "k", "v"]).await;
    // It is not there yet, so that the first node sends us to the second.
    ask(&link, &["SET", &moving, "v"]).await;
    pledge.kept().await.unwrap();
}

#[test]
fn a_crossing_on_a_runtime_that_nobody_drives_makes_nobody_wait_for_longer_than_replicas_may_take() {
    let (master, _replica) = Server::with_replica(Kind::Redis);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let span = Duration::from_millis(200);
    let idle = runtime();
    let link = idle.block_on(link(&master.url(), &impatient().replicas(1, span)));
    idle.block_on(async {
        let pledge = link.pledge(b"k").await.unwrap().unwrap();
        ask(&link, &["SET", "k", "v"]).await;
        // Its task is there, and does not run from now on.
        let mut kept = std::pin::pin!(pledge.kept());
        std::future::poll_fn(|cx| std::task::Poll::Ready(kept.as_mut().poll(cx).is_pending())).await;
    });
    runtime().block_on(async {
        persist(&link, &["PING"]).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < deadline, "in vain");
            // Its connections were the other runtime's, too, and are made anew.
            let Ok(Some(pledge)) = link.pledge(b"k").await else { continue };
            if send(&link, &["SET", "k", "v"]).await.is_err() {
                continue;
            }
            let kept = tokio::time::timeout(Duration::from_secs(10), pledge.kept()).await;
            match kept.expect("somebody waits for ever") {
                Ok(()) => break,
                Err(failure) => assert_eq!(failure.effect, Effect::Unknown, "{failure:?}"),
            }
        }
    });
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_others_wait_for_replicas_waits_for_no_longer_than_they() {
    let (master, replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let patience = Duration::from_secs(2);
    let link = link(&master.url(), &options(patience)).await;
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
    assert_eq!(said(&failure), (StoreErrorKind::Timeout, Effect::Unknown));
    assert!(began.elapsed() < patience * 3 / 2, "it waited for its own crossing after the first");
    first.await.unwrap().unwrap_err();
    drop((master, replica));
}
