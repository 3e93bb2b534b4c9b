//! `cargo xtask mutants`: which small changes of idem-core no test notices.
//!
//! Coverage says that a line ran, not that anything looked at what it did. cargo-mutants changes one expression at a
//! time and runs the tests; a change that they all survive is either a test that is missing, or a change that makes
//! no difference. The second kind is explained by hand in `xtask/surviving-mutants.txt`, and only there.
//!
//! idem-core's own tests are built and run in seconds, and catch nearly every mutant. So they come first, and only what
//! they do not catch is tried again with the tests of the other packages.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::coverage::first_test_line;
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

/// Where its code stands, relative to the root.
const SOURCES: &str = "idem-core/src";

/// Where cargo-mutants leaves what it found. Relative to the root, as in the commands that the result quotes.
const OUTPUT: &str = "target";

/// What a later batch needs to know, beside what cargo-mutants keeps: which mutants did not compile, which made a test
/// hang, and a copy of the sources that were mutated.
const BATCHES: &str = "target/mutants.batches";

/// Where the explanations stand.
const EXPLANATIONS: &str = "xtask/surviving-mutants.txt";

/// Runs every mutant, writes the table, and fails if a survivor is not explained. With further arguments it is a batch,
/// and the table is only shown.
///
/// With `resume` those are left out that an earlier run caught or could not compile, also one that was interrupted.
/// That holds as long as the code of their file is what it was; and as long as no test is made weaker, which nothing
/// here checks.
pub(crate) fn run(workspace: &Metadata, resume: bool, arguments: &[String]) -> Result {
    if arguments.iter().any(|argument| argument.starts_with("--shard")) {
        return fail(
            "what was caught is left out before shards are made, so that each run has other ones; take `--file`",
        );
    }
    ensure(&[NEXTEST, CARGO_MUTANTS])?;
    let verdicts = Verdicts { root: workspace.workspace_root.clone() };
    if resume { verdicts.forget_what_changed() } else { verdicts.forget() }?;
    verdicts.remember_sources()?;

    let mut quick = mutants(workspace, arguments, resume);
    quick.args(["--test-package", MUTATED]);
    verdicts.mutate(&mut quick)?;
    let mut commands = vec![shown(&quick)];
    if !verdicts.outcomes()?.missed.is_empty() {
        let mut thorough = mutants(workspace, arguments, true);
        thorough.args(CORE_TESTED_BY.iter().flat_map(|package| ["--test-package", package]));
        // The timeout is made from a run of idem-core's own tests, whichever are asked for, and the others take longer.
        thorough.args(["--minimum-test-timeout", "120", "--", "--filterset", CORE_TESTS]);
        verdicts.mutate(&mut thorough)?;
        commands.push(shown(&thorough));
    }
    let results = verdicts.outcomes()?;
    let explanations = explanations(&workspace.workspace_root.join(EXPLANATIONS))?;
    let survivors: Vec<_> =
        results.missed.iter().map(|mutant| (mutant, explanation(&explanations, mutant))).collect();

    let body = format!("{}\n{}{}", how(&commands, resume), results.counts(), listed(&survivors));
    if arguments.is_empty() {
        let task = if resume { "cargo xtask mutants --resume" } else { "cargo xtask mutants" };
        report::write(workspace, "mutants", "Mutants of idem-core", task, &body)?;
        let survives =
            |explained: &str| results.missed.iter().any(|mutant| without_position(mutant) == explained);
        for (explained, _) in explanations.iter().filter(|(explained, _)| !survives(explained)) {
            eprintln!("    no longer survives, remove it from {EXPLANATIONS}: {explained}");
        }
    } else {
        // The committed result is of all mutants, or it would say too much.
        eprintln!("\n{body}\n    results/mutants.md is written by a run without further arguments");
    }
    let unexplained: Vec<_> =
        survivors.iter().filter(|(_, why)| why.is_none()).map(|(mutant, _)| *mutant).collect();
    if unexplained.is_empty() {
        return Ok(());
    }
    let list = unexplained.iter().map(|it| it.as_str()).collect::<Vec<_>>().join("\n       ");
    fail(format!("{} survivors are not explained in {EXPLANATIONS}:\n       {list}", unexplained.len()))
}

/// cargo-mutants over idem-core; which tests are to catch them is added by the caller. With `iterate` it leaves out
/// what it has caught before.
fn mutants(workspace: &Metadata, arguments: &[String], iterate: bool) -> Command {
    let mut mutants = cargo("mutants --all-features --test-tool nextest --colors never".split(' '));
    mutants.args(["--package", MUTATED, "--output", OUTPUT]).args(arguments);
    mutants.args(iterate.then_some("--iterate"));
    mutants.current_dir(&workspace.workspace_root);
    // Nobody looks at a backtrace here, and what is linked several hundred times should be small.
    mutants.env("CARGO_PROFILE_DEV_DEBUG", "false");
    // Each job builds in a copy of the tree. In one target directory they would run each other's mutants.
    mutants.env_remove("CARGO_TARGET_DIR");
    mutants
}

