//! Installs what a task needs and the machine does not have.
//!
//! Tools written in Rust come from crates.io, through cargo. System packages come through apt on Debian and Ubuntu; on any
//! other system the task stops and says what to install. If everything is there, no network is needed.

use std::process::Command;

use crate::step::{Failure, Result, cargo, fail, run, succeeds};

/// A program that a task needs.
pub(crate) struct Need {
    /// Its name, for people.
    pub(crate) name: &'static str,
    /// A command that succeeds if it is installed.
    pub(crate) probe: &'static str,
    pub(crate) source: Source,
}

/// How to install a program.
pub(crate) enum Source {
    /// Packages of Debian and Ubuntu.
    Apt(&'static [&'static str]),
    /// A package on crates.io.
    Crate(&'static str),
    /// A command for the person to run. It changes their toolchain, so no task runs it.
    Person(&'static str),
}

/// For SQLite, and for the parts of tests that are C.
pub(crate) const C_COMPILER: Need =
    Need { name: "a C compiler", probe: "cc --version", source: Source::Apt(&["gcc", "libc6-dev"]) };

/// The test runner. It runs each test in a process of its own.
pub(crate) const NEXTEST: Need =
    Need { name: "cargo-nextest", probe: "cargo nextest --version", source: Source::Crate("cargo-nextest") };

/// Installs those of these programs that are missing.
pub(crate) fn ensure(needs: &[Need]) -> Result {
    for need in needs {
        if is_there(need.probe) {
            eprintln!("    {}: there", need.name);
            continue;
        }
        eprintln!("    {}: missing", need.name);
        match need.source {
            Source::Apt(packages) => apt(packages)?,
            Source::Crate(package) => run(&mut cargo(["install", "--locked", package]))?,
            Source::Person(command) => {
                return fail(format!("{} is missing; install it with `{command}`", need.name));
            }
        }
        if !is_there(need.probe) {
            return fail(format!("{} was installed, but `{}` still fails", need.name, need.probe));
        }
    }
    Ok(())
}

/// Installs system packages, or fails with their names where it cannot.
pub(crate) fn apt(packages: &[&str]) -> Result {
    let wanted = packages.join(" ");
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return fail(format!(
            "install this system's packages for what Debian calls `{wanted}`, then run this again"
        ));
    }
    let is_root = crate::step::read(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        return fail(format!("run `sudo apt-get install {wanted}`, then run this again"));
    }
    let apt_get = |arguments: &[&str]| {
        // sudo drops most of the environment, so `env` sets the variable.
        let mut command = Command::new(if is_root { "env" } else { "sudo" });
        if !is_root {
            command.args(["-n", "env"]);
        }
        command
            .args("DEBIAN_FRONTEND=noninteractive apt-get --quiet --option Dpkg::Use-Pty=0".split(' '))
            .args(arguments);
        command
    };
    let install: Vec<_> =
        ["install", "--yes", "--no-install-recommends"].iter().chain(packages).copied().collect();
    // apt's lists can be empty or out of date. Fetching them takes time, so it is done only after a failure.
    if run(&mut apt_get(&install)).is_ok() {
        return Ok(());
    }
    run(&mut apt_get(&["update"]))?;
    run(&mut apt_get(&install)).map_err(|_| Failure::Because(format!("apt could not install `{wanted}`")))
}

fn is_there(probe: &str) -> bool {
    let mut words = probe.split(' ');
    words.next().is_some_and(|program| succeeds(Command::new(program).args(words)))
}
