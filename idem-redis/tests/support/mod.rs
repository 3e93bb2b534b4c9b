//! [`ClockedServer`]: a server on a clock that the test moves.
#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use idem_redis::RedisStore;
use redis::aio::MultiplexedConnection;
use test_servers::redis::{Kind, Server, Setup};
use test_servers::{MovedClock, free_port};

/// A server under a clock of its own. Other processes find it by its directory, which holds its Unix socket. It is killed
/// when this is dropped.
pub(crate) struct ClockedServer {
    running: Mutex<Server>,
    clock: MovedClock,
    directory: PathBuf,
}

impl ClockedServer {
    /// A server without persistence.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::of(Setup::new(kind))
    }

    /// A server that keeps what it acknowledged, also when it is killed.
    pub(crate) fn start_durable(kind: Kind) -> Self {
        Self::of(Setup::new(kind).durable())
    }

    fn of(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (clock, path) = (MovedClock::new(directory.path()), directory.path().to_owned());
        let mut server = setup.with_clock(&clock).launch_on(free_port(), directory);
        server.wait_until_ready();
        Self { running: Mutex::new(server), clock, directory: path }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn url(&self) -> String {
        url(self.directory())
    }

    pub(crate) fn clock(&self) -> &MovedClock {
        &self.clock
    }

    /// Kills it, and starts it again on the same data.
    pub(crate) fn kill_and_restart(&self) {
        self.running.lock().unwrap().restart();
    }

    pub(crate) async fn store(&self) -> RedisStore {
        RedisStore::connect(&self.url()).await.unwrap()
    }

    /// A connection of another client.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        connection(self.directory()).await
    }
}

/// The URL of the server in a directory.
pub(crate) fn url(directory: &Path) -> String {
    format!("redis+unix:{}", socket(directory).display())
}

/// A connection to the server in a directory.
pub(crate) async fn connection(directory: &Path) -> MultiplexedConnection {
    let url = format!("unix://{}", socket(directory).display());
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("socket")
}

/// The name of a key's record, as the README describes it.
pub(crate) fn name(key: &idem_core::Key) -> String {
    format!("idem:{}", &key.digest().to_hex()[..38])
}
