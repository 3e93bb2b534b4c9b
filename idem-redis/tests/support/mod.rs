//! What the tests of the store share: servers of their own, on a clock that the test moves, and short words.
#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use idem_redis::RedisStore;
use redis::aio::MultiplexedConnection;
use test_servers::redis::Setup;
use test_servers::{MovedClock, free_port};

pub(crate) mod harness;

pub(crate) use test_servers::redis::Kind;

/// A server under a clock of its own, which is reached by the Unix socket in its directory: that is all that another process
/// has to know. Killed when this is dropped.
pub(crate) struct Server {
    running: Mutex<test_servers::redis::Server>,
    clock: MovedClock,
    directory: PathBuf,
}

impl Server {
    /// Keeps nothing on disk.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::of(Setup::new(kind))
    }

    /// Keeps what it acknowledged, also when it is killed.
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

    /// Kills it, and starts it again on what it has on its disk.
    pub(crate) fn kill_and_restart(&self) {
        self.running.lock().unwrap().restart();
    }

    pub(crate) async fn store(&self) -> RedisStore {
        RedisStore::connect(&self.url()).await.unwrap()
    }

    /// A connection of somebody else.
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

/// The name of a key's record, as the README tells operators.
pub(crate) fn name(key: &idem_core::Key) -> String {
    format!("idem:{}", &key.digest().to_hex()[..38])
}
