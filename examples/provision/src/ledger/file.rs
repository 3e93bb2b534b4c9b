//! The ledger in a SQLite file.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::row::{Entry, Row};
use crate::failure::Failure;

/// How long a process waits for the others to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A ledger in a file, which several processes may share.
#[derive(Clone)]
pub(crate) struct File {
    connection: Arc<Mutex<Connection>>,
}

impl Entry {
    /// Appends the row in the connection's current transaction, if there is one, and returns its id.
    pub(crate) fn append(&self, connection: &Connection) -> rusqlite::Result<i64> {
        let row =
            (self.kind.name(), &self.team, &self.name, &self.key, self.attempt, self.fence, self.outcome);
        connection.prepare_cached(include_str!("../sql/sqlite/append.sql"))?.execute(row)?;
        Ok(connection.last_insert_rowid())
    }
}

impl File {
    /// Opens the ledger, and makes it if it is not there.
    pub(crate) fn open(file: &Path) -> Result<Self, Failure> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Rows have to survive the process, not a loss of power: what is flushed here is not idem's.
        while let Err(error) = connection.pragma_update(None, "journal_mode", "WAL") {
            // Two processes that open a new file at once do not wait for each other here.
            if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Self::in_file(connection)
    }

    /// The ledger in a store's own file: it is written through the store, and read through this.
    pub(crate) fn in_store(file: &Path) -> Result<Self, Failure> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Self::in_file(connection)
    }

    fn in_file(connection: Connection) -> Result<Self, Failure> {
        connection.execute_batch(include_str!("../sql/sqlite/create_ledger.sql"))?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Appends a row in a transaction of its own.
    pub(crate) async fn append(&self, entry: Entry) -> Result<(i64, Entry), Failure> {
        self.with(move |connection| Ok((entry.append(connection)?, entry))).await
    }

    /// All rows, in the order of their insertion.
    pub(crate) async fn rows(&self) -> Result<Vec<Row>, Failure> {
        self.with(|connection| {
            let mut rows = connection.prepare_cached(include_str!("../sql/sqlite/rows.sql"))?;
            let rows = rows.query_map((), |row| {
                Ok(Row {
                    id: row.get(0)?,
                    kind: row.get(1)?,
                    team: row.get(2)?,
                    name: row.get(3)?,
                    key: row.get(4)?,
                    attempt: row.get(5)?,
                    fence: row.get(6)?,
                    outcome: row.get(7)?,
                    at: row.get(8)?,
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// SQLite blocks, and does so on a thread that may.
    async fn with<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let connection = Arc::clone(&self.connection);
        let asked = tokio::task::spawn_blocking(move || {
            // A panic while it was held has left no transaction open: each statement is one.
            ask(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(asked.await??)
    }
}
