//! What starting a Postgres takes beside a [`Process`](super::Process): where its programs are, and a user that it accepts.
//!
//! ```no_run
//! use conformance_tests::server::postgres;
//!
//! let directory = tempfile::tempdir().unwrap();
//! postgres::hand_over(directory.path());
//! let mut initdb = postgres::as_its_user(&postgres::programs().join("initdb"));
//! initdb.arg("-D").arg(directory.path().join("data")).current_dir(&directory);
//! assert!(initdb.status().unwrap().success());
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where its programs are: in the directory that `IDEM_POSTGRES_BIN` names, for tests of another version. Otherwise the latest
/// that Debian has, which keeps them out of the path, in a directory for each version; elsewhere `pg_config` knows.
///
/// # Panics
///
/// If there are none.
pub fn programs() -> PathBuf {
    if let Some(chosen) = std::env::var_os("IDEM_POSTGRES_BIN") {
        return chosen.into();
    }
    let of_debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = of_debian
        .filter_map(|it| Some((it.file_name().to_str()?.parse::<u32>().ok()?, it.path().join("bin"))));
    if let Some((_, latest)) = versions.filter(|(_, programs)| programs.join("initdb").exists()).max() {
        return latest;
    }
    let asked = Command::new("pg_config").arg("--bindir").output().expect("Postgres is installed");
    PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim())
}

/// A program of Postgres's, or a pooler's, as a user that it accepts: it refuses to run as root, and is run as `postgres` then.
pub fn as_its_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

/// Gives a directory to the user that [`as_its_user`] runs programs as.
///
/// # Panics
///
/// If it cannot be given.
pub fn hand_over(directory: &Path) {
    if is_root() {
        let given = Command::new("chown").args(["-R", "postgres:postgres"]).arg(directory).status();
        assert!(given.is_ok_and(|status| status.success()), "{} is given away", directory.display());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
