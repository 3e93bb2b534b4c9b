//! The master that Sentinel names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use test_servers::redis::SentinelGroup;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

fn half_a_second() -> RedisOptions {
    RedisOptions::new().command_timeout(Duration::from_millis(500)).stall_timeout(Duration::from_millis(500))
}

/// Writes until `stop`. Returns the keys that were acknowledged.
fn writers(link: &Link, count: usize) -> (Arc<AtomicBool>, JoinSet<Vec<String>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..count {
        let (link, stop) = (link.clone(), Arc::clone(&stop));
        writers.spawn(async move {
            let mut written = Vec::new();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("{writer}:{n}");
                match send(&link, &["SET", &key, "v"]).await {
                    Ok(_) => written.push(key),
                    Err(failure) => assert!(is_transient(&failure), "{failure:?}"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            written
        });
    }
    (stop, writers)
}

/// Waits until another server has replaced the first as the master.
async fn replaced(watched: SentinelGroup) -> SentinelGroup {
    blocking(move || {
        watched.wait_until_replaced(0);
        watched
    })
    .await
}

/// Waits until the link leads to the current master. Returns the master's index.
async fn follows(link: &Link, watched: &SentinelGroup) -> usize {
    let promoted = watched.master().unwrap();
    let place = watched.servers[promoted].address().to_string();
    let deadline = Instant::now() + Duration::from_secs(30);
    while link.each_master(&redis::cmd("PING")).await[0].0 != place {
        assert!(Instant::now() < deadline, "the link stays with the old master");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    promoted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_followed_under_load() {
    let mut watched = SentinelGroup::start();
    let link = link(&watched.url(), &half_a_second()).await;
    let (stop, writers) = writers(&link, 8);
    tokio::time::sleep(Duration::from_millis(300)).await;
    watched.servers[0].kill();
    let watched = replaced(watched).await;
    persist(&link, &["SET", "after", "v"]).await;
    let promoted = watched.master().unwrap();
    assert_ne!(promoted, 0);
    let found = redis::from_redis_value(watched.servers[promoted].command(&["GET", "after"]));
    assert_eq!(found, Ok(Some("v".to_owned())));
    stop.store(true, Ordering::Relaxed);
    let written: usize = writers.join_all().await.iter().map(Vec::len).sum();
    assert!(written > 100, "{written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_master_that_still_takes_writes_is_left() {
    let watched = SentinelGroup::start();
    let link = link(&watched.url(), &half_a_second()).await;
    ask(&link, &["SET", "before", "v"]).await;
    // The old master stays up and no connection breaks: for the next ten seconds only the announcement reports it.
    watched.sentinels[0].command(&["SENTINEL", "FAILOVER", "shop"]).unwrap();
    let watched = replaced(watched).await;
    let promoted = follows(&link, &watched).await;
    persist(&link, &["SET", "after", "v"]).await;
    let found = redis::from_redis_value(watched.servers[promoted].command(&["GET", "after"]));
    assert_eq!(found, Ok(Some("v".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_master_is_replaced_and_left() {
    let watched = SentinelGroup::start();
    let link = link(&watched.url(), &half_a_second()).await;
    ask(&link, &["SET", "before", "v"]).await;
    watched.servers[0].process.pause();
    let watched = replaced(watched).await;
    persist(&link, &["SET", "after", "v"]).await;
    watched.servers[0].process.resume();
    let promoted = watched.master().unwrap();
    let found = redis::from_redis_value(watched.servers[promoted].command(&["GET", "after"]));
    assert_eq!(found, Ok(Some("v".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_a_frozen_sentinel_do_not_stop_a_link() {
    let mut watched = SentinelGroup::start();
    watched.sentinels[0].process.kill();
    let first = link(&watched.url(), &half_a_second()).await;
    ask(&first, &["SET", "k", "v"]).await;
    watched.sentinels[1].process.pause();
    let second = link(&watched.url(), &half_a_second()).await;
    assert_eq!(ask(&second, &["GET", "k"]).await, Value::BulkString(b"v".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_servers_have_logins_of_their_own() {
    let secured = |setup: test_servers::redis::Setup| {
        setup.set(&["requirepass", "server-s3cr3t"]).set(&["masterauth", "server-s3cr3t"])
    };
    let watched = SentinelGroup::secured(secured, "server-s3cr3t", "sentinel-s3cr3t");
    let url = watched.url();
    let hosts = url.strip_prefix("redis+sentinel://").unwrap();
    let full = format!("redis+sentinel://:server-s3cr3t@{hosts}?sentinel_password=sentinel-s3cr3t");
    ask(&link(&full, &half_a_second()).await, &["SET", "k", "v"]).await;

    for url in [
        url.clone(),
        format!("redis+sentinel://:server-s3cr3t@{hosts}"),
        format!("redis+sentinel://{hosts}?sentinel_password=sentinel-s3cr3t"),
        format!("redis+sentinel://:server-s3cr3t@{hosts}?sentinel_password=wr0ng"),
        format!("redis+sentinel://:wr0ng@{hosts}?sentinel_password=sentinel-s3cr3t"),
    ] {
        let error = try_link(&url, &half_a_second()).await.err().unwrap();
        assert_eq!(
            (error.kind, error.effect),
            (StoreErrorKind::Misconfigured, Effect::NotApplied),
            "{error:?}"
        );
        let shown = format!("{error:?} {error} {}", std::error::Error::source(&error).unwrap());
        assert!(!shown.contains("s3cr3t") && !shown.contains("wr0ng"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_sentinels_do_not_know_is_misconfigured() {
    let watched = SentinelGroup::start();
    let error = try_link(&watched.url().replace("shop", "pub"), &half_a_second()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_sentinels_needs_three_commands() {
    let watched = SentinelGroup::start();
    // The rights that the README names.
    let rules = "on >p -@all +subscribe &+switch-master +sentinel|get-master-addr-by-name +sentinel|master";
    for sentinel in &watched.sentinels {
        let command: Vec<_> = ["ACL", "SETUSER", "app"].into_iter().chain(rules.split(' ')).collect();
        sentinel.command(&command).unwrap();
    }
    let url = format!("{}?sentinel_user=app&sentinel_password=p", watched.url());
    let link = link(&url, &half_a_second()).await;
    ask(&link, &["SET", "before", "v"]).await;
    watched.sentinels[0].command(&["SENTINEL", "FAILOVER", "shop"]).unwrap();
    let watched = replaced(watched).await;
    follows(&link, &watched).await;
}

/// How many connections listen to each Sentinel. Sentinels do not listen to each other in this way.
fn listeners(watched: &SentinelGroup) -> Vec<usize> {
    let count = |clients: String| clients.lines().filter(|client| client.contains("cmd=subscribe")).count();
    let clients = |sentinel: &test_servers::redis::Sentinel| {
        redis::from_redis_value(sentinel.command(&["CLIENT", "LIST"]).unwrap()).unwrap()
    };
    watched.sentinels.iter().map(|sentinel| count(clients(sentinel))).collect()
}

#[tokio::test]
async fn sentinels_are_left_at_once_when_the_last_link_is_dropped() {
    let mut watched = blocking(SentinelGroup::start).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let link = link(&watched.url(), &half_a_second()).await;
    let another = link.clone();
    watched = blocking(move || {
        test_servers::eventually("a connection listens to each Sentinel", || {
            listeners(&watched) == [1, 1, 1]
        });
        watched
    })
    .await;
    drop(link);
    tokio::task::yield_now().await;
    assert!(tasks() >= before + 3, "one link is left, and nothing follows for it");
    drop(another);
    // Without waiting: aborted tasks end when they are next polled.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tasks(), before, "a task still follows");
    blocking(move || {
        test_servers::eventually("no connection listens", || listeners(&watched) == [0, 0, 0]);
    })
    .await;
}
