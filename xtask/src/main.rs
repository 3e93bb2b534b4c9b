//! The tasks of this workspace, as `cargo xtask <task>`.
//!
//! `test` decides whether a change is correct, and installs what it needs for that. The others take longer or need
//! more; a person runs them, and commits what they write to `results/`. Each task is the file of its name. The checks
//! that are part of `test` are `features`, `hygiene` and `msrv`.

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
mod report;
mod servers;
mod soak;
mod step;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::metadata::Metadata;
use crate::step::Failure;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The tasks of this workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what is missing and runs every test; ends with the test runner's summary
    Test,
    /// Checks that no modules of a crate import each other in a circle
    Circles,
    /// Measures line coverage of idem-core and fails below the floor; writes results/coverage.md
    Coverage,
    /// Changes idem-core's logic in small ways and lists what no test notices; writes results/mutants.md
    Mutants {
        /// Leaves out what an earlier run has caught, also one that was interrupted
        #[arg(long)]
        resume: bool,
        /// Further arguments of cargo-mutants, for example `--file idem-core/src/lane.rs`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Runs the tests of idem-core and idem-memory under Miri
    Miri,
    /// Runs the tests of idem-core and idem-memory under `AddressSanitizer`
    Asan,
    /// Kills services in the midst of a request, in each named window forty times; writes results/kills.md
    Kills,
    /// The same, and then every test many times over, to find those that only mostly pass; writes results/soak.md
    Soak {
        /// How many times
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
    },
    /// Runs the benches; writes results/bench.json and results/bench.md
    Bench {
        /// Further arguments of idem-bench
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    let done = Metadata::read().and_then(|workspace| match task {
        Task::Test => test::run_every_step(&workspace),
        Task::Circles => circles::check(&workspace),
        Task::Coverage => coverage::run_and_judge(&workspace),
        Task::Mutants { resume, arguments } => mutants::run(&workspace, resume, &arguments),
        Task::Miri => miri::run_tests(&workspace),
        Task::Asan => asan::run_tests(&workspace),
        Task::Kills => kills::run_at_length(&workspace),
        Task::Soak { times } => soak::run_repeatedly(&workspace, times),
        Task::Bench { arguments } => bench::run(&workspace, &arguments),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told(status)) => ExitCode::from(status),
        Err(Failure::Because(reason)) => {
            eprintln!("\nerror: {reason}");
            ExitCode::FAILURE
        }
    }
}
