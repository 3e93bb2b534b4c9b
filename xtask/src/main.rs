//! The tasks of this workspace, as `cargo xtask <task>`. Each task is the file of its name.
//!
//! `test` decides whether a change is correct, and installs what it needs for that. The others take longer or need more;
//! a person runs them and commits what they write to `results/`. Checks that are part of `test`: `circles`, `features`,
//! `hygiene`, `msrv` and `packages`.
//!
//! The first task of a fresh clone waits for this crate to compile, so it has one dependency and no procedural macros.

mod asan;
mod bench;
mod circles;
mod coverage;
mod features;
mod hygiene;
mod install;
mod kills;
mod llvm;
mod metadata;
mod miri;
mod msrv;
mod mutants;
mod packages;
mod release;
mod report;
mod servers;
mod soak;
mod step;
mod test;

use std::env;
use std::process::ExitCode;

use crate::metadata::Metadata;
use crate::step::{Failure, Result, fail};

const HELP: &str = "\
The tasks of this workspace

Usage: cargo xtask <task>

  test                   Install what is missing and run every test; ends with the test runner's summary
  circles                Fail if modules of a crate import each other in a circle
  coverage               Measure line coverage of idem-core; writes results/coverage.md
  mutants [--resume]     Change idem-core's logic in small ways and list what no test notices; writes results/mutants.md.
                         --resume skips the mutants that the last run caught. Arguments of cargo-mutants follow `--`
  miri                   Run the tests of idem-core and idem-memory under Miri
  asan                   Run the tests of idem-core and idem-memory under AddressSanitizer
  kills                  Kill services during requests, forty times in each named window; writes results/kills.md
  soak [--times N]       Run kills, then every test N times (20 by default); writes results/soak.md
  bench                  Run the benches; writes results/bench.json and results/bench.md. Arguments of idem-bench
                         follow `--`
  release                Check what is about to be published; writes results/release.md";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Reported(status)) => ExitCode::from(status),
        Err(Failure::Because(reason)) => {
            eprintln!("\nerror: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result {
    let dashes = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
    let further = arguments.get(dashes + 1..).unwrap_or_default();
    let workspace = Metadata::read;
    match (&arguments[..dashes], further) {
        (["test"], []) => test::run_every_step(&workspace()?),
        (["circles"], []) => circles::check(&workspace()?),
        (["coverage"], []) => coverage::run_and_judge(&workspace()?),
        (["mutants"], further) => mutants::run(&workspace()?, false, further),
        (["mutants", "--resume"], further) => mutants::run(&workspace()?, true, further),
        (["miri"], []) => miri::run_tests(&workspace()?),
        (["asan"], []) => asan::run_tests(&workspace()?),
        (["kills"], []) => kills::run_at_length(&workspace()?),
        (["soak"], []) => soak::run_repeatedly(&workspace()?, 20),
        (["soak", "--times", times], []) => match times.parse() {
            Ok(times @ 1..) => soak::run_repeatedly(&workspace()?, times),
            _ => fail(format!("`{times}` is not a number of runs")),
        },
        (["bench"], further) => bench::run(&workspace()?, further),
        (["release"], []) => release::check(&workspace()?),
        ([] | ["help" | "--help" | "-h"], []) => {
            println!("{HELP}");
            Ok(())
        }
        _ => fail(format!("there is no task `{}`; `cargo xtask` lists them", arguments.join(" "))),
    }
}
