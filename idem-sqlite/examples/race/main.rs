//! Many callers in several processes send the same request at the same instant, and the handler must run once.
//!
//!     cargo run --release -p idem-sqlite --example race
//!
//! Each process has its own engine on one shared SQLite file. The handler inserts a row into another database. At the end
//! SQL counts the rows of each key. The program fails unless every key has exactly one row and all its callers got the
//! same bytes.
//!
//! With `--without-idem` the same requests go through the usual cache (`GET`, run on a miss, `SET`), which fails.
//!
//! - `application` is the handler and its table; `service` puts idem or the cache in front of it.
//! - `callers` are the threads of one process; `processes` starts the processes and synchronizes them.
//! - `table` formats the result.

mod application;
mod arguments;
mod callers;
mod processes;
mod service;
mod table;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::application::{Application, Rows};
use crate::arguments::Arguments;
use crate::callers::Asked;
use crate::service::{Guard, Service};
use crate::table::{Table, grouped};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    let keys: Vec<_> = (1..=arguments.keys).map(|number| format!("request-{number}")).collect();
    match (&arguments.directory, arguments.number) {
        (Some(directory), Some(number)) => take_part(&arguments, &keys, directory, number),
        _ => hold_race(&arguments, &keys),
    }
}

/// Starts the processes and checks their results.
fn hold_race(arguments: &Arguments, keys: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    Application::create_tables(directory.path(), keys)?;
    let (asked, duration) = processes::run(arguments, directory.path())?;

    let tally = Tally::of(&asked, keys.len());
    let rows = Rows::count(directory.path())?;
    println!("{}\n", table(arguments, &tally, &rows, duration));
    println!("{}", verdict(arguments, &tally, &rows));
    Ok(if is_right(&tally, &rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one of these processes.
fn take_part(
    arguments: &Arguments,
    keys: &[String],
    directory: &Path,
    number: u32,
) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let guard = runtime.block_on(Guard::open(directory, arguments.without_idem))?;
    let service = Service { guard, application: Application::open(directory)? };
    let callers = processes::callers_of(number, arguments);
    processes::report(&callers::race(&service, runtime.handle(), keys, callers, processes::gate)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The results of all callers.
#[derive(Default)]
struct Tally {
    executed: u64,
    replayed: u64,
    refused: u64,
    /// How many keys have callers that got different bytes.
    differing_keys: u64,
    failed: u64,
    /// Why the first failed caller has no answer.
    failure: Option<String>,
}

impl Tally {
    fn of(asked: &[Asked], keys: usize) -> Self {
        let mut tally = Self::default();
        let mut bodies: Vec<Vec<&str>> = vec![Vec::new(); keys];
        for asked in asked {
            match &asked.answer {
                Ok(answer) => {
                    *(if answer.executed { &mut tally.executed } else { &mut tally.replayed }) += 1;
                    tally.refused += u64::from(answer.refusals);
                    bodies[asked.key].push(&answer.body);
                }
                Err(error) => {
                    tally.failed += 1;
                    tally.failure.get_or_insert_with(|| error.clone());
                }
            }
        }
        let differ = |bodies: &Vec<&str>| bodies.windows(2).any(|pair| pair[0] != pair[1]);
        tally.differing_keys = bodies.iter().filter(|bodies| differ(bodies)).count() as u64;
        tally
    }
}

/// Whether each key has one row, counted by SQL, and one answer.
fn is_right(tally: &Tally, rows: &Rows) -> bool {
    rows.wrong_keys == 0 && tally.differing_keys == 0 && tally.failed == 0
}

fn table(arguments: &Arguments, tally: &Tally, rows: &Rows, duration: Duration) -> Table {
    let through = if arguments.without_idem { "a cache" } else { "idem" };
    let (keys, callers) = (arguments.keys, arguments.callers);
    let mut table = Table::new(format!(
        "Race through {through}: {} keys, {} callers each at the same instant, {} processes",
        grouped(keys),
        grouped(callers),
        grouped(arguments.processes),
    ));
    let rows_per_key = match (grouped(rows.min), grouped(rows.max)) {
        (min, max) if min == max => min,
        (min, max) => format!("{min} to {max}"),
    };
    table.row("requests", grouped(u64::from(keys) * u64::from(callers)), "");
    table.row("executed", grouped(tally.executed), "the handler ran for this caller");
    table.row("replayed", grouped(tally.replayed), "the caller got an earlier run's answer");
    table.row(
        "in flight",
        grouped(tally.refused),
        "refusals; each caller asked again until it got an answer",
    );
    table.row("failed", grouped(tally.failed), tally.failure.as_deref().unwrap_or("no answer at all"));
    table.row("rows", grouped(rows.all), "in the application's table, counted by SQL");
    table.row("rows per key", rows_per_key, "");
    table.row("wrong keys", grouped(rows.wrong_keys), "without exactly one row");
    table.row("split keys", grouped(tally.differing_keys), "callers got different bytes");
    table.row("duration", format!("{} ms", grouped(millis(duration))), "");
    table
}

fn verdict(arguments: &Arguments, tally: &Tally, rows: &Rows) -> String {
    let (keys, callers) = (grouped(arguments.keys), grouped(arguments.callers));
    if is_right(tally, rows) {
        return format!(
            "Right: each of the {keys} keys has one row, and all of its {callers} callers got the same answer."
        );
    }
    let mut verdict = if rows.wrong_keys > 0 {
        format!("Wrong: {} of {keys} keys do not have exactly one row.", grouped(rows.wrong_keys))
    } else {
        "Wrong: each key has one row, but not every caller got its answer.".to_owned()
    };
    if arguments.without_idem && rows.max > 1 {
        verdict.push_str(
            "\nCallers that miss the cache at the same time all run the handler.\n\
             Without `--without-idem`, each key is reserved before its handler runs.",
        );
    }
    verdict
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
