//! `cargo xtask test`: whether the workspace is correct.
//!
//! The quick checks come first, so that a slip shows within a minute. The test runner comes last, so that its own summary
//! ends the output, and its status is the task's.
//!
//! Everything is built once: the tests, with all features of the whole workspace. What runs a program of this repository
//! runs the one that this build made, since `cargo run --package` would choose other features and build most
//! dependencies again.

use std::env;
use std::process::Command;

use crate::install::{C_COMPILER, NEXTEST, ensure};
use crate::metadata::Metadata;
use crate::step::{Result, capture, cargo, fail, finish_with, run, shown, step};
use crate::{circles, features, hygiene, msrv, packages, servers};

/// Runs every step in order and stops at the first that fails.
pub(crate) fn run_every_step(workspace: &Metadata) -> Result {
    step("what the tests need", || {
        ensure(&[C_COMPILER, NEXTEST])?;
        servers::ensure_servers(workspace)
    })?;
    step("tracked files", || hygiene::check(workspace))?;
    step("import circles", || circles::check(workspace))?;
    step("packages", || packages::check(workspace))?;
    step("rust-version of each crate", || msrv::check(workspace))?;
    step("each feature alone", || features::check(workspace))?;
    step("build of the tests", || run(every_test().arg("--no-run")))?;
    step("examples in the documentation", || {
        run(&mut cargo("test --doc --workspace --all-features".split(' ')))
    })?;
    step("every interleaving (shuttle)", || run(&mut shuttle(workspace)))?;
    step("the races of the README", || race(workspace))?;
    eprintln!("\n==> tests");
    finish_with(every_test().arg("--no-fail-fast"))
}

/// The runner over every test of the workspace.
pub(crate) fn every_test() -> Command {
    cargo("nextest run --workspace --all-features".split(' '))
}

/// The tests that hold idem-core: those of idem-core and idem-memory, and the conformance suite over its reference store.
///
/// The suite's tests of itself are left out: they run stores that are broken on purpose. So is the test that compiles
/// programs: it runs no code of the core.
pub(crate) struct CoreTests {
    packages: [String; 3],
    /// For nextest.
    pub(crate) filter: String,
}

impl CoreTests {
    pub(crate) fn of(workspace: &Metadata) -> Self {
        Self {
            packages: ["idem-core", "idem-memory", "conformance-tests"]
                .map(|folder| workspace.package_in(folder)),
            filter: "(package(idem-core) - binary(compile_fail)) | package(idem-memory) | \
                     (binary(=reference) & test(/^paused::/))"
                .to_owned(),
        }
    }

    /// Each package after this flag.
    pub(crate) fn packages<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> {
        self.packages.iter().flat_map(move |package| [flag, package])
    }
}

/// The tests in which the model checker takes the place of the crates' own locks and atomics: idem-core's `model` module,
/// and idem-memory's `shuttle`.
///
/// The other tests are left out, since those locks panic outside of a model. The flag changes every dependency's build, so
/// these tests have a target directory of their own.
fn shuttle(workspace: &Metadata) -> Command {
    let mut models =
        cargo("nextest run --package idem-core --package idem-memory --lib --test shuttle".split(' '));
    models.args(["--filterset", "test(/^engine::model::/) | binary(shuttle)"]);
    models.arg("--target-dir").arg(workspace.target_directory.join("shuttle"));
    models.env("RUSTFLAGS", format!("{} --cfg shuttle", env::var("RUSTFLAGS").unwrap_or_default()).trim());
    models
}

/// Short runs of the races: over HTTP, and between two processes with idem and without. The last one must fail, which
/// shows that the race can.
fn race(workspace: &Metadata) -> Result {
    let built = |program: &str, arguments: &str| {
        let mut command = Command::new(workspace.target_directory.join("debug").join(program));
        command.args(arguments.split(' '));
        command
    };
    run(&mut built("provision", "race --keys 20 --duplicates 32"))?;
    run(&mut built("examples/race", "--keys 20 --callers 8"))?;

    let mut unprotected = built("examples/race", "--keys 20 --callers 8 --without-idem");
    eprintln!("    {}", shown(&unprotected));
    let output = capture(&mut unprotected)?;
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    match output.status.code() {
        Some(1) => Ok(()),
        _ => fail(format!(
            "the race without idem ended with {}, but its double creates must make that 1\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
        )),
    }
}
