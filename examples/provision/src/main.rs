//! A service that creates databases, caches and document stores, each request once.
//!
//!     cargo run --release -p provision -- race
//!     cargo run --release -p provision -- serve --listen 127.0.0.1:8080 --store sqlite:idem.db --ledger ledger.db
//!
//! It is written as a user of idem would write it. Read `service` first: it has the routes and the layer around them.
//!
//! - `team` authenticates, `request` parses the body, `create` is the handler.
//! - `ledger` is the handler's effect: a row in a table that SQL can count.
//! - `store` opens what `--store` names; `serve` listens, and stops on a signal.
//! - `race` starts the service, sends every request many times at the same instant, and checks what happened.

mod app;
mod arguments;
mod create;
mod failure;
mod ledger;
mod race;
mod request;
mod response;
mod serve;
mod service;
mod store;
mod team;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

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
