//! Log events. Their names are stable, because alerts depend on them.

use std::sync::{Arc, Mutex};

use idem_redis::HealthMode;
use test_servers::redis::Server;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;

/// The names and levels of this crate's events on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(&'static str, Level)>>>);

impl Log {
    fn has(&self, name: &'static str, level: Level) -> bool {
        self.0.lock().unwrap().contains(&(name, level))
    }

    async fn eventually_has(&self, name: &'static str, level: Level) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.has(name, level) {
            assert!(Instant::now() < deadline, "there is no {name} in {:?}", self.0.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("idem_redis")
    }

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push((event.metadata().name(), *event.metadata().level()));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn changes_of_the_link_and_of_the_servers_health_are_logged_under_stable_names() {
    let log = Log::default();
    // One thread runs everything, the store's own tasks included.
    let _default = tracing::subscriber::set_default(log.clone());
    let mut server = Server::redis();
    let options = RedisOptions::new().health(HealthMode::Warn).health_interval(Duration::from_millis(10));
    let store = connect(&server.url(), options).await;
    log.eventually_has("idem_redis.health.changed", Level::INFO).await;
    assert!(!log.has("idem_redis.health.unfit", Level::WARN));

    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    log.eventually_has("idem_redis.health.unfit", Level::WARN).await;

    server.kill();
    log.eventually_has("idem_redis.link.lost", Level::INFO).await;
    log.eventually_has("idem_redis.link.unreachable", Level::WARN).await;
    log.eventually_has("idem_redis.health.unknown", Level::WARN).await;
    server.restart();
    log.eventually_has("idem_redis.link.connected", Level::INFO).await;
    live(&store, "k").await;
}
