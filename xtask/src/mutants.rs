//! `cargo xtask mutants`: which small changes of idem-core no test notices.
//!
//! Coverage shows that a line ran, not that a test looked at what it did. cargo-mutants changes one expression at a time
//! and runs the tests. A change that they all survive is a missing test, or makes no difference; those of the second kind
//! are excluded in `.cargo/mutants.toml`, each with its reason.
//!
//! idem-core's own tests build and run in seconds and catch nearly every mutant, so they run first. Only what they do not
//! catch is tried again with the tests of the other packages.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use crate::install::{NEXTEST, Need, Source, ensure};
use crate::metadata::Metadata;
use crate::report;
use crate::step::{Result, capture, cargo, fail, shown};
use crate::test::CoreTests;

const CARGO_MUTANTS: Need = Need {
    name: "cargo-mutants",
    probe: "cargo mutants --version",
    source: Source::Crate("cargo-mutants@^27"),
};

/// Runs every mutant, writes the table, and fails if one survives. With further arguments the table is only printed.
///
/// With `resume`, cargo-mutants skips what its last run caught or could not compile, also if that run was interrupted. It
/// recognises a mutant by its file, its line and the change.
pub(crate) fn run(workspace: &Metadata, resume: bool, arguments: &[&str]) -> Result {
    ensure(&[NEXTEST, CARGO_MUTANTS])?;
    let core = CoreTests::of(workspace);
    let mut quick = mutants(workspace, resume, arguments);
    let first = Outcomes::of(workspace, quick.args(["--test-package", "idem-core"]))?;
    let mut commands = format!("    {}\n", shown(&quick));
    let mut last = first.clone();
    if !first.missed.is_empty() {
        let mut thorough = mutants(workspace, true, arguments);
        thorough.args(core.packages("--test-package"));
        // The timeout comes from a run of idem-core's own tests, and the others take longer.
        thorough.args(["--minimum-test-timeout", "120", "--", "--filterset", &core.filter]);
        last = Outcomes::of(workspace, &mut thorough)?;
        last.caught += first.caught;
        last.unviable += first.unviable;
        let _ = writeln!(commands, "    {}", shown(&thorough)); // writing into a string cannot fail
    }
    let body = format!(
        "{commands}\n| mutants | |\n|---|---:|\n| caught: a test failed | {} |\n| caught: a test hung | {} |\n\
         | did not compile | {} |\n| caught or not compiled in an earlier run | {} |\n| survived | {} |\n",
        last.caught,
        last.timeout,
        last.unviable,
        first.earlier,
        last.missed.len(),
    );
    if arguments.is_empty() {
        let task = if resume { "cargo xtask mutants --resume" } else { "cargo xtask mutants" };
        report::write(workspace, "mutants", "Mutants of idem-core", task, &body)?;
    } else {
        eprintln!("\n{body}\n    results/mutants.md is written by a run without further arguments");
    }
    if last.missed.is_empty() {
        return Ok(());
    }
    fail(format!(
        "write a test for each survivor, or exclude it in .cargo/mutants.toml with the reason:\n       {}",
        last.missed.join("\n       ")
    ))
}

/// cargo-mutants over idem-core, with the tests still to be chosen. The rest of its settings are in `.cargo/mutants.toml`.
fn mutants(workspace: &Metadata, iterate: bool, arguments: &[&str]) -> Command {
    let mut mutants = cargo("mutants --package idem-core --output target --colors never".split(' '));
    mutants.args(iterate.then_some("--iterate")).args(arguments).current_dir(&workspace.workspace_root);
    // Nobody reads backtraces here, and several hundred binaries are linked.
    mutants.env("CARGO_PROFILE_DEV_DEBUG", "false");
    // Each job builds in a copy of the tree. In one target directory they would run each other's mutants.
    mutants.env_remove("CARGO_TARGET_DIR");
    mutants
}

/// What became of the mutants.
#[derive(Clone)]
struct Outcomes {
    caught: usize,
    timeout: usize,
    unviable: usize,
    /// Skipped, since an earlier run caught them or could not compile them.
    earlier: usize,
    missed: Vec<String>,
}

impl Outcomes {
    /// Runs cargo-mutants, and reads the lists that it leaves.
    fn of(workspace: &Metadata, command: &mut Command) -> Result<Self> {
        eprintln!("    {}", shown(command));
        let status = capture(command.stdout(Stdio::inherit()).stderr(Stdio::inherit()))?.status;
        // 2: some survived. 3: some hung. Any other failure means that it could not do its work.
        if !matches!(status.code(), Some(0 | 2 | 3)) {
            return fail(format!("`{}` ended with {status}", shown(command)));
        }
        let list = |name: &str| -> Vec<String> {
            let file = workspace.workspace_root.join("target/mutants.out").join(name);
            fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
        };
        Ok(Self {
            caught: list("caught.txt").len(),
            timeout: list("timeout.txt").len(),
            unviable: list("unviable.txt").len(),
            earlier: list("previously_caught.txt").len(),
            missed: list("missed.txt"),
        })
    }
}
