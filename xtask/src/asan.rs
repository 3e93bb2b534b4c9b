//! `cargo xtask asan`: the tests of idem-core and idem-memory with every heap access checked by `AddressSanitizer`, and
//! with what is never freed reported at the end of each test's process.
//!
//! It sees less than Miri (no data races, no invalid values) and needs no more than a nightly toolchain. Its sibling
//! `ThreadSanitizer` is of no use without a standard library that was built for it as well: it cannot see the
//! synchronisation inside of the prebuilt one, and reports a race for every `Arc`.

use std::process::Command;

use crate::install::{NEXTEST, Need, Source, ensure};
use crate::metadata::Metadata;
use crate::step::{Result, finish_with, rustc};

const NIGHTLY: Need = Need {
    name: "a nightly toolchain",
    probe: "cargo +nightly --version",
    source: Source::Person("rustup toolchain install nightly"),
};

/// Runs the tests in a target directory of their own, since the flag changes every dependency's build.
pub(crate) fn run_tests(workspace: &Metadata) -> Result {
    ensure(&[NEXTEST, NIGHTLY])?;
    let mut tests = Command::new("cargo");
    tests.args("+nightly nextest run --package idem-core --package idem-memory --lib --tests".split(' '));
    // A target that is named keeps the flag away from build scripts and procedural macros, which run in the compiler.
    tests.args(["--all-features", "--target", &rustc("host")?, "--target-dir"]);
    tests.arg(workspace.target_directory.join("asan")).env("RUSTFLAGS", "-Zsanitizer=address");
    finish_with(tests.current_dir(&workspace.workspace_root))
}
