//! Connections that are lost, stall or are shared by many callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use test_servers::redis::{Kind, Server, Setup};
use test_servers::{Proxy, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::*;

fn through(proxy: &Proxy) -> String {
    format!("redis://{}", proxy.address())
}

#[tokio::test]
async fn an_error_that_the_server_answers_had_no_effect() {
    let server = Server::redis();
    let link = link(&server.url(), &RedisOptions::new()).await;
    ask(&link, &["SET", "k", "v"]).await;
    let failure = send(&link, &["LPUSH", "k", "x"]).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Corrupt, Effect::NotApplied));
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left_and_is_used_again_when_it_is_promoted() {
    let (server, other) = (Server::redis(), Server::redis());
    let link = link(&server.url(), &short_timeouts()).await;
    ask(&link, &["SET", "k", "v"]).await;
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let failure = send(&link, &["SET", "k", "w"]).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Unavailable, Effect::NotApplied));
    let failure = send(&link, &["SET", "k", "w"]).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Unavailable, Effect::NotApplied));
    server.command(&["REPLICAOF", "NO", "ONE"]);
    persist(&link, &["SET", "k", "w"]).await;
}

#[tokio::test]
async fn an_idle_connection_that_is_cut_is_replaced_before_the_next_call() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &RedisOptions::new()).await;
    ask(&link, &["SET", "k", "v"]).await;
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    timeout(Duration::from_secs(10), async {
        while proxy.connections() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    // The next call waits for the new connection and notices nothing.
    assert_eq!(ask(&link, &["GET", "k"]).await, Value::BulkString(b"v".to_vec()));
}

#[tokio::test]
async fn a_command_whose_answer_is_cut_off_has_an_unknown_effect_and_the_next_one_works() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &RedisOptions::new()).await;
    proxy.cut_before_next_reply();
    let failure = send(&link, &["INCR", "n"]).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Unavailable, Effect::Unknown));
    // It was carried out once: the link resends nothing.
    assert_eq!(ask(&link, &["GET", "n"]).await, Value::BulkString(b"1".to_vec()));
}

#[tokio::test]
async fn a_stalled_connection_is_replaced() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &short_timeouts()).await;
    proxy.silence();
    let failure = send(&link, &["INCR", "n"]).await.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Timeout, Effect::Unknown));
    assert_eq!(ask(&link, &["GET", "n"]).await, Value::BulkString(b"1".to_vec()));
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_stalled_connection_is_closed_once_its_callers_have_left() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &short_timeouts()).await;
    proxy.silence();
    send(&link, &["PING"]).await.unwrap_err();
    ask(&link, &["PING"]).await;
    blocking(move || {
        // The new connection, and the one that asks.
        eventually("the old connection is closed", || {
            server.info("connected_clients").as_deref() == Some("2")
        });
    })
    .await;
}

