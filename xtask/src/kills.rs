//! `cargo xtask kills`: services are killed in the midst of a request, in each named window more often than an ordinary run
//! of the tests does it.

use crate::metadata::Metadata;
use crate::step::{Result, cargo, read, shown};
use crate::{report, servers};

/// How often each window is hit.
const PER_WINDOW: &str = "40";

/// Kills until every window was hit that often, on every store and in every mode. The report has what the rounds print: the
/// seed, the hits of each window, and how many keys were checked.
pub(crate) fn run_at_length(workspace: &Metadata) -> Result {
    servers::ensure_servers(workspace)?;
    let mut rounds =
        cargo("test --package provision --test kills -- --nocapture --test-threads 1".split(' '));
    rounds.env("IDEM_KILLS_PER_WINDOW", PER_WINDOW);
    eprintln!("\n==> {}", shown(&rounds));
    let printed = read(&mut rounds)?;
    let told: Vec<_> = printed.lines().filter(|line| !line.is_empty()).collect();
    let body = format!("`{}`\n\n```text\n{}\n```\n", shown(&rounds), told.join("\n"));
    report::write(workspace, "kills", "Services killed in the midst of a request", "cargo xtask kills", &body)
}
