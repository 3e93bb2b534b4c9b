//! [`Postgres`]: one server.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::Client;

use super::programs::{as_its_user, hand_over, program};
use super::{START_TIMEOUT, client, data, url};
use crate::{CertificateAuthority, MovedClock, Process, free_port};

/// A running server. It is killed when this is dropped.
pub struct Postgres {
    /// `None` only until the server has its data.
    directory: Option<TempDir>,
    port: u16,
    clock: Option<MovedClock>,
    /// A library in the directory, and the environment variable that it reads.
    preloaded: Option<(&'static str, &'static str)>,
    settings: Vec<String>,
    process: Mutex<Option<Process>>,
}

/// Small and quick. Commits are written and not flushed to the disk, because a test kills servers and not the machine.
const FOR_TESTS: [&str; 9] = [
    "shared_buffers=8MB",
    "max_connections=300",
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_parallel_workers=0",
    // Kept in its directory, and deleted with that.
    "dynamic_shared_memory_type=mmap",
];

impl Postgres {
    /// Starts a server on the machine's clock.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more settings, as `name=value`.
    pub async fn start_with(settings: &[&str]) -> Self {
        Self::on(data::from_template(), Self::new(settings)).await
    }

    /// Starts one on a clock that the test moves.
    pub async fn start_with_clock() -> Self {
        let directory = data::from_template();
        let clock = Some(MovedClock::new(directory.path()));
        Self::on(directory, Self { clock, ..Self::new(&[]) }).await
    }

    /// Starts one with a library of the test's preloaded. `make` builds `library` in the server's directory; `variable`
    /// is set to the path of a file of that name in that directory.
    pub async fn start_preloaded(make: fn(&Path), library: &'static str, variable: &'static str) -> Self {
        let directory = data::from_template();
        make(directory.path());
        let preloaded = Some((library, variable));
        Self::on(directory, Self { preloaded, ..Self::new(&[]) }).await
    }

    /// Starts one that accepts TLS as well, with the authority's server certificate.
    pub async fn start_with_tls(authority: &CertificateAuthority) -> Self {
        let directory = data::from_template();
        for (file, name) in [("server.pem", "server.crt"), ("server.key", "server.key")] {
            let copy = directory.path().join("data").join(name);
            fs::copy(authority.path(file), &copy).unwrap();
            fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self::on(directory, Self::new(&["ssl=on"])).await
    }

    /// Starts one for benches: with Postgres's own settings but for these, and its data on the disk of a directory.
    pub async fn start_durable(parent: &Path, settings: &[&str]) -> Self {
        let directory = tempfile::tempdir_in(parent).unwrap();
        data::init(directory.path(), &[]);
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self::on(directory, Self { settings, ..Self::new(&[]) }).await
    }

    /// Stops this server, and starts a standby with a copy of its data. The standby follows no primary.
    pub async fn standby(&self) -> Self {
        self.stop();
        let directory = data::copy_of(&self.directory().join("data"));
        fs::write(directory.path().join("data/standby.signal"), "").unwrap();
        Self::on(directory, Self::new(&["wal_level=replica", "max_wal_senders=3"])).await
    }

    /// A server for tests that has no directory yet.
    fn new(settings: &[&str]) -> Self {
        Self {
            directory: None,
            port: free_port(),
            clock: None,
            preloaded: None,
            settings: FOR_TESTS.iter().chain(settings).map(|&setting| setting.to_owned()).collect(),
            process: Mutex::default(),
        }
    }

    async fn on(directory: TempDir, server: Self) -> Self {
        hand_over(directory.path());
        let server = Self { directory: Some(directory), ..server };
        server.run().await;
        server
    }

    /// The `postgres://` URL.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The directory with its `data` and its `log`.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// The clock of a server that was [started with one](Self::start_with_clock).
    pub fn clock(&self) -> &MovedClock {
        self.clock.as_ref().expect("the server was started with a clock")
    }

    /// A new connection.
    pub async fn client(&self) -> Client {
        client(&self.url()).await.unwrap()
    }

    /// Kills every process of the server, as a power cut would, and starts it again on the same data.
    pub async fn crash(&self) {
        self.kill();
        self.run().await;
    }

    /// Kills every process of the server.
    pub fn kill(&self) {
        let process = self.process.lock().unwrap().take();
        drop(process);
    }

    /// Ends every session at once, and shuts the server down.
    pub fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.interrupt();
        }
    }

    /// Starts it again, and returns when it accepts connections.
    pub async fn run(&self) {
        let began = Instant::now();
        let mut process = self.spawn();
        loop {
            match client(&self.url()).await {
                Ok(_) => break,
                Err(error) => assert!(began.elapsed() < START_TIMEOUT, "{error}: {}", self.log()),
            }
            if process.has_ended() {
                // The children of a killed server take a moment to end, and a new server does not wait for them.
                assert!(self.log().contains("pre-existing shared memory block"), "{}", self.log());
                process = self.spawn();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.remove_shared_memory();
        *self.process.lock().unwrap() = Some(process);
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory().join("log")).unwrap_or_default()
    }

    /// A killed server leaves its shared memory segment behind, and the system has room for a few thousand. Removed now,
    /// it is freed when the last process that uses it ends.
    fn remove_shared_memory(&self) {
        let lines = fs::read_to_string(self.directory().join("data/postmaster.pid")).unwrap_or_default();
        let id = lines.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        if let Some(id) = id {
            let _ = Command::new("ipcrm").args(["-m", id]).status();
        }
    }

    fn spawn(&self) -> Process {
        let mut command = as_its_user(&program("postgres"));
        command.arg("-D").arg(self.directory().join("data"));
        command.args(["-k", "", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        if let Some(clock) = &self.clock {
            apply_clock(clock, &mut command, self.directory());
        }
        if let Some((library, variable)) = self.preloaded {
            command.env("LD_PRELOAD", self.directory().join(library));
            command.env(variable, self.directory().join(variable));
        }
        Process::start(&command, &self.directory().join("log"))
    }
}

/// Puts the server under the clock, with a copy of the library that its user can read.
fn apply_clock(clock: &MovedClock, command: &mut Command, directory: &Path) {
    clock.apply_to(command);
    let library =
        command.get_envs().find_map(|(name, value)| if name == "LD_PRELOAD" { value } else { None });
    let library = PathBuf::from(library.unwrap());
    let copy = directory.join("moved-clock.so");
    if !copy.exists() {
        fs::copy(library, &copy).unwrap();
    }
    command.env("LD_PRELOAD", copy);
}
