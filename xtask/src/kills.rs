//! `cargo xtask kills`: kills services during requests, in each named window more often than an ordinary run of the tests.

use std::process::Stdio;

use crate::metadata::Metadata;
use crate::step::{Result, capture, cargo, fail, shown};
use crate::{report, servers};

/// How often each window is hit.
const PER_WINDOW: &str = "40";

/// Kills until every window was hit that often, on every store and in every mode. The report shows the seed, the hits of
/// each window, and how many keys were checked.
pub(crate) fn run_at_length(workspace: &Metadata) -> Result {
    servers::ensure_servers(workspace)?;
    // With the features of all other tests, so that nothing is built again.
    let mut rounds =
        cargo("test --workspace --all-features --test kills -- --nocapture --test-threads 1".split(' '));
    rounds.env("IDEM_KILLS_PER_WINDOW", PER_WINDOW);
    let rounds = rounds.stderr(Stdio::inherit()); // where a failure prints its reason
    eprintln!("\n==> {}", shown(rounds));
    let output = capture(rounds)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // It names the seed that repeats the rounds.
        return fail(format!("the kill rounds failed\n{}", printed.trim()));
    }
    let lines: Vec<_> = printed.lines().filter(|line| !line.is_empty()).collect();
    let body = format!("`{}`\n\n```text\n{}\n```\n", shown(rounds), lines.join("\n"));
    report::write(workspace, "kills", "Services killed during requests", "cargo xtask kills", &body)
}
