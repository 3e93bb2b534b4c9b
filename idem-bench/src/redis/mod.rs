//! The store in Redis or Valkey.
//!
//! - [`floor`]: what the server's own commands can do, on a connection of the same kind.
//! - [`throughput`]: first requests by 1 to 256 callers, against the fenced floor and against the unsafe way (a to f).
//! - [`replay`]: a replay, against a bare `GET` (g, h).
//! - [`burst`]: 64 duplicates at once of a request that runs (i).
//! - [`resident`]: what a record takes of the server's memory (j).
//! - [`trips`]: round trips, by the server's own count (k to m).
//! - [`processors`]: what both sides take of the processors, which explains the rest (n to q).
//! - [`server`]: the server that is measured.
//!
//! Server and client share the machine's cores, so only ratios mean something on other machines.

mod burst;
mod floor;
mod processors;
mod replay;
mod resident;
mod server;
mod setup;
mod throughput;
mod trips;

use std::error::Error;

use crate::report::Figure;

pub(crate) use self::setup::Scale;

/// All figures, once. `redis:` and `valkey:` start a server; anything longer is the URL of a server without other users.
pub(crate) fn run(scale: &Scale, url: &str) -> Result<Vec<Figure>, Box<dyn Error>> {
    let server = server::Server::of(url);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut figures = throughput::first_requests(scale, &server, &runtime)?;
    figures.extend(replay::replays(scale, &server, &runtime)?);
    figures.extend(burst::refused(scale, &server, &runtime)?);
    figures.push(resident::per_record(scale, &server::Server::of(url), &runtime)?);
    figures.extend(trips::counted(scale, &server, &runtime)?);
    Ok(figures)
}
