//! A Postgres server of a test's own, and a pgbouncer before it.
//!
//! A server is a copy of one that was made once for each build directory, so that it takes a fraction of a second. Where
//! the tests run as root, which Postgres refuses, it runs as the user `postgres`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use conformance_tests::server::postgres::{as_its_user, hand_over, programs};
use conformance_tests::server::{MovedClock, Process, free_port};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Nothing that is started takes this long.
const HUNG_AFTER: Duration = Duration::from_secs(60);

/// A running server. It is gone with this.
pub(crate) struct Postgres {
    /// There once it runs.
    directory: Option<TempDir>,
    port: u16,
    clock: Option<MovedClock>,
    /// A library in the directory, and the variable that it asks for.
    preloaded: Option<(&'static str, &'static str)>,
    settings: Vec<String>,
    process: Mutex<Option<Process>>,
}

impl Postgres {
    /// A server on the machine's clock. Acknowledged is written, but not flushed to the disk: the machine does not crash.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// One with settings of its own, as `name=value`.
    pub(crate) async fn start_with(settings: &[&str]) -> Self {
        Self::started(settings, false).await
    }

    /// One on a clock that is moved by hand.
    pub(crate) async fn start_with_clock() -> Self {
        Self::started(&[], true).await
    }

    /// One under a library of the test's, which `make` puts into the server's directory. `variable` names, in its
    /// environment, the file of that name in that directory.
    pub(crate) async fn start_preloaded(
        make: fn(&Path),
        library: &'static str,
        variable: &'static str,
    ) -> Self {
        let directory = copied(&template());
        make(directory.path());
        let preloaded = Some((library, variable));
        Self::on(directory, Self { preloaded, ..Self::new(&[]) }).await
    }

    /// One that takes connections over TLS as well.
    pub(crate) async fn start_with_tls(certificate: &Path, private: &Path) -> Self {
        let directory = copied(&template());
        for (file, name) in [(certificate, "server.crt"), (private, "server.key")] {
            let copy = directory.path().join("data").join(name);
            fs::copy(file, &copy).unwrap();
            fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self::on(directory, Self::new(&["ssl=on"])).await
    }

    /// A standby with the data of this server, which is stopped for the copy. It follows nobody.
    pub(crate) async fn standby(&self) -> Self {
        self.stop();
        let directory = copied(&self.directory().join("data"));
        fs::write(directory.path().join("data/standby.signal"), "").unwrap();
        Self::on(directory, Self::new(&["wal_level=replica", "max_wal_senders=3"])).await
    }

    async fn started(settings: &[&str], has_clock: bool) -> Self {
        let directory = copied(&template());
        let clock = has_clock.then(|| MovedClock::new(directory.path()));
        Self::on(directory, Self { clock, ..Self::new(settings) }).await
    }

    /// What is to run, without the place for it.
    fn new(settings: &[&str]) -> Self {
        Self {
            directory: None,
            port: free_port(),
            clock: None,
            preloaded: None,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            process: Mutex::default(),
        }
    }

    async fn on(directory: TempDir, server: Self) -> Self {
        hand_over(directory.path());
        let server = Self { directory: Some(directory), ..server };
        server.run().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    pub(crate) fn clock(&self) -> &MovedClock {
        self.clock.as_ref().expect("the server was started with a clock")
    }

    /// A connection of somebody else.
    pub(crate) async fn client(&self) -> Client {
        client(&self.url()).await.unwrap()
    }

    /// Kills every process of the server, as a power cut would, and starts it again on the same data.
    pub(crate) async fn crash(&self) {
        self.kill();
        self.run().await;
    }

    pub(crate) fn kill(&self) {
        let process = self.process.lock().unwrap().take();
        drop(process);
    }

    /// Ends every session at once, and the server in good order.
    pub(crate) fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.interrupt();
        }
    }

