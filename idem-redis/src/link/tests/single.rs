//! One server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use test_servers::redis::{Kind, Server, Setup};
use test_servers::{Proxy, eventually, free_port};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::*;
use crate::link::Connection;

fn through(proxy: &Proxy) -> String {
    format!("redis://{}", proxy.address())
}

#[tokio::test]
async fn commands_go_by_tcp_and_by_socket() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Setup::new(kind).start();
        for url in [server.url(), server.socket_url()] {
            let link = link(&url, &Options::new()).await;
            assert_eq!(ask(&link, &["SET", "k", "v"]).await, Value::Okay);
            assert_eq!(ask(&link, &["GET", "k"]).await, Value::BulkString(b"v".to_vec()));
        }
    }
}

#[tokio::test]
async fn an_error_that_the_server_answers_had_no_effect() {
    let server = Server::redis();
    let link = link(&server.url(), &Options::new()).await;
    ask(&link, &["SET", "k", "v"]).await;
    let failure = send(&link, &["LPUSH", "k", "x"]).await.unwrap_err();
    assert_eq!(said(&failure), (StoreErrorKind::Corrupt, Effect::NotApplied));
}

#[tokio::test]
async fn a_database_is_selected_and_a_login_is_made() {
    let server = Setup::new(Kind::Redis).set(&["requirepass", "s3cr3t"]).start();
    let at = |login: &str, db: u8| format!("redis://{login}127.0.0.1:{}/{db}", server.port());
    let third = link(&at(":s3cr3t@", 3), &Options::new()).await;
    ask(&third, &["SET", "k", "v"]).await;
    let first = link(&at("default:s3cr3t@", 0), &Options::new()).await;
    assert_eq!(ask(&first, &["GET", "k"]).await, Value::Nil);

    for (login, secret) in [("", "s3cr3t"), (":wr0ng@", "wr0ng"), ("default:wr0ng@", "wr0ng")] {
        let error = try_link(&at(login, 0), &Options::new()).await.err().unwrap();
        assert_eq!(
            (error.kind, error.effect),
            (StoreErrorKind::Misconfigured, Effect::NotApplied),
            "{error:?}"
        );
        let shown = format!("{error:?} {error} {}", std::error::Error::source(&error).unwrap());
        assert!(!shown.contains(secret), "{shown}");
    }
    let error = try_link(&at(":s3cr3t@", 99), &Options::new()).await.err().unwrap();
    assert_eq!(error.kind, StoreErrorKind::Misconfigured, "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let error = try_link(&url, &Options::new()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
}

#[tokio::test]
async fn a_replica_is_no_place_for_records() {
    let master = Server::redis();
    let port = master.port().to_string();
    let replica = Setup::new(Kind::Redis).set(&["replicaof", "127.0.0.1", &port]).start();
    let error = try_link(&replica.url(), &Options::new()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("the server is a replica"), "{source}");
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left_and_found_again_when_it_is_one_no_more() {
    let (server, other) = (Server::redis(), Server::redis());
    let link = link(&server.url(), &impatient()).await;
    ask(&link, &["SET", "k", "v"]).await;
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let failure = send(&link, &["SET", "k", "w"]).await.unwrap_err();
    assert_eq!(said(&failure), (StoreErrorKind::Unavailable, Effect::NotApplied));
    let failure = send(&link, &["SET", "k", "w"]).await.unwrap_err();
    assert_eq!(said(&failure), (StoreErrorKind::Unavailable, Effect::NotApplied));
    server.command(&["REPLICAOF", "NO", "ONE"]);
    persist(&link, &["SET", "k", "w"]).await;
}

#[tokio::test]
async fn an_idle_link_that_is_cut_is_made_anew_before_anybody_calls() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &Options::new()).await;
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
    // The next call waits for it, and does not know.
    assert_eq!(ask(&link, &["GET", "k"]).await, Value::BulkString(b"v".to_vec()));
}

