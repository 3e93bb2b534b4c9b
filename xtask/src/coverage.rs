//! `cargo xtask coverage`: which lines of idem-core no test reaches.
//!
//! cargo-llvm-cov compiles the tests with counters. It reads them with the `llvm-cov` and `llvm-profdata` of the
//! system, so that no toolchain is changed; their version has to know the format that this compiler writes.
//!
//! Test code is not counted. It stands in the same files as what it tests, is covered by nature, and would lift every
//! figure towards 100 %.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::install::{NEXTEST, Need, Source, ensure};
use crate::llvm::Tools;
use crate::metadata::Metadata;
use crate::report;
use crate::step::{Failure, Result, cargo, fail, run, step};
use crate::test::{CORE_TESTED_BY, CORE_TESTS};

const LLVM_COV: Need = Need {
    name: "cargo-llvm-cov",
    probe: "cargo llvm-cov --version",
    source: Source::Crate("cargo-llvm-cov@0.9.1"),
};

/// What is measured, relative to the root.
const MEASURED: &str = "idem-core/src/";

/// The state machine has no line that a test may leave out.
const WHOLLY_COVERED: &str = "idem-core/src/transition.rs";

/// The share of all lines that must be covered, in percent.
const FLOOR: f64 = 95.0;

/// Measures, prints and writes the table, and fails if it shows too little.
pub(crate) fn run_and_judge(workspace: &Metadata) -> Result {
    ensure(&[NEXTEST, LLVM_COV])?;
    let tools = Tools::find_or_install()?;
    let lcov = workspace.target_directory.join("coverage.lcov");

    let mut tests = cargo("llvm-cov nextest --all-features --lcov --output-path".split(' '));
    tests.arg(&lcov).args(CORE_TESTED_BY.iter().flat_map(|package| ["--package", package]));
    tests.args(["--filterset", CORE_TESTS]).env("LLVM_COV", &tools.cov).env("LLVM_PROFDATA", &tools.profdata);
    step("tests with counters", || run(&mut tests))?;

    let lcov = fs::read_to_string(&lcov)
        .map_err(|error| Failure::Because(format!("cargo-llvm-cov left no readable report: {error}")))?;
    let files = counted(workspace, &lcov)?;
    let table = table(&files);
    eprintln!("\n{table}");
    let page = explained(&table, &tools);
    report::write(workspace, "coverage", "Line coverage of idem-core", "cargo xtask coverage", &page)?;
    judge(&files)
}

/// The lines of one file that are not test code.
#[derive(Default)]
struct Lines {
    all: usize,
    missed: BTreeSet<usize>,
}

impl Lines {
    fn percent(&self) -> f64 {
        percent(self.all - self.missed.len(), self.all)
    }
}

/// Reads the report: of each file one section, with its path after `SF:`, and `DA:<line>,<times>` for each line that
/// holds code.
fn counted(workspace: &Metadata, lcov: &str) -> Result<BTreeMap<String, Lines>> {
    let mut files = BTreeMap::<String, Lines>::new();
    for section in lcov.split("end_of_record") {
        let path = section.lines().find_map(|record| record.strip_prefix("SF:")).map(Path::new);
        let Some(name) = path.and_then(|path| path.strip_prefix(&workspace.workspace_root).ok()) else {
            continue;
        };
        let name = name.display().to_string();
        if !name.starts_with(MEASURED) {
            continue;
        }
        let source = fs::read_to_string(workspace.workspace_root.join(&name))
            .map_err(|error| Failure::Because(format!("{name} could not be read: {error}")))?;
        let tests_begin = first_test_line(&source);
        let lines = files.entry(name).or_default();
        for (line, times) in
            section.lines().filter_map(line_and_times).filter(|(line, _)| *line < tests_begin)
        {
            lines.all += 1;
            if times == 0 {
                lines.missed.insert(line);
            }
        }
    }
    if files.is_empty() {
        return fail(format!("the report has no file of {MEASURED}"));
    }
    Ok(files)
}

fn line_and_times(record: &str) -> Option<(usize, u64)> {
    let (line, times) = record.strip_prefix("DA:")?.split_once(',')?;
    Some((line.parse().ok()?, times.parse().ok()?))
}

/// Where a file's tests begin; they stand last in every file of this workspace.
pub(crate) fn first_test_line(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let is_test_module = |&index: &usize| {
        // Other attributes may stand between the condition and the module.
        let opened = lines[index..].iter().find(|line| !line.starts_with("#["));
        lines[index].starts_with("#[cfg(")
            && lines[index].contains("test")
            && opened.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    (0..lines.len()).find(is_test_module).map_or(usize::MAX, |index| index + 1)
}

fn table(files: &BTreeMap<String, Lines>) -> String {
    let mut table = String::from("| file | lines | covered | missed lines |\n|---|---:|---:|---|\n");
    // Writing into a string cannot fail.
    for (name, lines) in files {
        let _ = writeln!(
            table,
            "| {name} | {} | {:.1} % | {} |",
            lines.all,
            lines.percent(),
            ranges(&lines.missed)
        );
    }
    let (covered, all) = total(files);
    let _ = writeln!(table, "| **all of idem-core** | {all} | {:.1} % | |", percent(covered, all));
    table
}

fn explained(table: &str, tools: &Tools) -> String {
    format!(
        "The tests of idem-core and idem-memory ran, and the conformance suite over its reference store, with all \
         features; documentation examples did not. Counted by cargo-llvm-cov 0.9.1 with the tools of {}. Test code is \
         left out of every figure. The task fails below 100 % of `{WHOLLY_COVERED}` or {FLOOR} % of idem-core.\n\n{table}",
        tools.version,
    )
}

fn judge(files: &BTreeMap<String, Lines>) -> Result {
    match files.get(WHOLLY_COVERED) {
        Some(lines) if lines.missed.is_empty() => {}
        Some(lines) => {
            return fail(format!("{WHOLLY_COVERED}: no test reaches line {}", ranges(&lines.missed)));
        }
        None => return fail(format!("the report has no {WHOLLY_COVERED}")),
    }
    let (covered, all) = total(files);
    let share = percent(covered, all);
    if share < FLOOR {
        return fail(format!("{share:.1} % of idem-core's lines are covered, and {FLOOR} % have to be"));
    }
    Ok(())
}

/// The covered lines, and all lines, of all files.
fn total(files: &BTreeMap<String, Lines>) -> (usize, usize) {
    files.values().fold((0, 0), |(covered, all), it| (covered + it.all - it.missed.len(), all + it.all))
}

#[expect(clippy::cast_precision_loss, reason = "a count of source lines is far below 2^52")]
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// `3, 7-9` for 3, 7, 8 and 9.
fn ranges(lines: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &line in lines {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ => ranges.push((line, line)),
        }
    }
    let shown = ranges.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_missed_lines_are_joined() {
        assert_eq!(ranges(&BTreeSet::from([3, 7, 8, 9, 11])), "3, 7-9, 11");
        assert_eq!(ranges(&BTreeSet::new()), "");
    }

    #[test]
    fn tests_begin_at_their_module() {
        assert_eq!(first_test_line("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 3);
        assert_eq!(first_test_line("#[cfg(test)]\nmod oracle;\nfn a() {}\n"), usize::MAX);
        assert_eq!(first_test_line("#[cfg(all(test, not(shuttle)))]\nmod tests {\n"), 1);
        assert_eq!(first_test_line("fn a() {}\n#[cfg(test)]\n#[cfg(not(shuttle))]\nmod tests {\n"), 2);
    }
}
