//! The application: a service that creates databases for its customers, and keeps a row for each.

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tempfile::TempDir;

/// How long creating takes besides writing the row: a call to some provider, say.
const PROVISIONING: Duration = Duration::from_millis(2);

/// A real file in a temporary directory, which goes away with this value.
pub(crate) struct Application {
    connection: Mutex<Connection>,
    file: PathBuf,
    _directory: TempDir,
}

impl Application {
    /// Opens an empty table, and notes which keys will be requested.
    pub(crate) fn open(keys: &[String]) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("application.db");
        let mut connection = Connection::open(&file)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Committed rows have to survive this process, not a loss of power: the race must not measure the disk's flush.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(include_str!("schema.sql"))?;

        let transaction = connection.transaction()?;
        for key in keys {
            transaction.execute("INSERT INTO requested (key) VALUES (?1)", [key])?;
        }
        transaction.commit()?;
        Ok(Self { connection: Mutex::new(connection), file, _directory: directory })
    }

    /// The handler, with an effect that one must not have twice. Its answer tells which row it made, and for whom, so
    /// that the answers of two runs differ.
    pub(crate) async fn create(&self, key: &str, caller: u32) -> rusqlite::Result<Bytes> {
        tokio::time::sleep(PROVISIONING).await;
        // This blocks, and may: each caller has a thread of its own, and delays nobody else's future.
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.prepare_cached(include_str!("create.sql"))?.execute((key, caller))?;
        let id = connection.last_insert_rowid();
        Ok(format!(r#"{{"id": {id}, "key": "{key}", "created_for_caller": {caller}}}"#).into())
    }

    /// Counts what is in the file, through a connection of its own: only what was committed.
    pub(crate) fn rows(&self) -> rusqlite::Result<Rows> {
        Connection::open(&self.file)?.query_row(include_str!("rows_per_key.sql"), [], |row| {
            Ok(Rows { all: row.get(0)?, min: row.get(1)?, max: row.get(2)?, wrong_keys: row.get(3)? })
        })
    }
}

/// The rows of the application's table.
pub(crate) struct Rows {
    /// How many there are.
    pub(crate) all: u32,
    /// How many the key with the fewest has.
    pub(crate) min: u32,
    /// How many the key with the most has.
    pub(crate) max: u32,
    /// How many keys have no row, or several.
    pub(crate) wrong_keys: u32,
}