#[tokio::test]
async fn a_command_whose_answer_is_cut_off_is_of_unknown_effect_and_the_next_one_works() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &Options::new()).await;
    proxy.cut_before_next_reply();
    let failure = send(&link, &["INCR", "n"]).await.unwrap_err();
    assert_eq!(said(&failure), (StoreErrorKind::Unavailable, Effect::Unknown));
    // It was carried out once: the link sends nothing again.
    assert_eq!(ask(&link, &["GET", "n"]).await, Value::BulkString(b"1".to_vec()));
}

#[tokio::test]
async fn a_silent_link_is_rebuilt() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &impatient()).await;
    proxy.silence();
    let failure = send(&link, &["INCR", "n"]).await.unwrap_err();
    assert_eq!(said(&failure), (StoreErrorKind::Timeout, Effect::Unknown));
    assert_eq!(ask(&link, &["GET", "n"]).await, Value::BulkString(b"1".to_vec()));
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn the_connection_of_a_silent_link_is_closed_once_its_callers_have_left() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &impatient()).await;
    proxy.silence();
    send(&link, &["PING"]).await.unwrap_err();
    ask(&link, &["PING"]).await;
    blocking(move || {
        // The new one, and the one that asks.
        eventually("the old connection is closed", || {
            server.info("connected_clients").as_deref() == Some("2")
        });
    })
    .await;
}

#[tokio::test]
async fn a_link_on_which_some_commands_are_answered_is_not_silent() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let options = impatient().silent_after(Duration::from_secs(3600));
    let link = link(&through(&proxy), &options).await;
    for _ in 0..3 {
        proxy.hold_replies(true);
        send(&link, &["PING"]).await.unwrap_err();
        proxy.hold_replies(false);
        // The late answer went nowhere; this one is its own.
        assert_eq!(ask(&link, &["ECHO", "own"]).await, Value::BulkString(b"own".to_vec()));
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_frozen_server_times_out_and_works_again_when_it_thaws() {
    let server = Server::redis();
    let link = link(&server.url(), &impatient()).await;
    ask(&link, &["SET", "k", "v"]).await;
    server.process.pause();
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let failure = send(&link, &["INCR", "n"]).await.unwrap_err();
        kinds.push(said(&failure));
    }
    // The first was sent and not answered. Then there is no connection, since a frozen server makes none.
    assert_eq!(kinds[0], (StoreErrorKind::Timeout, Effect::Unknown));
    assert!(
        kinds[1..].iter().all(|said| *said == (StoreErrorKind::Unavailable, Effect::NotApplied)),
        "{kinds:?}"
    );
    server.process.resume();
    persist(&link, &["SET", "k", "w"]).await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_found_again() {
    let mut server = Setup::new(Kind::Redis).durable().start();
    let link = link(&server.url(), &Options::new()).await;
    ask(&link, &["SET", "k", "v"]).await;
    server.kill();
    let mut last = send(&link, &["GET", "k"]).await.unwrap_err();
    assert!(is_transient(&last), "{last:?}");
    // Once the link knows, nothing is sent.
    for _ in 0..3 {
        last = send(&link, &["GET", "k"]).await.unwrap_err();
    }
    assert_eq!(said(&last), (StoreErrorKind::Unavailable, Effect::NotApplied));
    server.restart();
    assert_eq!(persist(&link, &["GET", "k"]).await, Value::BulkString(b"v".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_callers_share_a_link_with_few_places() {
    let server = Server::redis();
    let options = Options::new().max_in_flight(16).command_timeout(Duration::from_secs(60));
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
async fn whoever_finds_no_place_in_time_is_told_that_nothing_happened() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let patient = impatient().silent_after(Duration::from_secs(3600));
    let link = link(&through(&proxy), &patient.max_in_flight(1)).await;
    proxy.hold_replies(true);
    let (first, second) = tokio::join!(send(&link, &["PING"]), send(&link, &["PING"]));
    assert_eq!(said(&first.unwrap_err()), (StoreErrorKind::Timeout, Effect::Unknown));
    let failure = second.unwrap_err();
    assert_eq!(said(&failure), (StoreErrorKind::Unavailable, Effect::NotApplied));
    assert!(failure.error.to_string().contains("max_in_flight"), "{failure:?}");
    proxy.hold_replies(false);
    ask(&link, &["PING"]).await;
}

#[tokio::test]
async fn a_caller_that_leaves_gives_its_place_back_and_the_answers_stay_in_order() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let link = link(&through(&proxy), &Options::new().max_in_flight(2)).await;
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
    let link = link(&through(&proxy), &Options::new()).await;
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

#[tokio::test]
async fn a_link_works_on_the_connections_that_an_application_has() {
    let server = Server::redis();
    let client = redis::Client::open(server.url()).unwrap();
    let multiplexed = client.get_multiplexed_async_connection().await.unwrap();
    let manager = client.get_connection_manager().await.unwrap();
    for connection in [Connection::from(multiplexed), Connection::from(manager)] {
        let link = Link::over(connection, &Options::new());
        ask(&link, &["SET", "k", "v"]).await;
        let failure = send(&link, &["LPUSH", "k", "x"]).await.unwrap_err();
        assert_eq!(said(&failure), (StoreErrorKind::Corrupt, Effect::NotApplied));
    }
}

#[test]
fn a_link_survives_the_runtime_that_it_was_made_on() {
    let server = Server::redis();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let link = runtime().block_on(link(&server.url(), &Options::new()));
    runtime().block_on(persist(&link, &["SET", "k", "v"]));
    runtime().block_on(persist(&link, &["GET", "k"]));
}

#[test]
fn a_link_that_was_lost_when_its_runtime_ended_is_found_again_on_another() {
    let server = Server::redis();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let link = first.block_on(link(&server.url(), &impatient()));
    server.process.pause();
    // It times out, and so ends the runtime: the task that is to make another connection has not run yet.
    first.block_on(send(&link, &["PING"])).unwrap_err();
    drop(first);
    server.process.resume();
    runtime().block_on(persist(&link, &["SET", "k", "v"]));
}

#[tokio::test]
async fn a_silent_link_is_rebuilt_although_its_callers_leave_before_their_time_is_up() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let options = impatient().command_timeout(Duration::from_secs(3600));
    let link = link(&through(&proxy), &options).await;
    proxy.silence();
    let deadline = Instant::now() + Duration::from_secs(10);
    while timeout(Duration::from_millis(5), send(&link, &["PING"])).await.is_err() {
        assert!(Instant::now() < deadline, "the link stays silent");
    }
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn what_callers_leave_behind_on_a_silent_link_goes_with_its_connection() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address()).await;
    let options = impatient().command_timeout(Duration::from_secs(3600)).max_in_flight(16);
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
        // The new one, and the one that asks.
        eventually("the old connection is closed, with all that was on it", || {
            server.info("connected_clients").as_deref() == Some("2")
        });
    })
    .await;
}