    /// Starts it, and returns when it takes connections.
    pub(crate) async fn run(&self) {
        let began = Instant::now();
        let mut process = self.spawn();
        loop {
            match client(&self.url()).await {
                Ok(_) => break,
                Err(error) => assert!(began.elapsed() < HUNG_AFTER, "{error}: {}", self.log()),
            }
            if process.has_ended() {
                // The children of a killed server take a moment to notice, and it waits for nobody.
                assert!(self.log().contains("pre-existing shared memory block"), "{}", self.log());
                process = self.spawn();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.leave_nothing_behind();
        *self.process.lock().unwrap() = Some(process);
    }

    /// A server that is killed leaves its shared memory to the system, which has room for a few thousand of those. Removed
    /// now, it goes with the last process that has it.
    fn leave_nothing_behind(&self) {
        let lines = fs::read_to_string(self.directory().join("data/postmaster.pid")).unwrap_or_default();
        let id = lines.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        if let Some(id) = id {
            let _ = Command::new("ipcrm").args(["-m", id]).status();
        }
    }

    fn spawn(&self) -> Process {
        let mut command = as_its_user(&programs().join("postgres"));
        command.arg("-D").arg(self.directory().join("data"));
        let port = format!("port={}", self.port);
        let fixed = [
            &port,
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=8MB",
            "max_connections=300",
            "fsync=off",
            "full_page_writes=off",
            "autovacuum=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            "max_parallel_workers=0",
            // In its own directory, and gone with that.
            "dynamic_shared_memory_type=mmap",
        ];
        for setting in fixed.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        if let Some(clock) = &self.clock {
            watch(clock, &mut command, self.directory());
        }
        if let Some((library, variable)) = self.preloaded {
            command.env("LD_PRELOAD", self.directory().join(library));
            command.env(variable, self.directory().join(variable));
        }
        Process::start(&command, &self.directory().join("log"))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory().join("log")).unwrap_or_default()
    }
}

/// A pgbouncer in transaction mode before a server.
pub(crate) struct PgBouncer {
    _directory: TempDir,
    port: u16,
    _process: Process,
}

impl PgBouncer {
    pub(crate) async fn start(server: &Postgres) -> Self {
        Self::start_before(server.port).await
    }

    /// One before whatever listens at a port of this machine.
    pub(crate) async fn start_before(server_port: u16) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = directory.path().join("pgbouncer.ini");
        let lines = [
            "[databases]".to_owned(),
            format!("* = host=127.0.0.1 port={server_port} user=idem"),
            "[pgbouncer]".to_owned(),
            format!("listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir ="),
            "pool_mode = transaction\nauth_type = any\nmax_client_conn = 1000\nserver_tls_sslmode = disable"
                .to_owned(),
            // Fewer than its clients have, so that they get each other's.
            "default_pool_size = 8".to_owned(),
        ];
        fs::write(&config, lines.join("\n")).unwrap();
        hand_over(directory.path());
        let mut command = as_its_user(&pgbouncer());
        command.arg(&config);
        let log = directory.path().join("log");
        let mut process = Process::start(&command, &log);
        let began = Instant::now();
        while client(&url(port)).await.is_err() {
            let is_running = !process.has_ended() && began.elapsed() < HUNG_AFTER;
            assert!(is_running, "{}", fs::read_to_string(&log).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { _directory: directory, port, _process: process }
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }
}

fn url(port: u16) -> String {
    format!("postgres://idem@127.0.0.1:{port}/postgres")
}

/// A connection to a URL.
pub(crate) async fn client(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A directory with a copy of a server's data.
fn copied(data: &Path) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(data).arg(directory.path().join("data")).status().unwrap();
    assert!(copied.success());
    let _ = fs::remove_file(directory.path().join("data/postmaster.pid"));
    directory
}

/// The data of a new server, made once for each version.
fn template() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let version = Command::new(programs().join("postgres")).arg("--version").output().unwrap();
    // `postgres (PostgreSQL) 15.18 (Debian ..)`.
    let version = String::from_utf8_lossy(&version.stdout).split(' ').nth(2).unwrap().trim().to_owned();
    let template = cache.join(format!("postgres-template-{version}"));
    // Many tests begin at the same time, each in a process of its own.
    let lock = fs::File::create(cache.join("postgres-template.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !template.exists() {
        // The server's user may not be allowed to look into the build directory.
        let making = tempfile::tempdir().unwrap();
        hand_over(making.path());
        let mut initdb = as_its_user(&programs().join("initdb"));
        initdb.args(["--username=idem", "--auth=trust", "--no-sync", "--wal-segsize=1", "--locale=C"]);
        initdb.args(["--encoding=UTF8", "--no-instructions", "-D"]).arg(making.path().join("data"));
        let made = initdb.current_dir(making.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let beside = cache.join("postgres-template-in-the-making");
        let _ = fs::remove_dir_all(&beside);
        let copied =
            Command::new("cp").arg("-r").arg(making.path().join("data")).arg(&beside).status().unwrap();
        assert!(copied.success());
        fs::rename(beside, &template).unwrap();
    }
    template
}

fn pgbouncer() -> PathBuf {
    let of_debian = PathBuf::from("/usr/sbin/pgbouncer");
    if of_debian.exists() { of_debian } else { PathBuf::from("pgbouncer") }
}

/// Puts the server under the clock, with a copy of the library that its user can read.
fn watch(clock: &MovedClock, command: &mut Command, directory: &Path) {
    clock.watch(command);
    let library =
        command.get_envs().find_map(|(name, value)| if name == "LD_PRELOAD" { value } else { None });
    let library = PathBuf::from(library.unwrap());
    let copy = directory.join("moved-clock.so");
    if !copy.exists() {
        fs::copy(library, &copy).unwrap();
    }
    command.env("LD_PRELOAD", copy);
}
