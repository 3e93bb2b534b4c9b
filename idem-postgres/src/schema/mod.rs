//! The tables and their functions: how they are found, created and checked when a store connects.

mod server;

use idem_core::{Operation, StoreError};
use tokio_postgres::error::SqlState;

use self::server::Server;
use crate::connection::PooledConnection;
use crate::error::{Cause, Failure};
use crate::record::RowError;
use crate::sql::{Names, Parameter};
use crate::store::StoreInner;

/// The version of the tables that this release creates and reads.
const VERSION: i32 = 1;

/// The statements that create the tables and their functions. They keep tables that exist.
pub(crate) fn sql(names: &Names) -> String {
    let tables = names.apply(include_str!("v1/tables.sql"));
    format!("{tables}\n{}", functions_sql(names))
}

/// Checks that the store can work with the server, creates what is missing if the options allow it, and warns about
/// settings that weaken the store's promises.
pub(crate) async fn prepare(store: &StoreInner) -> Result<(), StoreError> {
    try_prepare(store).await.map_err(|failure| failure.into_store_error(Operation::Connect))
}

async fn try_prepare(store: &StoreInner) -> Result<(), Failure> {
    let mut connection = store.connection().await?;
    let server = Server::query(store, &mut connection).await?;
    server.check()?;
    let mut found = query_version(store, &mut connection).await?;
    let missing = match found {
        Version::NoTables => Some(sql(&store.names)),
        Version::NoFunctions => Some(functions_sql(&store.names)),
        Version::Unknown | Version::Is(_) => None,
    };
    if let Some(missing) = missing.filter(|_| store.options.create_schema) {
        let created = create(store, &mut connection, server.has_schema, &missing).await;
        found = query_version(store, &mut connection).await?;
        if found != Version::Is(VERSION) {
            // Otherwise another process created them, perhaps with a role whose functions this one may not replace.
            created?;
        }
    }
    match found {
        Version::Is(VERSION) => {}
        Version::Is(found) if found > VERSION => {
            return Err(Cause::LaterTables { found, known: VERSION }.into());
        }
        Version::NoTables => return Err(Cause::NoTables.into()),
        Version::NoFunctions => return Err(Cause::NoFunctions.into()),
        Version::Is(_) | Version::Unknown => return Err(Cause::NoVersion.into()),
    }
    let detects_lost_clients = server.detects_lost_clients(store, &mut connection).await?;
    let _ = store.detects_lost_clients.set(detects_lost_clients);
    server.warn(&store.names);
    Ok(())
}

/// What the database has of the tables.
#[derive(PartialEq)]
enum Version {
    NoTables,
    /// The tables have this release's version, and a function is missing or has another body.
    NoFunctions,
    /// The tables exist, and their version does not.
    Unknown,
    Is(i32),
}

async fn query_version(store: &StoreInner, connection: &mut PooledConnection) -> Result<Version, Failure> {
    let Names { schema, table } = &store.names;
    let [insert, reserve, complete] = FUNCTIONS.map(|function| format!("{table}{}", function.suffix));
    let bodies = FUNCTIONS.map(|function| function.body(&store.names));
    let parameters: [Parameter<'_>; 7] =
        [schema, &insert, &reserve, &complete, &bodies[0], &bodies[1], &bodies[2]];
    match connection.query_opt(&store.sql.schema_version, &parameters).await {
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

/// Creates what is missing in one transaction. If several processes try at the same time, one of them creates it.
async fn create(
    store: &StoreInner,
    connection: &mut PooledConnection,
    has_schema: bool,
    missing: &str,
) -> Result<(), Failure> {
    // Only if it is missing: `IF NOT EXISTS` needs the right to create a schema even when there is nothing to create.
    let schema = if has_schema {
        String::new()
    } else {
        format!("CREATE SCHEMA IF NOT EXISTS {};\n", store.names.quoted_schema())
    };
    // One message, and so one transaction, also behind a pooler.
    connection.batch(&format!("{}{schema}{missing}", include_str!("lock.sql"))).await
}

/// A function of the tables. It is compared by its body, because its name does not tell which release and which tables it belongs
/// to.
#[derive(Clone, Copy)]
struct Function {
    /// Its name is the table's with this suffix.
    suffix: &'static str,
    sql: &'static str,
}

const FUNCTIONS: [Function; 3] = [
    Function { suffix: "_insert", sql: include_str!("v1/insert.sql") },
    Function { suffix: "_reserve", sql: include_str!("v1/reserve.sql") },
    Function { suffix: "_complete", sql: include_str!("v1/complete.sql") },
];

/// The statements that create the functions, or replace them.
fn functions_sql(names: &Names) -> String {
    FUNCTIONS.map(|function| function.sql(names)).join("\n")
}

impl Function {
    /// The body as the server stores it.
    fn body(self, names: &Names) -> String {
        names.apply(self.sql.split("$body$").nth(1).unwrap_or_default())
    }

    fn sql(self, names: &Names) -> String {
        names.apply(&self.sql.replace("$body$", &format!("${}$", names.tag())))
    }
}
