//! [`Server`]: one server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance_tests::server::{MovedClock, Process, free_port};
use redis::{RedisResult, Value};
use tempfile::TempDir;

use super::eventually;
pub(crate) use super::kind::Kind;

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    kind: Kind,
    arguments: Vec<String>,
    clock: Option<MovedClock>,
}

impl Setup {
    /// Without persistence, on the loopback interface.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, arguments: Vec::new(), clock: None }
    }

    /// With further settings: `["maxmemory", "10mb"]`.
    pub(crate) fn set(mut self, setting: &[&str]) -> Self {
        self.arguments.push(format!("--{}", setting[0]));
        self.arguments.extend(setting[1..].iter().map(|value| (*value).to_owned()));
        self
    }

    /// With the append-only file, flushed before each answer.
    pub(crate) fn durable(self) -> Self {
        self.set(&["appendonly", "yes"]).set(&["appendfsync", "always"])
    }

    /// Under this clock.
    pub(crate) fn under(mut self, clock: &MovedClock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Starts it, and returns when it answers.
    pub(crate) fn start(self) -> Server {
        self.start_on(free_port())
    }

    /// The same on a port that others already know.
    pub(crate) fn start_on(self, port: u16) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let process = launch(&self, port, directory.path());
        let mut server = Server { setup: self, port, directory, process };
        server.wait_until_it_answers();
        server
    }

    /// Starts it without waiting, for those that start several.
    pub(crate) fn launch_on(self, port: u16, directory: TempDir) -> Server {
        let process = launch(&self, port, directory.path());
        Server { setup: self, port, directory, process }
    }
}

/// A running server.
pub(crate) struct Server {
    setup: Setup,
    port: u16,
    directory: TempDir,
    pub(crate) process: Process,
}

impl Server {
    /// A Redis without persistence.
    pub(crate) fn redis() -> Self {
        Setup::new(Kind::Redis).start()
    }

    /// A master and its replica, once that follows.
    pub(crate) fn with_replica(kind: Kind) -> (Self, Self) {
        let master = Setup::new(kind).start();
        let replica = Setup::new(kind).set(&["replicaof", "127.0.0.1", &master.port().to_string()]).start();
        eventually("the replica follows", || {
            replica.info("master_link_status").as_deref() == Some("up")
                && master.info("slave0").is_some_and(|slave| slave.contains("state=online"))
        });
        (master, replica)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn socket_url(&self) -> String {
        format!("redis+unix:{}", self.directory.path().join("socket").display())
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command, on a connection of its own.
    pub(crate) fn try_tell(&self, command: &[&str]) -> RedisResult<Value> {
        let mut connection = redis::Client::open(self.login())?
            .get_connection_with_timeout(std::time::Duration::from_secs(1))?;
        connection.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
    }

    /// The same, and it succeeds.
    pub(crate) fn tell(&self, command: &[&str]) -> Value {
        self.try_tell(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The URL with the password, if it has one.
    fn login(&self) -> String {
        let arguments = &self.setup.arguments;
        let password =
            arguments.iter().position(|argument| argument == "--requirepass").map(|at| &arguments[at + 1]);
        let login = password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    /// What `INFO` says under this name.
    pub(crate) fn info(&self, name: &str) -> Option<String> {
        let info: String = redis::from_redis_value(self.try_tell(&["INFO", "everything"]).ok()?).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim_end().to_owned())
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after it was killed, on the same port and data.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.setup, self.port, self.directory.path());
        self.wait_until_it_answers();
    }

    pub(crate) fn wait_until_it_answers(&mut self) {
        let log = self.directory.path().join("log");
        eventually("the server answers", || {
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!self.process.has_ended(), "the server has ended: {}", log());
            // One that loads its data says so, and one that wants a password asks for it.
            match self.try_tell(&["PING"]) {
                Ok(_) => true,
                Err(error) => error.code() == Some("NOAUTH"),
            }
        });
    }
}

fn launch(setup: &Setup, port: u16, directory: &Path) -> Process {
    let mut command = Command::new(setup.kind.program());
    let port = port.to_string();
    command
        .args(["--port", &port, "--bind", "127.0.0.1", "--dir", "."])
        .args(["--unixsocket", "socket", "--save", "", "--repl-diskless-sync-delay", "0"])
        .args(&setup.arguments)
        .current_dir(directory);
    if let Some(clock) = &setup.clock {
        clock.watch(&mut command);
    }
    Process::start(&command, &PathBuf::from(directory).join("log"))
}
