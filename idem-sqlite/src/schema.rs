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
    let (version, objects): (i32, i32) =
        connection.query_row(include_str!("sql/objects.sql"), [], |row| Ok((row.get(0)?, row.get(1)?)))?;
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

#[cfg(test)]
mod tests {
    use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

    use super::*;

    #[test]
    fn tables_that_another_makes_at_this_moment_are_there_or_not_and_never_half() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let looking = Connection::open(&path).unwrap();
        let mode = |connection: &Connection| {
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
        };
        mode(&looking).unwrap();
        let mut other = Some(Connection::open(&path).unwrap());
        // SQLite asks when it prepares the look at the tables: the other comes between that and what was seen before.
        let come_between = move |context: AuthContext<'_>| {
            if matches!(context.action, AuthAction::Read { table_name: "sqlite_master", .. }) {
                if let Some(mut other) = other.take() {
                    assert_eq!(create_if_missing(&mut other).unwrap(), Found::Current);
                }
            }
            Authorization::Allow
        };
        looking.authorizer(Some(come_between)).unwrap();
        assert_ne!(find(&looking).unwrap(), Found::Broken);
        assert_eq!(find(&looking).unwrap(), Found::Current);
    }
}
