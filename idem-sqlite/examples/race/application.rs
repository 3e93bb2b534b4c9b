//! The application: a service that creates databases for its customers and writes a row for each.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

/// How long the creation takes besides the row, for example for a call to a provider.
const PROVISIONING: Duration = Duration::from_millis(2);

/// How long a process waits for another one's lock on a file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A table in a file that all processes share.
pub(crate) struct Application {
    connection: Mutex<Connection>,
}

impl Application {
    /// Creates the tables and lists the keys that will be requested.
    pub(crate) fn create_tables(directory: &Path, keys: &[String]) -> Result<(), Box<dyn Error>> {
        let mut connection = open_shared(&file(directory))?;
        connection.execute_batch(include_str!("schema.sql"))?;
        let transaction = connection.transaction()?;
        for key in keys {
            transaction.execute("INSERT INTO requested (key) VALUES (?1)", [key])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Opens the tables that another process created.
    pub(crate) fn open(directory: &Path) -> rusqlite::Result<Self> {
        Ok(Self { connection: Mutex::new(open_shared(&file(directory))?) })
    }

    /// The handler, whose effect must not happen twice. Its answer names the row and the caller, so that the answers of two
    /// runs differ.
    pub(crate) async fn create(&self, key: &str, caller: u32) -> rusqlite::Result<String> {
        tokio::time::sleep(PROVISIONING).await;
        // Blocking is fine here: each caller has its own thread.
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.prepare_cached(include_str!("create.sql"))?.execute((key, caller))?;
        let id = connection.last_insert_rowid();
        Ok(format!(r#"{{"id": {id}, "key": "{key}", "created_for_caller": {caller}}}"#))
    }
}

/// Opens a file that several processes write. Its rows need not survive a loss of power, so that the race does not measure
/// flushes that are not idem's.
pub(crate) fn open_shared(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// The rows of the application's table.
pub(crate) struct Rows {
    /// The number of rows.
    pub(crate) all: u32,
    /// The fewest rows of a key.
    pub(crate) min: u32,
    /// The most rows of a key.
    pub(crate) max: u32,
    /// How many keys do not have exactly one row.
    pub(crate) wrong_keys: u32,
}

impl Rows {
    /// Counts the committed rows in the file.
    pub(crate) fn count(directory: &Path) -> rusqlite::Result<Self> {
        Connection::open(file(directory))?.query_row(include_str!("rows_per_key.sql"), [], |row| {
            Ok(Self { all: row.get(0)?, min: row.get(1)?, max: row.get(2)?, wrong_keys: row.get(3)? })
        })
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("application.db")
}
