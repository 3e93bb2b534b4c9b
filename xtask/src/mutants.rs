//! `cargo xtask mutants`: which small changes of idem-core no test notices.
//!
//! Coverage says that a line ran, not that anything looked at what it did. cargo-mutants changes one expression at a
//! time and runs the tests; a change that they all survive is either a test that is missing, or a change that makes
//! no difference. The second kind is explained by hand in `xtask/surviving-mutants.txt`, and only there.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::install::{NEXTEST, Need, Source, ensure};
use crate::metadata::Metadata;
use crate::report;
use crate::step::{Failure, Result, capture, cargo, fail, shown};
use crate::test::{CORE_TESTED_BY, CORE_TESTS};

const CARGO_MUTANTS: Need = Need {
    name: "cargo-mutants",
    probe: "cargo mutants --version",
    source: Source::Crate("cargo-mutants@^27"),
};

/// What is mutated: the state machine, the engine, and the types that both are made of.
const MUTATED: &str = "idem-core";

/// Where the explanations stand.
const EXPLANATIONS: &str = "xtask/surviving-mutants.txt";

/// Runs every mutant, writes the table, and fails if a survivor is not explained.
pub(crate) fn run(workspace: &Metadata, arguments: &[String]) -> Result {
    ensure(&[NEXTEST, CARGO_MUTANTS])?;
    let mut mutants = cargo(["mutants", "--all-features", "--test-tool", "nextest", "--colors", "never"]);
    mutants.args(["--package", MUTATED]);
    mutants.args(CORE_TESTED_BY.iter().flat_map(|package| ["--test-package", package]));
    // Relative paths: the command is quoted in the result.
    mutants.args(["--output", "target"]).args(arguments).args(["--", "--filterset", CORE_TESTS]);
    mutants.current_dir(&workspace.workspace_root);
    eprintln!("    {}", shown(&mutants));
    mutants.stdout(Stdio::inherit()).stderr(Stdio::inherit());

    // 2: some survived; 3: some timed out. Everything else but 0 means that it could not do its work.
    let status = capture(&mut mutants)?.status;
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        return fail(format!("`{}` ended with {status}", shown(&mutants)));
    }
    let results = Outcomes::read(&workspace.workspace_root.join("target/mutants.out"))?;
    let explanations = explanations(&workspace.workspace_root.join(EXPLANATIONS))?;
    let survivors: Vec<_> =
        results.missed.iter().map(|mutant| (mutant, explanation(&explanations, mutant))).collect();

    let body = format!("{}{}", results.counts(), listed(&survivors));
    report::write(workspace, "mutants", "Mutants of idem-core", &shown(&mutants), &body)?;
    if arguments.is_empty() {
        let survives =
            |explained: &str| results.missed.iter().any(|mutant| without_position(mutant) == explained);
        for (explained, _) in explanations.iter().filter(|(explained, _)| !survives(explained)) {
            eprintln!("    no longer survives, remove it from {EXPLANATIONS}: {explained}");
        }
    }
    let unexplained: Vec<_> =
        survivors.iter().filter(|(_, why)| why.is_none()).map(|(mutant, _)| *mutant).collect();
    if unexplained.is_empty() {
        return Ok(());
    }
    let list = unexplained.iter().map(|it| it.as_str()).collect::<Vec<_>>().join("\n       ");
    fail(format!("{} survivors are not explained in {EXPLANATIONS}:\n       {list}", unexplained.len()))
}

/// The mutants, by what became of them.
struct Outcomes {
    caught: Vec<String>,
    missed: Vec<String>,
    timeout: Vec<String>,
    unviable: Vec<String>,
}

impl Outcomes {
    fn read(directory: &Path) -> Result<Self> {
        let lines = |name: &str| {
            let text = fs::read_to_string(directory.join(name)).map_err(|error| {
                Failure::Because(format!("mutants.out/{name} could not be read: {error}"))
            })?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        Ok(Self {
            caught: lines("caught.txt")?,
            missed: lines("missed.txt")?,
            timeout: lines("timeout.txt")?,
            unviable: lines("unviable.txt")?,
        })
    }

    fn counts(&self) -> String {
        let mut counts = String::from("| mutants | |\n|---|---:|\n");
        let of = [&self.caught, &self.timeout, &self.unviable, &self.missed];
        let names = ["caught: a test failed", "caught: a test hung", "did not compile", "survived"];
        // Writing into a string cannot fail.
        for (name, mutants) in names.into_iter().zip(of) {
            let _ = writeln!(counts, "| {name} | {} |", mutants.len());
        }
        let _ = writeln!(counts, "| **all** | {} |", of.into_iter().map(Vec::len).sum::<usize>());
        counts
    }
}

fn listed(survivors: &[(&String, Option<&str>)]) -> String {
    if survivors.is_empty() {
        return "\nNone survived.\n".to_owned();
    }
    let mut list = String::from("\nEvery survivor, and why it makes no difference:\n\n");
    for (mutant, why) in survivors {
        // Writing into a string cannot fail.
        let _ = writeln!(list, "- `{mutant}`\n  {}", why.unwrap_or("**Not explained.**"));
    }
    list
}

/// A mutant's file and change (not its line, which moves with every edit above it), and why it makes no difference.
type Explanation = (String, String);

/// Reads the explanations: the mutant as cargo-mutants names it, but without line and column, and the reason in
/// indented lines below it. Empty lines and lines that begin with `#` are for the reader.
fn explanations(file: &Path) -> Result<Vec<Explanation>> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::Because(format!("{EXPLANATIONS} could not be read: {error}")))?;
    let mut explanations: Vec<Explanation> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if !line.starts_with(' ') {
            explanations.push((line.trim_end().to_owned(), String::new()));
        } else if let Some((_, reason)) = explanations.last_mut() {
            reason.push_str(if reason.is_empty() { "" } else { " " });
            reason.push_str(line.trim());
        }
    }
    Ok(explanations)
}

fn explanation<'a>(explanations: &'a [Explanation], mutant: &str) -> Option<&'a str> {
    let mutant = without_position(mutant);
    let (_, reason) = explanations.iter().find(|(explained, _)| *explained == mutant)?;
    // A mutant that is listed without a reason is not explained.
    Some(reason.as_str()).filter(|reason| !reason.is_empty())
}

/// `file.rs: change` of `file.rs:12:34: change`.
fn without_position(mutant: &str) -> String {
    match mutant.splitn(4, ':').collect::<Vec<_>>()[..] {
        [file, _, _, change] => format!("{file}:{change}"),
        _ => mutant.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_follows_its_mutant_when_lines_move() {
        let known = [("a.rs: replace < with <= in f".to_owned(), "Both are the same.".to_owned())];
        assert_eq!(explanation(&known, "a.rs:12:34: replace < with <= in f"), Some("Both are the same."));
        assert_eq!(explanation(&known, "a.rs:12:34: replace < with == in f"), None);
    }

    #[test]
    fn a_mutant_may_hold_colons_itself() {
        assert_eq!(
            without_position("a.rs:1:2: replace A::f -> B with c::D"),
            "a.rs: replace A::f -> B with c::D"
        );
    }
}
