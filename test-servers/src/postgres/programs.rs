//! Where Postgres's programs are, and the user that runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of Postgres: from the directory that `IDEM_POSTGRES_BIN` names, or of the latest version that Debian has
/// (it keeps each version in a directory outside of the path), or from where `pg_config` says.
pub(super) fn program(name: &str) -> PathBuf {
    programs().join(name)
}

fn programs() -> PathBuf {
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

/// A command that runs as the user `postgres` if this process is root, because Postgres and pgbouncer refuse to run as
/// root.
pub(super) fn as_its_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

/// Makes the user of [`as_its_user`] the owner of a directory.
pub(super) fn hand_over(directory: &Path) {
    if is_root() {
        let given = Command::new("chown").args(["-R", "postgres:postgres"]).arg(directory).status();
        assert!(given.is_ok_and(|status| status.success()), "{} is given away", directory.display());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
