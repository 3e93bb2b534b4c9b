//! The tables: their version, and how a file gets them.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::Failure;

/// The version that this release makes and reads; kept in the file's `user_version`.
pub(crate) const VERSION: i32 = 1;
/// How many tables, indexes and triggers that are.
const OBJECTS: i32 = 7;

/// What is in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Our tables, of this version.
    Current,
    /// No tables of ours, and room for them.
    Nothing,
    /// Our tables, of a version that only a later release knows.
    Later(i32),
    /// The file of another application, which keeps a version of its own.
    Foreign(i32),
    /// Our tables without their version, or a version without its tables.
    Broken,
}

/// Looks, and changes nothing.
pub(crate) fn find(connection: &Connection) -> rusqlite::Result<Found> {
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let objects: i32 = connection.query_row(include_str!("sql/objects.sql"), [], |row| row.get(0))?;
    Ok(match (version, objects) {
        (0, 0) => Found::Nothing,
        (VERSION, OBJECTS) => Found::Current,
        (later, 1..) if later > VERSION => Found::Later(later),
        (foreign, 0) => Found::Foreign(foreign),
        _ => Found::Broken,
    })
}

/// Makes the tables if there are none. Of several processes that try, one does; the others find them.
pub(crate) fn create_if_missing(connection: &mut Connection) -> Result<Found, Failure> {
    let found = find(connection)?;
    if found != Found::Nothing {
        return Ok(found);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = find(&transaction)?;
    if found != Found::Nothing {
        return Ok(found);
    }
    transaction.execute_batch(include_str!("sql/create.sql"))?;
    transaction.commit()?;
    Ok(Found::Current)
}
