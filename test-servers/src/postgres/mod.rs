//! Postgres: a [`Postgres`] server, and a [`PgBouncer`] in front of one.

mod data;
mod pgbouncer;
mod programs;
mod server;

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

pub use pgbouncer::PgBouncer;
pub use server::Postgres;

/// Nothing that is started takes this long.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to a URL.
pub async fn client(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn url(port: u16) -> String {
    format!("postgres://idem@127.0.0.1:{port}/postgres")
}
