//! The server that is measured: one of our own on a directory's disk, or somebody's.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use conformance_tests::server::{Process, free_port};
use tempfile::TempDir;

use crate::rounds::Spread;
use crate::sqlite::flush;

pub(super) struct Server {
    pub(super) url: String,
    /// Held, so that it is stopped at the end: first the process.
    own: Option<(Process, TempDir)>,
}

impl Server {
    /// `postgres:` and a directory, or a URL.
    pub(super) fn of(store: &str) -> Result<Self, Box<dyn Error>> {
        match store.strip_prefix("postgres:") {
            Some(directory) if !directory.starts_with("//") => Self::start(Path::new(directory)),
            _ => Ok(Self { url: store.to_owned(), own: None }),
        }
    }

    /// With Postgres's own settings, but for where it listens and what it keeps in memory: a quarter of a gigabyte.
    fn start(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir_in(directory)?;
        if is_root() {
            succeeded(Command::new("chown").arg("postgres:").arg(directory.path()))?;
        }
        let (data, programs) = (directory.path().join("data"), programs()?);
        let mut initdb = as_the_servers_user(&programs.join("initdb"));
        initdb.args(["--username=idem", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data);
        succeeded(initdb.current_dir(directory.path()))?;

        let port = free_port();
        let mut server = as_the_servers_user(&programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-k", "", "-p", &port.to_string(), "-c", "shared_buffers=256MB"]);
        let log = directory.path().join("log");
        let mut process = Process::start(server.current_dir(directory.path()), &log);
        let mut is_ready = Command::new(programs.join("pg_isready"));
        is_ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        while !is_ready.status()?.success() {
            if process.has_ended() {
                return Err(format!("the server does not start: {}", fs::read_to_string(&log)?).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            url: format!("postgres://idem@127.0.0.1:{port}/postgres"),
            own: Some((process, directory)),
        })
    }

    /// How long the disk takes to flush a page, if it is known which disk it is.
    pub(super) fn flush(&self) -> io::Result<Option<Spread>> {
        self.own.as_ref().map(|(_, directory)| flush::latency(directory.path())).transpose()
    }
}

/// Debian keeps them out of the path, a directory for each version: the latest is taken.
fn programs() -> Result<PathBuf, Box<dyn Error>> {
    let of_debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let with_version =
        of_debian.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    if let Some((_, latest)) = with_version.max() {
        return Ok(latest.join("bin"));
    }
    let asked = Command::new("pg_config").arg("--bindir").output()?;
    Ok(PathBuf::from(String::from_utf8(asked.stdout)?.trim()))
}

/// Postgres refuses to run as root.
fn as_the_servers_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn succeeded(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into())
}
