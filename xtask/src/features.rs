//! Whether each published library compiles without its features, and with each one alone.
//!
//! A workspace build unifies features, so that a crate which forgets one of its own (or of a dependency's) still
//! builds there, and only fails for the user who takes it alone.

use crate::metadata::{Metadata, Package};
use crate::step::{Result, cargo, run};

/// Checks every combination, with warnings denied. All features together are what the tests run with.
pub(crate) fn check(workspace: &Metadata) -> Result {
    for package in workspace.members().into_iter().filter(|package| package.is_published_library()) {
        check_with(package, None)?;
        for feature in package.features.keys() {
            check_with(package, Some(feature))?;
        }
    }
    Ok(())
}

fn check_with(package: &Package, feature: Option<&str>) -> Result {
    // `cargo rustc` and not `cargo check`: flags behind the dashes reach this crate alone, so that denying warnings
    // does not rebuild what it depends on.
    let mut check = cargo(["rustc", "--quiet", "--profile", "check", "--lib", "--package", &package.name]);
    check.arg("--no-default-features");
    if let Some(feature) = feature {
        check.args(["--features", feature]);
    }
    run(check.args(["--", "-D", "warnings"]))
}
