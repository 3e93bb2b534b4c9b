//! Installs what a task needs and the machine lacks, and nothing else.
//!
//! Tools written in Rust come through cargo everywhere. System packages come through apt on Debian and Ubuntu; on any
//! other system the task stops and says what to install. When everything is there, nothing here needs a network.

use std::process::Command;

use crate::step::{Failure, Result, cargo, fail, run, succeeds};

/// Something that a task cannot do without.
pub(crate) struct Need {
    /// What it is called, for people.
    pub(crate) name: &'static str,
    /// A command that succeeds if it is there.
    pub(crate) probe: &'static str,
    pub(crate) source: Source,
}

/// Where something comes from if it is missing.
pub(crate) enum Source {
    /// Packages of Debian and Ubuntu.
    Apt(&'static [&'static str]),
    /// A package on crates.io, built with the versions that its author tested.
    Crate(&'static str),
    /// The person has to run this command: it changes their toolchain, which no task does on its own.
    Person(&'static str),
}

/// rusqlite and the tests' servers are C; a Rust toolchain that links with something else can lack one.
pub(crate) const C_COMPILER: Need =
    Need { name: "a C compiler", probe: "cc --version", source: Source::Apt(&["gcc", "libc6-dev"]) };

/// Runs each test in a process of its own, and sums them all up at the end.
pub(crate) const NEXTEST: Need =
    Need { name: "cargo-nextest", probe: "cargo nextest --version", source: Source::Crate("cargo-nextest") };

/// Sees that everything is there, and installs what is not.
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

/// Installs system packages where that can be done, and otherwise says which.
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
        // `env` carries the variable through sudo, which drops most of the environment.
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
    // The lists of a fresh image are empty, and those of an old one name versions that are gone. Elsewhere fetching
    // them again would only cost time, so it is done when an install has failed.
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