/// How the table came about.
fn how(commands: &[String], resume: bool) -> String {
    let mut how = String::from("First with idem-core's own tests");
    how.push_str(if commands.len() > 1 {
        "; then, for what survived them, with those of idem-memory and the conformance suite too:\n\n"
    } else {
        ", which left nothing for those of the other packages to catch:\n\n"
    });
    for command in commands {
        // Writing into a string cannot fail.
        let _ = writeln!(how, "    {command}");
    }
    if resume {
        how.push_str(
            "\nIn several batches: what was caught or did not compile in an earlier one was not run again, since the \
             code of its file is unchanged.\n",
        );
    }
    how
}

/// What is known of the mutants, from earlier runs and from the one under way.
struct Verdicts {
    root: PathBuf,
}

impl Verdicts {
    /// Runs cargo-mutants, and takes note of what it found.
    fn mutate(&self, command: &mut Command) -> Result {
        eprintln!("    {}", shown(command));
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        // 2: some survived; 3: some timed out. Everything else but 0 means that it could not do its work.
        let status = capture(command)?.status;
        self.keep()?;
        if matches!(status.code(), Some(0 | 2 | 3)) {
            return Ok(());
        }
        fail(format!("`{}` ended with {status}", shown(command)))
    }

    fn outcomes(&self) -> Result<Outcomes> {
        let (unviable, timeout) = (lines(&self.kept("unviable"))?, lines(&self.kept("timeout"))?);
        let mut caught = lines(&self.found("caught"))?;
        caught.extend(lines(&self.found("previously_caught"))?);
        caught.retain(|mutant| !unviable.contains(mutant) && !timeout.contains(mutant));
        let missed = lines(&self.found("missed"))?;
        Ok(Outcomes { caught, missed, timeout, unviable })
    }

    /// Begins anew.
    fn forget(&self) -> Result {
        for directory in [self.root.join(BATCHES), self.root.join(OUTPUT).join("mutants.out")] {
            existing(fs::remove_dir_all(&directory)).map_err(|error| unusable(&directory, &error))?;
        }
        Ok(())
    }

    /// Lets go of every verdict over a file whose code is not what it was.
    fn forget_what_changed(&self) -> Result {
        self.keep()?;
        let found = ["caught", "previously_caught", "unviable", "timeout"].map(|how| self.found(how));
        for file in found.into_iter().chain(["unviable", "timeout"].map(|how| self.kept(how))) {
            let verdicts = lines(&file)?;
            // A file that is not there stays so.
            if !verdicts.is_empty() {
                write_lines(&file, verdicts.iter().filter(|mutant| self.is_unchanged(mutant)))?;
            }
        }
        Ok(())
    }

    /// Whether the code that this mutant is of is the same as when it was run. Tests do not count: they may be added.
    fn is_unchanged(&self, mutant: &str) -> bool {
        let Some((file, _)) = mutant.split_once(':') else { return false };
        let then = fs::read_to_string(self.root.join(BATCHES).join(file));
        let now = fs::read_to_string(self.root.join(file));
        matches!((then, now), (Ok(then), Ok(now)) if code(&then) == code(&now))
    }

    /// Keeps the sources as they are mutated now.
    fn remember_sources(&self) -> Result {
        let copies = self.root.join(BATCHES).join(SOURCES);
        let sources = self.root.join(SOURCES);
        let done = fs::create_dir_all(&copies).and_then(|()| {
            for entry in fs::read_dir(&sources)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    fs::copy(entry.path(), copies.join(entry.file_name()))?;
                }
            }
            Ok(())
        });
        done.map_err(|error| unusable(&copies, &error))
    }

    /// Takes note of what did not compile, which cargo-mutants counts as caught when it goes on, and of what made a test
    /// hang, which it would try again: slowly, and with tests that hung before.
    fn keep(&self) -> Result {
        let directory = self.root.join(BATCHES);
        fs::create_dir_all(&directory).map_err(|error| unusable(&directory, &error))?;
        for how in ["unviable", "timeout"] {
            let mut all = lines(&self.kept(how))?;
            all.extend(lines(&self.found(how))?);
            write_lines(&self.kept(how), &all)?;
        }
        let hung = lines(&self.kept("timeout"))?;
        if !hung.is_empty() {
            let mut left_out = lines(&self.found("previously_caught"))?;
            left_out.extend(hung);
            write_lines(&self.found("previously_caught"), &left_out)?;
        }
        Ok(())
    }

    /// Where every mutant is named that ended in this way, in whichever batch.
    fn kept(&self, how: &str) -> PathBuf {
        self.root.join(BATCHES).join(format!("{how}.txt"))
    }

    /// Where the last run of cargo-mutants names those that ended in this way.
    fn found(&self, how: &str) -> PathBuf {
        self.root.join(OUTPUT).join("mutants.out").join(format!("{how}.txt"))
    }
}

