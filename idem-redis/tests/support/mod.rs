//! What the tests of the store share: servers of their own, on a clock that the test moves, and short words.
#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use conformance_tests::server::{MovedClock, Process};
use idem_redis::{Options, RedisStore};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

pub(crate) mod harness;
pub(crate) mod servers;

pub(crate) use servers::kind::Kind;

/// A server in a directory of its own, on a Unix socket in it, under a clock of its own. Killed when this is dropped.
pub(crate) struct Server {
    kind: Kind,
    settings: Vec<String>,
    process: Mutex<Process>,
    clock: MovedClock,
    directory: TempDir,
}

impl Server {
    /// Keeps nothing on disk.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[])
    }

    /// Keeps what it acknowledged, also when it is killed.
    pub(crate) fn start_durable(kind: Kind) -> Self {
        Self::start_with(kind, &["--appendonly yes", "--appendfsync always"])
    }

    pub(crate) fn start_with(kind: Kind, settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = MovedClock::new(directory.path());
        let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
        let process = Mutex::new(run(kind, &settings, &clock, directory.path()));
        Self { kind, settings, process, clock, directory }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn url(&self) -> String {
        url(self.directory())
    }

    pub(crate) fn clock(&self) -> &MovedClock {
        &self.clock
    }

    pub(crate) fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap()
    }

    /// Kills it, and starts it again on what it has on its disk.
    pub(crate) fn kill_and_restart(&self) {
        let mut process = self.process();
        process.kill();
        *process = run(self.kind, &self.settings, &self.clock, self.directory());
    }

    pub(crate) async fn store(&self) -> RedisStore {
        self.store_with(Options::new()).await
    }

    pub(crate) async fn store_with(&self, options: Options) -> RedisStore {
        RedisStore::connect_with(&self.url(), options).await.unwrap()
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

/// Starts a server and returns when it answers.
fn run(kind: Kind, settings: &[String], clock: &MovedClock, directory: &Path) -> Process {
    let socket = socket(directory);
    // One that was killed leaves its socket behind.
    let _ = std::fs::remove_file(&socket);
    let mut command = Command::new(kind.program());
    command.current_dir(directory).args(["--port", "0", "--save", "", "--daemonize", "no"]);
    command.arg("--unixsocket").arg(&socket).args(["--loglevel", "warning"]);
    for setting in settings {
        command.args(setting.splitn(2, ' '));
    }
    clock.watch(&mut command);
    let log = directory.join("log");
    let mut process = Process::start(&command, &log);
    while !answers(&socket) {
        assert!(!process.has_ended(), "{command:?}: {}", std::fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
    process
}

/// Whether the server has read its files and serves.
fn answers(socket: &Path) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let mut reply = [0; 5];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut reply).is_ok() && &reply == b"+PONG"
}

/// The name of a key's record, as the README tells operators.
pub(crate) fn name(key: &idem_core::Key) -> String {
    format!("idem:{}", &key.digest().to_hex()[..38])
}
