//! [`Server`]: one Redis or Valkey.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use redis::{RedisResult, Value};
use tempfile::TempDir;

use super::Kind;
use crate::{CertificateAuthority, MovedClock, Process, eventually, free_port};

/// How a server is started.
#[derive(Clone, Debug)]
#[must_use]
pub struct Setup {
    kind: Kind,
    arguments: Vec<String>,
    clock: Option<MovedClock>,
}

impl Setup {
    /// Without persistence, on the loopback interface.
    pub fn new(kind: Kind) -> Self {
        Self { kind, arguments: Vec::new(), clock: None }
    }

    /// Adds a setting: `["maxmemory", "10mb"]`.
    pub fn set(mut self, setting: &[&str]) -> Self {
        self.arguments.push(format!("--{}", setting[0]));
        self.arguments.extend(setting[1..].iter().map(|value| (*value).to_owned()));
        self
    }

    /// Flushes an append-only file before each answer.
    pub fn durable(self) -> Self {
        self.set(&["appendonly", "yes"]).set(&["appendfsync", "always"])
    }

    /// Accepts TLS on another port as well. `client_certificates`: whether clients need one.
    pub fn with_tls(self, authority: &CertificateAuthority, port: u16, client_certificates: bool) -> Self {
        let path = |file| authority.path(file).display().to_string();
        self.set(&["tls-port", &port.to_string()])
            .set(&["tls-cert-file", &path("server.pem")])
            .set(&["tls-key-file", &path("server.key")])
            .set(&["tls-ca-cert-file", &path("ca.pem")])
            .set(&["tls-auth-clients", if client_certificates { "yes" } else { "no" }])
    }

    /// Runs it under this clock.
    pub fn with_clock(mut self, clock: &MovedClock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Starts it, and returns when it answers.
    pub fn start(self) -> Server {
        self.start_on(free_port())
    }

    /// Starts it on a given port.
    pub fn start_on(self, port: u16) -> Server {
        let mut server = self.launch_on(port, tempfile::tempdir().unwrap());
        server.wait_until_ready();
        server
    }

    /// Starts it in a given directory without waiting until it is ready.
    pub fn launch_on(self, port: u16, directory: TempDir) -> Server {
        let process = launch(&self, port, directory.path());
        Server { setup: self, port, directory, process }
    }
}

/// A running server. It is killed when this is dropped.
pub struct Server {
    setup: Setup,
    port: u16,
    directory: TempDir,
    /// To pause or end it.
    pub process: Process,
}

impl Server {
    /// A Redis without persistence.
    pub fn redis() -> Self {
        Setup::new(Kind::Redis).start()
    }

    /// A master and a replica that is in sync.
    pub fn with_replica(kind: Kind) -> (Self, Self) {
        let master = Setup::new(kind).start();
        let replica = Setup::new(kind).set(&["replicaof", "127.0.0.1", &master.port().to_string()]).start();
        eventually("the replica follows", || {
            replica.info("master_link_status").as_deref() == Some("up")
                && master.info("slave0").is_some_and(|slave| slave.contains("state=online"))
        });
        (master, replica)
    }

    /// The port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address without TLS.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The `redis://` URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The `redis+unix:` URL of its socket.
    pub fn socket_url(&self) -> String {
        format!("redis+unix:{}", self.directory.path().join("socket").display())
    }

    /// The directory with its data, its log and its socket.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sends a command on a new connection.
    pub fn try_command(&self, command: &[&str]) -> RedisResult<Value> {
        let mut connection = redis::Client::open(self.login())?
            .get_connection_with_timeout(std::time::Duration::from_secs(1))?;
        connection.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
    }

    /// Sends a command that succeeds.
    pub fn command(&self, command: &[&str]) -> Value {
        self.try_command(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The URL with the password, if it has one.
    fn login(&self) -> String {
        let arguments = &self.setup.arguments;
        let password =
            arguments.iter().position(|argument| argument == "--requirepass").map(|at| &arguments[at + 1]);
        let login = password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    /// A value of `INFO`.
    pub fn info(&self, name: &str) -> Option<String> {
        let info: String = redis::from_redis_value(self.try_command(&["INFO", "everything"]).ok()?).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim_end().to_owned())
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills it, and starts it again on the same port and data.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.setup, self.port, self.directory.path());
        self.wait_until_ready();
    }

    /// Blocks until it answers commands.
    pub fn wait_until_ready(&mut self) {
        let log = self.directory.path().join("log");
        eventually("the server answers", || {
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!self.process.has_ended(), "the server has ended: {}", log());
            // A server that still loads its data answers with an error. So does one that wants a password.
            match self.try_command(&["PING"]) {
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
        clock.apply_to(&mut command);
    }
    Process::start(&command, &PathBuf::from(directory).join("log"))
}
