//! Builds and tests a backend that is not part of the workspace and uses only the public API.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

#[test]
fn a_backend_outside_of_the_workspace_builds_and_passes() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = here.join("outside/Cargo.toml");
    if !manifest.exists() {
        // The published crate does not contain it, because it is a package of its own.
        return;
    }
    // The versions that the workspace has resolved, so that nothing has to be fetched.
    let resolved = here.join("../Cargo.lock");
    if resolved.exists() {
        fs::copy(resolved, here.join("outside/Cargo.lock")).expect("the lock file can be copied");
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = cargo
        .args(["test", "--quiet", "--manifest-path"])
        .arg(manifest)
        // Apart from the workspace's own artifacts, because the profile and the features differ.
        .args(["--target-dir", concat!(env!("CARGO_TARGET_TMPDIR"), "/outside")])
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status();
    assert!(status.expect("cargo can be started").success(), "the suite failed over the outside backend");
}
