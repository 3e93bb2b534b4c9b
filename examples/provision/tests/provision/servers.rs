//! Servers for the stores that need one: a test's own, killed when it ends.
#![allow(dead_code, reason = "each test binary uses its part of this")]

#[path = "../../../../idem-postgres/tests/support/postgres.rs"]
mod postgres;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use conformance_tests::server::Process;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// A Postgres server, as the tests of `idem-postgres` start it.
pub(crate) struct Postgres {
    server: postgres::Postgres,
    runtime: Runtime,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(postgres::Postgres::start());
        Self { server, runtime }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// A connection, and what its questions are asked on.
    pub(crate) fn client(&self) -> (tokio_postgres::Client, tokio::runtime::Handle) {
        (self.runtime.block_on(self.server.client()), self.runtime.handle().clone())
    }
}

/// A Redis on a Unix socket, which keeps nothing on disk.
pub(crate) struct Redis {
    _process: Process,
    directory: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).current_dir(&directory);
        let process = started(&command, directory.path(), || socket.exists());
        Self { _process: process, directory }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix:{}", self.directory.path().join("socket").display())
    }
}

/// Starts a server and waits until it is ready.
fn started(command: &Command, directory: &Path, is_ready: impl Fn() -> bool) -> Process {
    let log = directory.join("log");
    let mut process = Process::start(command, &log);
    while !is_ready() {
        assert!(!process.has_ended(), "{command:?}: {}", fs::read_to_string(&log).unwrap());
        thread::sleep(Duration::from_millis(5));
    }
    process
}