#[tokio::test]
async fn a_connection_on_which_some_commands_are_answered_is_not_stalled() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let options = short_timeouts().stall_timeout(Duration::from_secs(3600));
    let link = link(&through(&proxy), &options).await;
    for _ in 0..3 {
        proxy.hold_replies(true);
        send(&link, &["PING"]).await.unwrap_err();
        proxy.hold_replies(false);
        // The late answer was discarded; this one is the command's own.
        assert_eq!(ask(&link, &["ECHO", "own"]).await, Value::BulkString(b"own".to_vec()));
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_frozen_server_times_out_and_works_again_when_it_thaws() {
    let server = Server::redis();
    let link = link(&server.url(), &short_timeouts()).await;
    ask(&link, &["SET", "k", "v"]).await;
    server.process.pause();
    let mut failures = Vec::new();
    for _ in 0..4 {
        let failure = send(&link, &["INCR", "n"]).await.unwrap_err();
        failures.push(kind_and_effect(&failure));
    }
    // The first was sent and not answered. Then there is no connection, because a frozen server accepts none.
    assert_eq!(failures[0], (StoreErrorKind::Timeout, Effect::Unknown));
    assert!(
        failures[1..].iter().all(|failure| *failure == (StoreErrorKind::Unavailable, Effect::NotApplied)),
        "{failures:?}"
    );
    server.process.resume();
    persist(&link, &["SET", "k", "w"]).await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_found_again() {
    let mut server = Setup::new(Kind::Redis).durable().start();
    let link = link(&server.url(), &RedisOptions::new()).await;
    ask(&link, &["SET", "k", "v"]).await;
    server.kill();
    let mut last = send(&link, &["GET", "k"]).await.unwrap_err();
    assert!(is_transient(&last), "{last:?}");
    // Once the link has noticed, nothing is sent.
    for _ in 0..3 {
        last = send(&link, &["GET", "k"]).await.unwrap_err();
    }
    assert_eq!(kind_and_effect(&last), (StoreErrorKind::Unavailable, Effect::NotApplied));
    server.restart();
    assert_eq!(persist(&link, &["GET", "k"]).await, Value::BulkString(b"v".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_callers_share_a_link_with_few_permits() {
    let server = Server::redis();
    let options = RedisOptions::new().max_in_flight(16).command_timeout(Duration::from_secs(60));
    let link = link(&server.url(), &options).await;
    let mut callers = JoinSet::new();
    for _ in 0..10_000 {
        let link = link.clone();
        callers.spawn(async move { ask(&link, &["INCR", "n"]).await });
    }
    callers.join_all().await;
    assert_eq!(ask(&link, &["GET", "n"]).await, Value::BulkString(b"10000".to_vec()));
}

#[tokio::test]
async fn a_caller_that_gets_no_permit_in_time_fails_without_effect() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let half_a_second = short_timeouts().stall_timeout(Duration::from_secs(3600));
    let link = link(&through(&proxy), &half_a_second.max_in_flight(1)).await;
    proxy.hold_replies(true);
    let (first, second) = tokio::join!(send(&link, &["PING"]), send(&link, &["PING"]));
    assert_eq!(kind_and_effect(&first.unwrap_err()), (StoreErrorKind::Timeout, Effect::Unknown));
    let failure = second.unwrap_err();
    assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Unavailable, Effect::NotApplied));
    assert!(failure.error.to_string().contains("max_in_flight"), "{failure:?}");
    proxy.hold_replies(false);
    ask(&link, &["PING"]).await;
}

#[tokio::test]
async fn a_caller_that_leaves_frees_its_permit_and_the_answers_stay_in_order() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &RedisOptions::new().max_in_flight(2)).await;
    for n in 0..20 {
        proxy.hold_replies(true);
        let text = n.to_string();
        let command = ["ECHO", text.as_str()];
        assert!(timeout(Duration::from_millis(5), send(&link, &command)).await.is_err());
        proxy.hold_replies(false);
        assert_eq!(ask(&link, &["ECHO", "own"]).await, Value::BulkString(b"own".to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_carried_out_twice_while_links_are_cut_under_load() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &RedisOptions::new()).await;
    let (done, unknown) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let (link, done, unknown) = (link.clone(), Arc::clone(&done), Arc::clone(&unknown));
        callers.spawn(async move {
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end {
                match send(&link, &["INCR", "n"]).await {
                    Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                    Err(failure) if failure.effect == Effect::Unknown => {
                        unknown.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(_) => 0,
                };
            }
        });
    }
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(40)).await;
        proxy.cut();
    }
    callers.join_all().await;
    let carried_out: usize = redis::from_redis_value(persist(&link, &["GET", "n"]).await).unwrap();
    let (done, unknown) = (done.load(Ordering::Relaxed), unknown.load(Ordering::Relaxed));
    assert!(
        (done..=done + unknown).contains(&carried_out),
        "{done} done, {unknown} unknown, {carried_out} counted"
    );
    assert!(done > 0 && unknown > 0, "{done} done, {unknown} unknown");
}

#[test]
fn a_link_survives_the_runtime_that_it_was_made_on() {
    let server = Server::redis();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let link = runtime().block_on(link(&server.url(), &RedisOptions::new()));
    runtime().block_on(persist(&link, &["SET", "k", "v"]));
    runtime().block_on(persist(&link, &["GET", "k"]));
}

#[test]
fn a_link_that_was_lost_when_its_runtime_ended_is_found_again_on_another() {
    let server = Server::redis();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let link = first.block_on(link(&server.url(), &short_timeouts()));
    server.process.pause();
    // It times out, and then the runtime ends: the task that would connect again has not run yet.
    first.block_on(send(&link, &["PING"])).unwrap_err();
    drop(first);
    server.process.resume();
    runtime().block_on(persist(&link, &["SET", "k", "v"]));
}

#[tokio::test]
async fn a_stalled_connection_is_replaced_even_if_all_callers_leave_early() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let options = short_timeouts().command_timeout(Duration::from_secs(3600));
    let link = link(&through(&proxy), &options).await;
    proxy.silence();
    let deadline = Instant::now() + Duration::from_secs(10);
    while timeout(Duration::from_millis(5), send(&link, &["PING"])).await.is_err() {
        assert!(Instant::now() < deadline, "the link stays silent");
    }
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn commands_of_callers_that_left_a_stalled_connection_are_freed_with_it() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let options = short_timeouts().command_timeout(Duration::from_secs(3600)).max_in_flight(16);
    let link = link(&through(&proxy), &options).await;
    proxy.silence();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut left = 0;
    while timeout(Duration::from_millis(1), send(&link, &["PING"])).await.is_err() {
        left += 1;
        assert!(Instant::now() < deadline, "the link stays silent");
    }
    assert!(left > 16, "{left} are no more than have places");
    blocking(move || {
        // The new connection, and the one that asks.
        eventually("the old connection is closed, with all that was on it", || {
            server.info("connected_clients").as_deref() == Some("2")
        });
    })
    .await;
}