/// A real server says it before it is asked, and whether that arrives before our words break on the closed connection is
/// the network's affair. This one is in no hurry.
#[tokio::test]
async fn a_server_that_turns_clients_away_says_why_and_whether_it_passes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for (words, kind) in [
        ("-ERR max number of clients reached\r\n", StoreErrorKind::Unavailable),
        ("-DENIED Redis is running in protected mode\r\n", StoreErrorKind::Misconfigured),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(words.as_bytes()).await;
            }
        });
        for url in ["redis://_", "redis://app:p@_", "redis://app:p@_/3", "redis://_/3"] {
            let url = url.replace('_', &address.to_string());
            let error = try_link(&url, &Options::new()).await.err().unwrap();
            assert_eq!((error.kind, error.effect), (kind, Effect::NotApplied), "{url}: {error:?}");
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(words.contains(source.rsplit(": ").next().unwrap()), "{url}: {source}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_busy_when_the_link_logs_in_is_unavailable_and_no_mistake() {
    let server = Setup::new(Kind::Redis).set(&["busy-reply-threshold", "1"]).start();
    let url = server.url();
    let script = std::thread::spawn(move || {
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut connection)
    });
    eventually("it is busy", || {
        server.try_command(&["PING"]).is_err_and(|error| error.code() == Some("BUSY"))
    });
    let error = try_link(&format!("{}/3", server.url()), &Options::new()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied), "{error:?}");
    server.command(&["SCRIPT", "KILL"]);
    script.join().unwrap().unwrap_err();
}
