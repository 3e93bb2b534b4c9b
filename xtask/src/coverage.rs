//! `cargo xtask coverage`: which lines of idem-core no test reaches.
//!
//! Test code is not counted: it is covered by nature, and would raise every figure. A module in a file of its own is left
//! out by its name, and one at the end of a file by where it begins.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::install::{NEXTEST, Need, Source, ensure};
use crate::metadata::Metadata;
use crate::step::{Failure, Result, cargo, fail, run, shown, step};
use crate::test::CoreTests;
use crate::{llvm, report};

const LLVM_COV: Need = Need {
    name: "cargo-llvm-cov",
    probe: "cargo llvm-cov --version",
    source: Source::Crate("cargo-llvm-cov@0.9.1"),
};

/// What is measured, relative to the root.
const MEASURED: &str = "idem-core/src/";

/// The state machine, a file or a folder. Tests must reach each of its lines.
const STATE_MACHINE: &str = "store/transition";

/// The share of all lines that tests must reach, in percent.
const FLOOR: f64 = 95.0;

/// Measures, writes the table, and fails if it shows too little.
pub(crate) fn run_and_judge(workspace: &Metadata) -> Result {
    ensure(&[NEXTEST, LLVM_COV])?;
    let lcov = workspace.target_directory.join("coverage.lcov");
    let core = CoreTests::of(workspace);
    let mut tests = cargo("llvm-cov nextest --all-features --lcov --output-path".split(' '));
    tests.arg(&lcov).args(core.packages("--package")).args(["--filterset", &core.filter]);
    tests.envs(llvm::variables()?);
    step("tests with counters", || run(&mut tests))?;

    let lcov = fs::read_to_string(&lcov)
        .map_err(|error| Failure::Because(format!("cargo-llvm-cov left no readable report: {error}")))?;
    let files = counted(&workspace.workspace_root, &lcov);
    let (machine, all) = (total(&files, STATE_MACHINE), total(&files, ""));
    let table = table(&files, &all);
    eprintln!("\n{table}");
    let page = format!(
        "`{}`\n\nTest code is left out of every figure. The task fails below 100 % of the state machine \
         (`{STATE_MACHINE}`) or {FLOOR} % of idem-core.\n\n{table}",
        shown(&tests)
    );
    report::write(workspace, "coverage", "Line coverage of idem-core", "cargo xtask coverage", &page)?;
    if machine.is_empty() || machine.values().any(|reached| !reached) {
        return fail("no test reaches some lines of the state machine");
    }
    if percent(&all) < FLOOR {
        return fail(format!(
            "tests reach {:.1} % of idem-core's lines, and must reach {FLOOR} %",
            percent(&all)
        ));
    }
    Ok(())
}

/// Each line that holds code, and whether a test reaches it.
type Lines = BTreeMap<(String, usize), bool>;

/// Reads the report. It has a section for each file: `SF:<path>`, then `DA:<line>,<times>` for each line that holds code.
fn counted(root: &Path, lcov: &str) -> BTreeMap<String, Lines> {
    let root = format!("{}/{MEASURED}", root.display());
    let mut files = BTreeMap::<String, Lines>::new();
    for section in lcov.split("end_of_record") {
        let path = section.lines().find_map(|record| record.strip_prefix("SF:"));
        let Some((path, name)) = path.and_then(|path| Some((path, path.strip_prefix(&root)?))) else {
            continue;
        };
        if is_test_file(name) {
            continue;
        }
        let tests_begin = first_test_line(&fs::read_to_string(path).unwrap_or_default());
        let lines = files.entry(name.to_owned()).or_default();
        let code = section.lines().filter_map(line_and_times).filter(|(line, _)| *line < tests_begin);
        lines.extend(code.map(|(line, times)| ((name.to_owned(), line), times > 0)));
    }
    files
}

fn line_and_times(record: &str) -> Option<(usize, u64)> {
    let (line, times) = record.strip_prefix("DA:")?.split_once(',')?;
    Some((line.parse().ok()?, times.parse().ok()?))
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name == "tests.rs" || name.contains("/tests/")
}

/// Where a file's tests begin; they are last in every file.
fn first_test_line(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let is_test_module = |index: &usize| {
        // Other attributes may stand between the condition and the module.
        let opened = lines[*index..].iter().find(|line| !line.starts_with("#["));
        lines[*index].starts_with("#[cfg(")
            && lines[*index].contains("test")
            && opened.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    (0..lines.len()).find(is_test_module).map_or(usize::MAX, |index| index + 1)
}

fn table(files: &BTreeMap<String, Lines>, all: &Lines) -> String {
    let mut table = String::from("| file | lines | covered | missed lines |\n|---|---:|---:|---|\n");
    // Writing into a string cannot fail.
    for (name, lines) in files {
        let missed = lines.iter().filter(|(_, reached)| !**reached).map(|((_, line), _)| line.to_string());
        let missed = missed.collect::<Vec<_>>().join(", ");
        let _ = writeln!(table, "| {name} | {} | {:.1} % | {missed} |", lines.len(), percent(lines));
    }
    let _ = writeln!(table, "| **all of idem-core** | {} | {:.1} % | |", all.len(), percent(all));
    table
}

/// The lines of all files whose names begin like this.
fn total(files: &BTreeMap<String, Lines>, prefix: &str) -> Lines {
    let named = files.iter().filter(|(name, _)| name.starts_with(prefix));
    named.flat_map(|(_, lines)| lines.clone()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a count of source lines is far below 2^52")]
fn percent(lines: &Lines) -> f64 {
    let reached = lines.values().filter(|reached| **reached).count();
    if lines.is_empty() { 100.0 } else { 100.0 * reached as f64 / lines.len() as f64 }
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn only_the_code_of_the_crate_is_counted() {
        let root = env::temp_dir().join(format!("idem-coverage-{}", process::id()));
        let sources = root.join(MEASURED).join("store/transition");
        fs::create_dir_all(&sources).unwrap();
        fs::write(sources.join("mod.rs"), "fn a() {}\nfn b() {}\n#[cfg(test)]\nmod tests {\nfn c() {}\n}\n")
            .unwrap();
        let section =
            |file: &str, lines: &str| format!("SF:{}/{file}\nFN:1,a\n{lines}end_of_record\n", root.display());
        let lcov = [
            section("idem-core/src/store/transition/mod.rs", "DA:1,2\nDA:2,0\nDA:5,1\n"),
            section("idem-core/src/store/transition/tests.rs", "DA:1,1\n"),
            section("idem-memory/src/lib.rs", "DA:1,1\n"),
        ];
        let files = counted(&root, &lcov.concat());
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["store/transition/mod.rs"]);
        let all = total(&files, STATE_MACHINE);
        assert_eq!((all.len(), percent(&all)), (2, 50.0));
        assert!(table(&files, &all).contains("| store/transition/mod.rs | 2 | 50.0 % | 2 |"));
    }

    #[test]
    fn tests_begin_at_their_module() {
        assert_eq!(first_test_line("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 3);
        assert_eq!(first_test_line("#[cfg(test)]\nmod oracle;\nfn a() {}\n"), usize::MAX);
        assert_eq!(first_test_line("#[cfg(all(test, not(shuttle)))]\nmod tests {\n"), 1);
        assert_eq!(first_test_line("fn a() {}\n#[cfg(test)]\n#[cfg(not(shuttle))]\nmod tests {\n"), 2);
    }
}
