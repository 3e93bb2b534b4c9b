//! `cargo xtask miri`: the tests of idem-core and idem-memory under Miri, which executes every instruction in an
//! interpreter and stops at undefined behaviour, leaks and data races.
//!
//! The crates themselves forbid `unsafe`. This checks how they use the unsafe code of their dependencies.

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

/// Runs the tests that Miri can run. The others are marked `#[cfg_attr(miri, ignore = "..")]` with the reason.
pub(crate) fn run_tests(workspace: &Metadata) -> Result {
    ensure(&[MIRI])?;
    // The variable `CARGO` names a toolchain's own cargo; only rustup's can switch to nightly.
    let mut tests = Command::new("cargo");
    tests.args("+nightly miri test --package idem-core --package idem-memory --lib --tests".split(' '));
    // With isolation Miri refuses the system clock, which fencing tokens start from.
    let flags = env::var("MIRIFLAGS").unwrap_or_default();
    tests.env("MIRIFLAGS", format!("{flags} -Zmiri-disable-isolation").trim());
    run(tests.current_dir(&workspace.workspace_root))
}
