//! `cargo xtask bench`: runs the benches, and keeps what they print and their raw figures in `results/`.

use std::fs;
use std::process::Stdio;

use crate::metadata::Metadata;
use crate::report;
use crate::step::{Failure, Result, capture, cargo, fail, shown};

/// Runs idem-bench with these further arguments. A missed target fails the task after the results are written.
pub(crate) fn run(workspace: &Metadata, arguments: &[&str]) -> Result {
    fs::create_dir_all(workspace.workspace_root.join("results"))
        .map_err(|error| Failure::Because(format!("results/ could not be made: {error}")))?;
    // Relative to the root, since the result quotes the command.
    let mut bench =
        cargo("run --release --quiet --package idem-bench -- --json results/bench.json".split(' '));
    bench.args(arguments).current_dir(&workspace.workspace_root).stderr(Stdio::inherit());
    eprintln!("    {}", shown(&bench));
    let output = capture(&mut bench)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    if !printed.trim().is_empty() {
        let body = format!("```text\n{}\n```", printed.trim_end());
        report::write(workspace, "bench", "Benches", &shown(&bench), &body)?;
    }
    if output.status.success() { Ok(()) } else { fail(format!("the benches ended with {}", output.status)) }
}
