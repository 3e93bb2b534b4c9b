//! The server that is measured: one of our own on a directory's disk, or somebody's.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use conformance_tests::server::postgres::{as_its_user, hand_over, programs};
use conformance_tests::server::{Process, free_port};
use tempfile::TempDir;

use crate::flush;
use crate::rounds::Spread;

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
        hand_over(directory.path());
        let (data, programs) = (directory.path().join("data"), programs());
        let mut initdb = as_its_user(&programs.join("initdb"));
        initdb.args(["--username=idem", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data);
        let made = initdb.current_dir(directory.path()).output()?;
        if !made.status.success() {
            return Err(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr)).into());
        }

        let port = free_port();
        let mut server = as_its_user(&programs.join("postgres"));
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
