//! `cargo xtask asan`: the tests of idem-core and idem-memory under `AddressSanitizer`, which checks every heap access and
//! reports what is never freed.
//!
//! It sees less than Miri (no data races, no invalid values), is much faster, and needs only a nightly toolchain.
//! `ThreadSanitizer` would need a standard library that is built for it: it cannot see the synchronisation inside the
//! prebuilt one, and reports a race for every `Arc`.

use std::process::Command;

use crate::install::{NEXTEST, Need, Source, ensure};
use crate::metadata::Metadata;
use crate::step::{Result, finish_with, rustc};

const NIGHTLY: Need = Need {
    name: "a nightly toolchain",
    probe: "cargo +nightly --version",
    source: Source::Person("rustup toolchain install nightly"),
};

/// Runs the tests in a target directory of their own, since the flag changes the build of every dependency.
pub(crate) fn run_tests(workspace: &Metadata) -> Result {
    ensure(&[NEXTEST, NIGHTLY])?;
    let mut tests = Command::new("cargo");
    tests.args("+nightly nextest run --package idem-core --package idem-memory --lib --tests".split(' '));
    // With an explicit target the flag does not apply to build scripts and procedural macros.
    // The messages of a nightly compiler differ.
    tests.args(["--filterset", "not binary(compile_fail)"]);
    tests.args(["--all-features", "--target", &rustc("host")?, "--target-dir"]);
    tests.arg(workspace.target_directory.join("asan")).env("RUSTFLAGS", "-Zsanitizer=address");
    finish_with(tests.current_dir(&workspace.workspace_root))
}
