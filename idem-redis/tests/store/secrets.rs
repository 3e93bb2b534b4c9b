//! Passwords appear in no error, `Debug` output or event.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use test_servers::free_port;
use test_servers::redis::{Kind, Server, Setup};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;

const SECRET: &str = "s3cr3t";

fn assert_no_secret(error: &StoreError) {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains(SECRET), "{shown}");
        next = error.source();
    }
}

#[tokio::test]
async fn no_failed_connect_contains_the_password() {
    let (guarded, open) = (Setup::new(Kind::Redis).set(&["requirepass", "another"]).start(), Server::redis());
    let unused = free_port();
    for url in [
        format!("redis://:{SECRET}@{}", guarded.address()),
        format!("redis://u:{SECRET}@{}", guarded.address()),
        format!("redis://:{SECRET}@{}", open.address()),
        format!("redis://:{SECRET}@{}/99", open.address()),
        format!("redis://:{SECRET}@127.0.0.1:{unused}"),
        format!("redis://:{SECRET}@no-such-host.invalid"),
        format!("redis+cluster://:{SECRET}@{}", guarded.address()),
        format!("redis+cluster://:{SECRET}@127.0.0.1:{unused}"),
        format!("redis+sentinel://:{SECRET}@127.0.0.1:{unused}/shop?sentinel_password={SECRET}"),
        format!("redis+sentinel://:{SECRET}@{}/shop", open.address()),
        format!("redis+unix:/no/such/socket?password={SECRET}"),
        format!("redis://:{SECRET}@host:port"),
        format!("{SECRET}://host"),
        format!("redis://u:pass/{SECRET}@host"),
    ] {
        assert_no_secret(&RedisStore::connect(&url).await.unwrap_err());
    }
}

#[tokio::test]
async fn neither_a_store_nor_its_errors_and_health_contain_the_password() {
    let mut server = Setup::new(Kind::Redis).set(&["requirepass", SECRET]).start();
    let store = connect(&format!("redis://:{SECRET}@{}", server.address()), RedisOptions::new()).await;
    live(&store, "k").await;
    let health = store.health().await;
    assert!(!format!("{store:?} {health:?} {health}").contains(SECRET));
    server.kill();
    for _ in 0..3 {
        assert_no_secret(&store.get(&key("k")).await.unwrap_err());
    }
    let health = store.health().await;
    assert!(!format!("{health:?} {health}").contains(SECRET));
}

/// All events and spans of this thread, at any level, of any crate.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<String>>);

impl Subscriber for Recorded {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Words(&self.0));
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut Words(&self.0));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Words(&self.0));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Words<'o>(&'o Mutex<String>);

impl Visit for Words<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        writeln!(self.0.lock().unwrap(), "{value:?}").unwrap();
    }
}

#[tokio::test]
async fn no_event_contains_a_password_at_any_level() {
    let recorded = Recorded::default();
    let _recording = tracing::subscriber::set_default(recorded.clone());
    let unused = free_port();
    // Percent-encoding gives the password two forms.
    let (plain, encoded) = ("s3cr3t@1", "s3cr3t%401");
    let mut server = Setup::new(Kind::Redis).set(&["requirepass", plain]).start();
    for url in [
        format!("redis://:{encoded}@127.0.0.1:{unused}"),
        format!("redis://:{encoded}x@{}", server.address()),
        format!("redis+cluster://:{encoded}@{}", server.address()),
        format!("redis+sentinel://:{encoded}@127.0.0.1:{unused}/shop?sentinel_password={encoded}"),
        format!("redis+sentinel://:{encoded}@{}/shop?sentinel_password={encoded}", server.address()),
        format!("redis+unix:/no/such/socket?password={encoded}"),
    ] {
        assert_no_secret(&RedisStore::connect(&url).await.unwrap_err());
    }
    let options =
        RedisOptions::new().health_interval(Duration::from_millis(5)).replicas(1, Duration::from_millis(5));
    let store = connect(&format!("redis://:{encoded}@{}", server.address()), options).await;
    let reserved = store.reserve(&key("k"), request(OwnerToken::random())).await;
    assert_no_secret(&reserved.unwrap_err());
    server.kill();
    for _ in 0..3 {
        assert_no_secret(&store.get(&key("k")).await.unwrap_err());
    }
    server.restart();
    let k = key("k");
    persist(|| store.get(&k)).await;
    let recorded = recorded.0.lock().unwrap();
    assert!(recorded.contains("a connection is replaced"), "no event was recorded: {recorded}");
    assert!(!recorded.contains(SECRET), "{recorded}");
}
