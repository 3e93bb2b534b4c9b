//! Connecting and logging in.

use test_servers::redis::{Kind, Server, Setup};
use test_servers::{eventually, free_port};

use super::*;
use crate::link::Connection;

#[tokio::test]
async fn commands_go_by_tcp_and_by_socket() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Setup::new(kind).start();
        for url in [server.url(), server.socket_url()] {
            let link = link(&url, &RedisOptions::new()).await;
            assert_eq!(ask(&link, &["SET", "k", "v"]).await, Value::Okay);
            assert_eq!(ask(&link, &["GET", "k"]).await, Value::BulkString(b"v".to_vec()));
        }
    }
}

#[tokio::test]
async fn a_database_is_selected_and_a_login_is_made() {
    let server = Setup::new(Kind::Redis).set(&["requirepass", "s3cr3t"]).start();
    let at = |login: &str, db: u8| format!("redis://{login}127.0.0.1:{}/{db}", server.port());
    let third = link(&at(":s3cr3t@", 3), &RedisOptions::new()).await;
    ask(&third, &["SET", "k", "v"]).await;
    let first = link(&at("default:s3cr3t@", 0), &RedisOptions::new()).await;
    assert_eq!(ask(&first, &["GET", "k"]).await, Value::Nil);

    for (login, secret) in [("", "s3cr3t"), (":wr0ng@", "wr0ng"), ("default:wr0ng@", "wr0ng")] {
        let error = try_link(&at(login, 0), &RedisOptions::new()).await.err().unwrap();
        assert_eq!(
            (error.kind, error.effect),
            (StoreErrorKind::Misconfigured, Effect::NotApplied),
            "{error:?}"
        );
        let shown = format!("{error:?} {error} {}", std::error::Error::source(&error).unwrap());
        assert!(!shown.contains(secret), "{shown}");
    }
    let error = try_link(&at(":s3cr3t@", 99), &RedisOptions::new()).await.err().unwrap();
    assert_eq!(error.kind, StoreErrorKind::Misconfigured, "{error:?}");
}

#[tokio::test]
async fn a_missing_server_fails_at_once() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let error = try_link(&url, &RedisOptions::new()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
}

#[tokio::test]
async fn a_replica_cannot_be_connected_to() {
    let master = Server::redis();
    let port = master.port().to_string();
    let replica = Setup::new(Kind::Redis).set(&["replicaof", "127.0.0.1", &port]).start();
    let error = try_link(&replica.url(), &RedisOptions::new()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("the server is a replica"), "{source}");
}

/// A real server refuses before it reads, so its answer may get lost when the client writes to the closed connection. This
/// one reads first.
#[tokio::test]
async fn a_server_that_refuses_clients_says_why_and_whether_that_is_temporary() {
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
            let error = try_link(&url, &RedisOptions::new()).await.err().unwrap();
            assert_eq!((error.kind, error.effect), (kind, Effect::NotApplied), "{url}: {error:?}");
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(words.contains(source.rsplit(": ").next().unwrap()), "{url}: {source}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_busy_at_the_login_is_unavailable_not_misconfigured() {
    let server = Setup::new(Kind::Redis).set(&["busy-reply-threshold", "1"]).start();
    let url = server.url();
    let script = std::thread::spawn(move || {
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut connection)
    });
    eventually("it is busy", || {
        server.try_command(&["PING"]).is_err_and(|error| error.code() == Some("BUSY"))
    });
    let error = try_link(&format!("{}/3", server.url()), &RedisOptions::new()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied), "{error:?}");
    server.command(&["SCRIPT", "KILL"]);
    script.join().unwrap().unwrap_err();
}

#[tokio::test]
async fn a_link_works_on_an_applications_connections() {
    let server = Server::redis();
    let client = redis::Client::open(server.url()).unwrap();
    let multiplexed = client.get_multiplexed_async_connection().await.unwrap();
    let manager = client.get_connection_manager().await.unwrap();
    for connection in [Connection::from(multiplexed), Connection::from(manager)] {
        let link = Link::over(connection, &RedisOptions::new());
        ask(&link, &["SET", "k", "v"]).await;
        let failure = send(&link, &["LPUSH", "k", "x"]).await.unwrap_err();
        assert_eq!(kind_and_effect(&failure), (StoreErrorKind::Corrupt, Effect::NotApplied));
    }
}