/// The lines of a file, none if it is not there.
fn lines(file: &Path) -> Result<BTreeSet<String>> {
    let text = existing(fs::read_to_string(file)).map_err(|error| unusable(file, &error))?;
    Ok(text.unwrap_or_default().lines().map(str::to_owned).collect())
}

fn write_lines<'a>(file: &Path, lines: impl IntoIterator<Item = &'a String>) -> Result {
    let text: String = lines.into_iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    fs::write(file, text).map_err(|error| unusable(file, &error))
}

/// `None` for what is not there.
fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::Because(format!("{} could not be used: {error}", path.display()))
}

/// A source file without its tests, which stand last.
fn code(source: &str) -> String {
    let code: Vec<_> = source.lines().take(first_test_line(source).saturating_sub(1)).collect();
    // The empty line before the tests comes with them.
    code.join("\n").trim_end().to_owned()
}

/// The mutants, by what became of them.
struct Outcomes {
    caught: BTreeSet<String>,
    missed: BTreeSet<String>,
    timeout: BTreeSet<String>,
    unviable: BTreeSet<String>,
}

impl Outcomes {
    fn counts(&self) -> String {
        let mut counts = String::from("| mutants | |\n|---|---:|\n");
        let of = [&self.caught, &self.timeout, &self.unviable, &self.missed];
        let names = ["caught: a test failed", "caught: a test hung", "did not compile", "survived"];
        // Writing into a string cannot fail.
        for (name, mutants) in names.into_iter().zip(of) {
            let _ = writeln!(counts, "| {name} | {} |", mutants.len());
        }
        let _ = writeln!(counts, "| **all** | {} |", of.into_iter().map(BTreeSet::len).sum::<usize>());
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
    use std::{env, process};

    use super::*;

    #[test]
    fn an_explanation_follows_its_mutant_when_lines_move() {
        let known = [("a.rs: replace < with <= in f".to_owned(), "Both are the same.".to_owned())];
        assert_eq!(explanation(&known, "a.rs:12:34: replace < with <= in f"), Some("Both are the same."));
        assert_eq!(explanation(&known, "a.rs:12:34: replace < with == in f"), None);
    }

    /// A workspace of one file, whose mutants were run.
    fn after_a_run(name: &str, source: &str) -> Verdicts {
        let verdicts = Verdicts { root: env::temp_dir().join(format!("idem-{name}-{}", process::id())) };
        fs::create_dir_all(verdicts.root.join(SOURCES)).unwrap();
        fs::create_dir_all(verdicts.root.join("target/mutants.out")).unwrap();
        fs::write(verdicts.root.join("idem-core/src/a.rs"), source).unwrap();
        verdicts.remember_sources().unwrap();
        write_lines(&verdicts.found("caught"), [&"idem-core/src/a.rs:1:2: one".to_owned()]).unwrap();
        write_lines(&verdicts.found("unviable"), [&"idem-core/src/a.rs:3:4: two".to_owned()]).unwrap();
        write_lines(&verdicts.found("timeout"), [&"idem-core/src/a.rs:5:6: three".to_owned()]).unwrap();
        verdicts.keep().unwrap();
        verdicts
    }

    #[test]
    fn a_verdict_holds_when_a_test_is_added_and_not_when_the_code_changes() {
        for (now, holds) in [("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n", true), ("fn b() {}\n", false)] {
            let verdicts = after_a_run("verdict", "fn a() {}\n");
            fs::write(verdicts.root.join("idem-core/src/a.rs"), now).unwrap();
            verdicts.forget_what_changed().unwrap();
            let outcomes = verdicts.outcomes().unwrap();
            fs::remove_dir_all(&verdicts.root).unwrap();
            assert_eq!(counted(&outcomes), [usize::from(holds); 3]);
        }
    }

    #[test]
    fn what_hung_or_did_not_compile_in_an_earlier_batch_is_neither_run_again_nor_counted_as_caught() {
        let verdicts = after_a_run("batches", "fn a() {}\n");
        // What cargo-mutants leaves of its files when it goes on.
        let mut left_out = lines(&verdicts.found("previously_caught")).unwrap();
        for how in ["caught", "unviable"] {
            left_out.extend(lines(&verdicts.found(how)).unwrap());
        }
        assert_eq!(left_out.len(), 3);
        write_lines(&verdicts.found("previously_caught"), &left_out).unwrap();
        for how in ["caught", "unviable", "timeout"] {
            write_lines(&verdicts.found(how), []).unwrap();
        }
        verdicts.keep().unwrap();
        let outcomes = verdicts.outcomes().unwrap();
        fs::remove_dir_all(&verdicts.root).unwrap();
        assert_eq!(counted(&outcomes), [1; 3]);
    }

    fn counted(outcomes: &Outcomes) -> [usize; 3] {
        [&outcomes.caught, &outcomes.unviable, &outcomes.timeout].map(BTreeSet::len)
    }

    #[test]
    fn a_mutant_may_hold_colons_itself() {
        assert_eq!(
            without_position("a.rs:1:2: replace A::f -> B with c::D"),
            "a.rs: replace A::f -> B with c::D"
        );
    }
}
