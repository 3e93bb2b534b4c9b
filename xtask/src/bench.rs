//! `cargo xtask bench`: the benches, with what they print and their raw figures kept in `results/`.

use std::fs;
use std::process::Stdio;

use crate::metadata::Metadata;
use crate::report;
use crate::step::{Failure, Result, capture, cargo, fail, shown};

/// Runs idem-bench with the given further arguments. A missed target fails the task, and is written down all the same.
pub(crate) fn run(workspace: &Metadata, arguments: &[String]) -> Result {
    fs::create_dir_all(workspace.workspace_root.join("results"))
        .map_err(|error| Failure::Because(format!("results/ could not be made: {error}")))?;
    // A path relative to the root, where it is run: the command is quoted in the result.
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
