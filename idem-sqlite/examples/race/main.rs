//! The race that idem exists for: many callers send the same request at the same instant, and the handler must run
//! once.
//!
//!     cargo run --release -p idem-memory --example race
//!
//! The handler inserts a row into a table of a SQL database. Afterwards SQL counts the rows of each key, and the program
//! fails unless every key has exactly one, and all of its callers were given the same bytes.
//!
//! With `--without-idem` the same load goes through the classic `GET (miss), run, SET` instead, and fails.
//!
//! - `application` is the handler and its table, `service` puts idem or the classic cache in front of it.
//! - `callers` are the threads, `table` is what a person reads at the end.

mod application;
mod callers;
mod service;
mod table;

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use idem_core::Engine;
use idem_memory::MemoryStore;

use crate::application::{Application, Rows};
use crate::callers::Asked;
use crate::service::{Guard, Service};
use crate::table::{Table, grouped};

/// Many callers, one request each key: does the handler run once?
#[derive(Parser)]
struct Arguments {
    /// How many different requests there are
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// How many callers send each of them at the same instant
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    callers: u32,
    /// Use the classic `GET (miss), run, SET` instead of idem
    #[arg(long)]
    without_idem: bool,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    let keys: Vec<_> = (1..=arguments.keys).map(|number| format!("request-{number}")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let guard = if arguments.without_idem {
        Guard::GetRunSet(Mutex::new(HashMap::new()))
    } else {
        Guard::Idem(Engine::builder(MemoryStore::new()).build()?)
    };
    let service = Service { guard, application: Application::open(&keys)? };

    let begun = Instant::now();
    let asked = callers::race(&service, runtime.handle(), &keys, arguments.callers);
    let duration = begun.elapsed();

    let tally = Tally::of(&asked);
    let rows = service.application.rows()?;
    println!("{}\n", table(&arguments, &tally, &rows, duration));
    println!("{}", verdict(&arguments, &tally, &rows));
    Ok(if is_right(&tally, &rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the callers were told, in total.
#[derive(Default)]
struct Tally {
    executed: u64,
    replayed: u64,
    refused: u64,
    /// Keys whose callers were not all given the same bytes.
    differing_keys: u64,
    failed: u64,
    /// Why the first of the failed callers has no answer.
    failure: Option<String>,
}

impl Tally {
    fn of(asked: &[Vec<Asked>]) -> Self {
        let mut tally = Self::default();
        for of_key in asked {
            let answers = || of_key.iter().flatten();
            tally.executed += answers().filter(|answer| answer.executed).count() as u64;
            tally.replayed += answers().filter(|answer| !answer.executed).count() as u64;
            tally.refused += answers().map(|answer| u64::from(answer.refusals)).sum::<u64>();
            let mut bodies = answers().map(|answer| &answer.body);
            let first = bodies.next();
            tally.differing_keys += u64::from(bodies.any(|body| Some(body) != first));
            for error in of_key.iter().filter_map(|asked| asked.as_ref().err()) {
                tally.failed += 1;
                tally.failure.get_or_insert_with(|| error.to_string());
            }
        }
        tally
    }
}

/// One row per key, counted by SQL, and one answer per key: nothing else is right, with idem or without.
fn is_right(tally: &Tally, rows: &Rows) -> bool {
    rows.wrong_keys == 0 && tally.differing_keys == 0 && tally.failed == 0
}

fn table(arguments: &Arguments, tally: &Tally, rows: &Rows, duration: Duration) -> Table {
    let through = if arguments.without_idem { "GET (miss), run, SET" } else { "idem" };
    let (keys, callers) = (arguments.keys, arguments.callers);
    let mut table = Table::new(format!(
        "Race through {through}: {} keys, {} callers each at the same instant",
        grouped(keys),
        grouped(callers),
    ));
    let rows_per_key = match (grouped(rows.min), grouped(rows.max)) {
        (min, max) if min == max => min,
        (min, max) => format!("{min} to {max}"),
    };
    table.row("requests", grouped(u64::from(keys) * u64::from(callers)), "");
    table.row("executed", grouped(tally.executed), "the handler ran for this caller");
    table.row("replayed", grouped(tally.replayed), "given an earlier run's answer");
    table.row("in flight", grouped(tally.refused), "times told so; each asked again until answered");
    table.row("failed", grouped(tally.failed), tally.failure.as_deref().unwrap_or("no answer at all"));
    table.row("rows", grouped(rows.all), "in the application's table, counted by SQL");
    table.row("rows per key", rows_per_key, "");
    table.row("wrong keys", grouped(rows.wrong_keys), "without exactly one row");
    table.row("split keys", grouped(tally.differing_keys), "whose callers were not all given the same bytes");
    table.row("duration", format!("{} ms", grouped(millis(duration))), "");
    table
}

fn verdict(arguments: &Arguments, tally: &Tally, rows: &Rows) -> String {
    let (keys, callers) = (grouped(arguments.keys), grouped(arguments.callers));
    if is_right(tally, rows) {
        return format!(
            "Right: each of the {keys} keys has one row, and one answer for all of its {callers} callers."
        );
    }
    let mut verdict = if rows.wrong_keys > 0 {
        format!("Wrong: {} of {keys} keys do not have exactly one row.", grouped(rows.wrong_keys))
    } else {
        "Wrong: each key has one row, but not every caller was given its answer.".to_owned()
    };
    if arguments.without_idem && rows.max > 1 {
        verdict.push_str(
            "\nCallers that miss together create together: that is what `GET (miss), run, SET` does.\n\
             Run it without `--without-idem`, and each key is reserved before its handler runs.",
        );
    }
    verdict
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
