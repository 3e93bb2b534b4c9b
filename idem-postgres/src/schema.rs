//! The tables: whether they are there, what version they have, and how a database gets them.

use idem_core::{Operation, StoreError};
use tokio_postgres::error::SqlState;

use crate::connection::{Held, Parameter};
use crate::error::{Cause, Failure};
use crate::names::Names;
use crate::row::RowError;
use crate::store::Inner;

/// The version that this release makes and reads.
const VERSION: i32 = 1;
/// `date_trunc` in a time zone, and common table expressions that are not taken apart.
const OLDEST_SERVER: i32 = 120_000;
/// `client_connection_check_interval`.
const NOTICES_CLIENTS: i32 = 140_000;

/// The statements that make the tables and their functions. They can be run again: what is there stays.
pub(crate) fn sql(names: &Names) -> String {
    let functions = FUNCTIONS.map(|function| function.sql(names)).join("\n");
    format!("{}\n{functions}", names.apply(include_str!("sql/schema/v1/tables.sql")))
}

/// A function beside the tables.
#[derive(Clone, Copy)]
struct Function {
    /// Behind the table's name.
    name: &'static str,
    sql: &'static str,
}

const FUNCTIONS: [Function; 3] = [
    Function { name: "_insert", sql: include_str!("sql/schema/v1/insert.sql") },
    Function { name: "_reserve", sql: include_str!("sql/schema/v1/reserve.sql") },
    Function { name: "_complete", sql: include_str!("sql/schema/v1/complete.sql") },
];

impl Function {
    fn sql(self, names: &Names) -> String {
        names.apply(&self.sql.replace("$body$", &format!("${}$", names.tag())))
    }

    /// As the server keeps it.
    fn body(self, names: &Names) -> String {
        names.apply(self.sql.split("$body$").nth(1).unwrap_or_default())
    }
}

/// What the server says of itself and of the tables.
struct Server {
    version: i32,
    is_standby: bool,
    is_read_only: bool,
    synchronous_commit: String,
    fsync: String,
    has_schema: bool,
    /// Of the table and of its `_meta`, if they are there.
    persistence: [Option<i8>; 2],
}

/// Looks whether the server is one that the store can work with, makes the tables if they are missing and may be made,
/// and warns of whatever weakens the store's promises.
pub(crate) async fn prepare(inner: &Inner) -> Result<(), StoreError> {
    try_prepare(inner).await.map_err(|failure| failure.of(Operation::Connect))
}

async fn try_prepare(inner: &Inner) -> Result<(), Failure> {
    let refused = |cause: Cause| Err(Failure::Store(cause.of(Operation::Connect)));
    let mut held = inner.connection().await?;
    let server = ask(inner, &mut held).await?;
    if server.version < OLDEST_SERVER {
        return refused(Cause::OldServer { major: server.version / 10_000 });
    }
    if server.is_standby {
        return refused(Cause::Standby);
    }
    if server.is_read_only {
        return refused(Cause::ReadOnly);
    }
    let mut found = version(inner, &mut held).await?;
    let missing = match found {
        Version::NoTables => Some(sql(&inner.names)),
        Version::NoFunctions => Some(FUNCTIONS.map(|function| function.sql(&inner.names)).join("\n")),
        Version::Unknown | Version::Is(_) => None,
    };
    if let Some(missing) = missing.filter(|_| inner.options.create_schema) {
        let created = create(inner, &mut held, server.has_schema, &missing).await;
        found = version(inner, &mut held).await?;
        if found != Version::Is(VERSION) {
            // Otherwise somebody else has made them, perhaps as a role whose functions this one may not replace.
            created?;
        }
    }
    match found {
        Version::Is(VERSION) => {}
        Version::Is(found) if found > VERSION => {
            return refused(Cause::LaterTables { found, known: VERSION });
        }
        Version::NoTables => return refused(Cause::NoTables),
        Version::NoFunctions => return refused(Cause::NoFunctions),
        Version::Is(_) | Version::Unknown => return refused(Cause::NoVersion),
    }
    let notices_clients = server.version >= NOTICES_CLIENTS && notices_clients(inner, &mut held).await?;
    let _ = inner.notices_clients.set(notices_clients);
    warn(&server, &inner.names);
    Ok(())
}

