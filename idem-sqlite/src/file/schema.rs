//! The tables: their version, and how a file gets them.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Cause, Failure};

/// The version that this release creates and reads. The file's `user_version` keeps it.
const VERSION: i32 = 1;
/// How many tables, indexes and triggers this version has.
const OBJECTS: i32 = 7;

/// Whether the file has the store's tables. Fails if it is another application's file, or has the tables of a later
/// release, or only some of them.
pub(crate) fn has_tables(connection: &Connection) -> Result<bool, Failure> {
    let sql = include_str!("../sql/count_objects.sql");
    let (version, objects) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    match (version, objects) {
        (0, 0) => Ok(false),
        (VERSION, OBJECTS) => Ok(true),
        (found, 1..) if found > VERSION => Err(Cause::LaterTables { found, supported: VERSION }.into()),
        (version, 0) => Err(Cause::ForeignFile { version }.into()),
        _ => Err(Cause::IncompleteTables.into()),
    }
}

/// Creates the tables if there are none. If several processes try, one does it and the others find the tables.
pub(crate) fn create_if_missing(connection: &mut Connection) -> Result<(), Failure> {
    if has_tables(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !has_tables(&transaction)? {
        transaction.execute_batch(include_str!("../sql/create.sql"))?;
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

    use super::*;

    #[test]
    fn tables_that_another_process_creates_are_seen_complete_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let looking = Connection::open(&path).unwrap();
        looking.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)).unwrap();
        let mut other = Some(Connection::open(&path).unwrap());
        // SQLite calls this while it prepares the query of the tables: the other connection creates them in between.
        let create_meanwhile = move |context: AuthContext<'_>| {
            if matches!(context.action, AuthAction::Read { table_name: "sqlite_master", .. }) {
                if let Some(mut other) = other.take() {
                    create_if_missing(&mut other).unwrap();
                }
            }
            Authorization::Allow
        };
        looking.authorizer(Some(create_meanwhile)).unwrap();
        has_tables(&looking).unwrap();
        assert!(has_tables(&looking).unwrap());
    }
}
