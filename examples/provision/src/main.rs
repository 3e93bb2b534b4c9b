//! A service that creates databases, caches and document stores, each request once.
//!
//!     cargo run --release -p provision -- race
//!     cargo run --release -p provision -- serve --listen 127.0.0.1:8080 --store sqlite:idem.db --ledger ledger.db
//!
//! It is written as a user of idem would write it: read `service` first, which is the service, and the layer around it.
//!
//! - `service` has the routes, the authentication and the layer; `create` is the handler; `request` is what it is asked.
//! - `ledger` is the handler's effect: a row in a table, which SQL can count.
//! - `store` opens what `--store` names; `serve` listens, and stops when it is told to.
//! - `race` starts the service, sends every request many times at the same instant, and judges what happened.

mod arguments;
mod create;
mod ledger;
mod race;
mod request;
mod serve;
mod service;
mod store;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

/// What went wrong, for a person to read.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    // Warnings and errors of idem go to stderr: stdout is for the address, and for the table.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .init();
    let done = run(Arguments::parse().command);
    done.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        let mut source = failure.source();
        while let Some(error) = source {
            eprintln!("  because: {error}");
            source = error.source();
        }
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Serve(options) => runtime.block_on(serve::serve(options)).map(|()| ExitCode::SUCCESS),
        Command::Race(options) => runtime.block_on(race::race(options)),
    }
}
