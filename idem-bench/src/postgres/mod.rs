//! The store in a Postgres database.
//!
//! - [`floor`]: the same work in plain statements, on the same pool.
//! - [`throughput`]: first requests by 1 to 64 callers at once (figures a to d), and the log that they write (g).
//! - [`replay`]: a replay against a bare `SELECT` (e), and 64 refusals at once (f).
//! - [`growth`]: what a large table costs, and how large it is (h to j). Filling it takes minutes, so only the first run has
//!   these figures.
//! - [`server`]: the server that is measured.
//!
//! Everything is made in the schema `idem_bench` of the database, which is dropped before and after.

mod floor;
mod growth;
mod replay;
mod server;
mod setup;
mod throughput;

use std::error::Error;

use tokio_postgres::Client;

use crate::report::Figure;

pub(crate) use self::setup::Scale;

/// The figures of a run. `store` is `postgres:` and a directory, in which a server is started, or the URL of a database.
pub(crate) fn run(scale: &Scale, store: &str, is_first: bool) -> Result<Vec<Figure>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(server::Server::of(store));
    let url = &*server.url;
    let operator = runtime.block_on(operator(url))?;
    runtime.block_on(operator.batch_execute("DROP SCHEMA IF EXISTS idem_bench CASCADE"))?;
    let flush = server.flush()?;
    let mut figures = throughput::first_requests(scale, url, &runtime, &operator)?;
    for durable in figures.iter_mut().filter(|figure| figure.unit == "x") {
        durable.flush = flush;
    }
    figures.extend(replay::answers(scale, url, &runtime)?);
    if is_first {
        figures.extend(growth::slowdown_and_size(scale, url, &runtime, &operator)?);
    }
    runtime.block_on(operator.batch_execute("DROP SCHEMA idem_bench CASCADE"))?;
    Ok(figures)
}

/// A connection that looks at the server.
async fn operator(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
