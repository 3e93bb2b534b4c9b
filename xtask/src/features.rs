//! Whether each published library compiles without its features, and with each one alone.
//!
//! A workspace build unifies features. A crate that forgets to enable a feature of a dependency still builds there, and
//! fails for a user who depends on that crate alone.

use crate::metadata::{Metadata, Package};
use crate::step::{Result, cargo, run};

/// Checks every combination, with warnings denied. All features together are what the tests run with.
pub(crate) fn check(workspace: &Metadata) -> Result {
    for package in workspace.published() {
        check_with(package, None)?;
        for feature in package.features() {
            check_with(package, Some(feature))?;
        }
    }
    Ok(())
}

fn check_with(package: &Package, feature: Option<&str>) -> Result {
    // Unlike `cargo check`, `cargo rustc` passes flags to this crate alone, so that its dependencies are not built again.
    let mut check = cargo(["rustc", "--quiet", "--profile", "check", "--lib", "--package", &package.name]);
    check.arg("--no-default-features");
    if let Some(feature) = feature {
        check.args(["--features", feature]);
    }
    run(check.args(["--", "-D", "warnings"]))
}
