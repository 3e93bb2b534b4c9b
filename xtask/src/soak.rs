//! `cargo xtask soak`: the rounds that kill services in the midst of a request, more of them than an ordinary run has; and
//! every test, many times over. A test that fails once in twenty runs is a bug, here or in the
//! code, and an ordinary run hides it nineteen times out of twenty.

use std::time::{Duration, Instant};

use crate::install::{NEXTEST, ensure};
use crate::metadata::Metadata;
use crate::step::{Result, cargo, fail, read, run, seconds, shown};
use crate::test::every_test;
use crate::{report, servers};

/// How often each window of the kill rounds is hit.
const KILLS_PER_WINDOW: u32 = 40;

/// Kills until every window was hit that often, on every store. What the rounds print: seed, kills, hits of each window.
fn kill() -> Result<String> {
    let mut rounds =
        cargo("test --package provision --test kills -- --nocapture --test-threads 1".split(' '));
    rounds.env("IDEM_KILLS_PER_WINDOW", KILLS_PER_WINDOW.to_string());
    eprintln!("\n==> {}", shown(&rounds));
    let printed = read(&mut rounds)?;
    let told = printed.lines().filter(|line| !line.is_empty() && !line.starts_with("running"));
    Ok(format!("`{}`:\n\n```text\n{}\n```\n", shown(&rounds), told.collect::<Vec<_>>().join("\n")))
}

/// Runs all tests `times` times, to the end even if a run fails, and fails unless every run passed.
pub(crate) fn run_repeatedly(workspace: &Metadata, times: u32) -> Result {
    ensure(&[NEXTEST])?;
    servers::ensure_servers(workspace)?;
    let mut tests = every_test();
    tests.args(["--no-fail-fast", "--status-level", "fail", "--final-status-level", "fail"]);

    // Built before the clock starts.
    run(every_test().arg("--no-run"))?;
    let kills = kill()?;
    let (mut failures, mut durations) = (Vec::new(), Vec::new());
    for number in 1..=times {
        eprintln!("\n==> run {number} of {times}");
        let begun = Instant::now();
        if run(&mut tests).is_err() {
            failures.push(number.to_string());
        }
        durations.push(begun.elapsed());
    }

    let passed = durations.len() - failures.len();
    let total: Duration = durations.iter().sum();
    // `times` is at least 1, so that there is a longest and a shortest; the defaults are never used.
    let (shortest, longest) = (durations.iter().min().copied(), durations.iter().max().copied());
    let (shortest, longest) = (shortest.unwrap_or_default(), longest.unwrap_or_default());
    let mut body = format!(
        "{passed} of {times} runs passed, in {} ({} to {} a run). Each run: `{}`.\n",
        seconds(total),
        seconds(shortest),
        seconds(longest),
        shown(&tests),
    );
    if !failures.is_empty() {
        body = format!("{body}\nFailed: run {}.\n", failures.join(", "));
    }
    body = format!("{body}\n{kills}");
    report::write(
        workspace,
        "soak",
        "Every test, again and again",
        &format!("cargo xtask soak --times {times}"),
        &body,
    )?;
    eprintln!("\n{passed} of {times} runs passed");
    if failures.is_empty() { Ok(()) } else { fail(format!("failed: run {}", failures.join(", "))) }
}
