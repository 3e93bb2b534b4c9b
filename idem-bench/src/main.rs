//! The benches of idem.
//!
//! ```text
//! cargo run --release -p idem-bench -- \
//!     [--store memory:|sqlite:DIRECTORY|postgres:DIRECTORY|redis:|http:] [--quick] [--runs N] [--json FILE]
//! ```
//!
//! *Floor* (the storage's cheapest way to do the same work) and *subject* (idem) alternate in one process, for at least
//! seven rounds. A figure is the median of the rounds' differences or ratios, with its spread. The subject is used
//! through its public API with default options. Keys are random, each key has its own answer, and every answer is checked.
//! Everything runs three times; a target that is missed once is missed.
//!
//! The exit status is 1 if a target was missed. It is 0 with `--quick`, whose rounds are too short to judge by.

mod callers;
mod flush;
mod http;
mod load;
mod memory;
mod postgres;
mod redis;
mod report;
mod rounds;
mod sqlite;
mod subject;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::report::Report;

/// Measures what idem adds to its storages.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure: `memory:`; `http:`, the HTTP layer on the memory store; `sqlite:` or `postgres:` and a directory for
    /// the files; `redis:` or `valkey:`, which start a server; the URL of a Redis without other users; or the URL of a
    /// Postgres database, in which the schema `idem_bench` is made and dropped.
    #[arg(long, default_value = "memory:")]
    store: String,
    /// Fewer and shorter rounds, in one run: shows within seconds that everything works.
    #[arg(long)]
    quick: bool,
    /// How many times everything is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    runs: u8,
    /// Also writes the figures of every run to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What a child process of the memory figure measures; it prints one number.
    #[arg(long, hide = true, value_enum)]
    resident: Option<memory::resident::Of>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    if let Some(of) = args.resident {
        println!("{}", memory::resident::measure(of, &memory::Scale::new(args.quick))?);
        return Ok(ExitCode::SUCCESS);
    }

    // A database's URL may hold a password.
    let shown = if args.store.starts_with("postgres") { "postgres:" } else { &args.store };
    let mut report = Report::new(shown, args.quick);
    for run in 1..=if args.quick { 1 } else { args.runs } {
        eprintln!("run {run}");
        report.add_run(match args.store.split_once(':') {
            Some(("memory", "")) => memory::run(&memory::Scale::new(args.quick))?,
            Some(("sqlite", directory)) if !directory.is_empty() => {
                sqlite::run(&sqlite::Scale::new(args.quick), Path::new(directory))?
            }
            Some(("postgres" | "postgresql", _)) => {
                postgres::run(&postgres::Scale::new(args.quick), &args.store, run == 1)?
            }
            Some(("http", "")) => http::run(&http::Scale::new(args.quick))?,
            Some(("redis" | "valkey" | "redis+unix", _)) => {
                redis::run(&redis::Scale::new(args.quick), &args.store)?
            }
            _ => {
                return Err(
                    "--store is `memory:`, `http:`, `sqlite:` or `postgres:` and a directory, `redis:`, `valkey:`, \
                            or a redis:// or postgres:// URL"
                        .into(),
                );
            }
        });
    }
    println!("{report}");
    if let Some(file) = args.json {
        std::fs::write(file, serde_json::to_string_pretty(&report.to_json())? + "\n")?;
    }
    Ok(if args.quick || report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
