//! `cargo xtask miri`: the tests of idem-core and idem-memory under Miri, which executes every instruction in an
//! interpreter and stops at undefined behaviour, leaks and data races.
//!
//! The crates themselves forbid `unsafe`; what this looks at is how they drive their dependencies' unsafe code.

use std::env;
use std::process::Command;

use crate::install::{Need, Source, ensure};
use crate::metadata::Metadata;
use crate::step::{Result, run};

const MIRI: Need = Need {
    name: "Miri",
    probe: "cargo +nightly miri --version",
    source: Source::Person("rustup +nightly component add miri rust-src"),
};

/// Runs the tests that Miri can run; those it cannot are marked `#[cfg_attr(miri, ignore)]` with their reason.
pub(crate) fn run_tests(workspace: &Metadata) -> Result {
    ensure(&[MIRI])?;
    // The `cargo` of the environment is the one that runs this task; only rustup's own can switch to nightly.
    let mut tests = Command::new("cargo");
    tests.args("+nightly miri test --package idem-core --package idem-memory --lib --tests".split(' '));
    // Isolation would refuse the system clock, from which the fencing tokens start.
    let flags = env::var("MIRIFLAGS").unwrap_or_default();
    tests.env("MIRIFLAGS", format!("{flags} -Zmiri-disable-isolation").trim());
    run(tests.current_dir(&workspace.workspace_root))
}
