//! `cargo xtask soak`: runs `kills`, and then every test many times. A test that fails once in twenty runs is a bug, in the
//! test or in the code, and an ordinary run hides it nineteen times out of twenty.

use std::time::{Duration, Instant};

use crate::install::{NEXTEST, ensure};
use crate::metadata::Metadata;
use crate::step::{Result, fail, run, seconds, shown};
use crate::test::every_test;
use crate::{kills, report, servers};

/// Runs all tests `times` times, also after a run that fails, and fails unless every run passes.
pub(crate) fn run_repeatedly(workspace: &Metadata, times: u32) -> Result {
    ensure(&[NEXTEST])?;
    servers::ensure_servers(workspace)?;
    let mut tests = every_test();
    tests.args(["--no-fail-fast", "--status-level", "fail", "--final-status-level", "fail"]);

    // Built before the clock starts.
    run(every_test().arg("--no-run"))?;
    kills::run_at_length(workspace)?;
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
    // `times` is at least 1, so the defaults are never used.
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
    report::write(
        workspace,
        "soak",
        "Every test, many times",
        &format!("cargo xtask soak --times {times}"),
        &body,
    )?;
    eprintln!("\n{passed} of {times} runs passed");
    if failures.is_empty() { Ok(()) } else { fail(format!("failed: run {}", failures.join(", "))) }
}