/// Whether the server's operating system tells it that a client is gone.
async fn notices_clients(inner: &Inner, held: &mut Held) -> Result<bool, Failure> {
    match held.query_opt(&inner.sql.notice, &[]).await {
        // Said of the setting, whatever it was, and not of the connection.
        Err(failure) if !failure.ends_connection() => Ok(false),
        asked => asked.map(|_| true),
    }
}

#[derive(PartialEq)]
enum Version {
    NoTables,
    /// Of the tables of this release's version.
    NoFunctions,
    Unknown,
    Is(i32),
}

async fn version(inner: &Inner, held: &mut Held) -> Result<Version, Failure> {
    let (schema, table) = (inner.names.schema(), inner.names.table());
    let [insert, reserve, complete] = FUNCTIONS.map(|function| format!("{table}{}", function.name));
    let bodies = FUNCTIONS.map(|function| function.body(&inner.names));
    let parameters: [Parameter<'_>; 7] =
        [&schema, &insert, &reserve, &complete, &bodies[0], &bodies[1], &bodies[2]];
    match held.query_opt(&inner.sql.version, &parameters).await {
        Ok(Some(row)) => {
            let columns = || Ok::<(i32, i64), tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
            Ok(match columns().map_err(|_| RowError::Malformed("meta.version"))? {
                (VERSION, ..3) => Version::NoFunctions,
                (version, _) => Version::Is(version),
            })
        }
        Ok(None) => Ok(Version::Unknown),
        Err(failure)
            if failure.code() == Some(&SqlState::UNDEFINED_TABLE)
                || failure.code() == Some(&SqlState::INVALID_SCHEMA_NAME) =>
        {
            Ok(Version::NoTables)
        }
        Err(failure) => Err(failure),
    }
}

/// Makes what is missing, whole or not at all. Of several processes that try, one does.
async fn create(inner: &Inner, held: &mut Held, has_schema: bool, missing: &str) -> Result<(), Failure> {
    // Only if it is missing: the right to make one is asked for before it is looked whether there is anything to make.
    let schema = if has_schema {
        String::new()
    } else {
        format!("CREATE SCHEMA IF NOT EXISTS {};\n", inner.names.quoted_schema())
    };
    // One message, and so one transaction, also behind a pooler.
    held.batch(&format!("{}{schema}{missing}", include_str!("sql/schema/lock.sql"))).await
}

async fn ask(inner: &Inner, held: &mut Held) -> Result<Server, Failure> {
    let (schema, table) = (inner.names.schema(), inner.names.table());
    let meta = format!("{table}_meta");
    let row = held.query_opt(&inner.sql.server, &[&schema, &table, &meta]).await?;
    let row = row.ok_or(RowError::Malformed("server"))?;
    let server = || {
        Ok::<_, tokio_postgres::Error>(Server {
            version: row.try_get(0)?,
            is_standby: row.try_get(1)?,
            is_read_only: row.try_get::<_, String>(2)? == "on",
            synchronous_commit: row.try_get(3)?,
            fsync: row.try_get(4)?,
            has_schema: row.try_get(5)?,
            persistence: [row.try_get(6)?, row.try_get(7)?],
        })
    };
    Ok(server().map_err(|_| RowError::Malformed("server"))?)
}

/// What is allowed and weakens the promises is said once, where the service's log is read.
fn warn(server: &Server, names: &Names) {
    let unlogged = i8::from_be_bytes([b'u']);
    if server.synchronous_commit == "off" {
        tracing::warn!(
            "synchronous_commit is off: a crash of the server can lose reservations and answers that were acknowledged"
        );
    }
    if server.fsync == "off" {
        tracing::warn!("fsync is off: a loss of power can lose or damage everything");
    }
    if server.persistence.contains(&Some(unlogged)) {
        tracing::warn!(
            schema = names.schema(),
            table = names.table(),
            "the table is UNLOGGED: a crash of the server empties it, and every request counts as new"
        );
    }
}
