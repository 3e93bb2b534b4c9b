//! The ledger: a row for each run of a handler, in a SQLite table that SQL can count.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use idem_core::Attempt;
use idem_http::IdempotencyKey;
use rusqlite::{Connection, ErrorCode};
use serde::Serialize;

use crate::Failure;
use crate::request::{Kind, NewResource};

/// How long a process waits for the others to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A ledger in a file of its own, which several processes may share.
#[derive(Clone)]
pub(crate) struct Ledger {
    connection: Arc<Mutex<Connection>>,
}

/// What a run writes.
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) team: String,
    pub(crate) name: String,
    key: Option<String>,
    pub(crate) attempt: u32,
    pub(crate) fence: i64,
    outcome: &'static str,
}

/// A row, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    id: i64,
    kind: String,
    team: String,
    name: String,
    key: Option<String>,
    attempt: u32,
    fence: i64,
    outcome: String,
    at: String,
}

impl Entry {
    pub(crate) fn of(
        kind: Kind,
        team: &str,
        new: &NewResource,
        key: Option<&IdempotencyKey>,
        attempt: &Attempt,
    ) -> Self {
        Self {
            kind,
            team: team.to_owned(),
            name: new.name.clone(),
            key: key.map(|key| key.as_str().to_owned()),
            attempt: attempt.number,
            // Fences are below 2^53.
            fence: i64::try_from(attempt.fence.get()).unwrap_or(i64::MAX),
            outcome: new.simulate().outcome.name(),
        }
    }

    /// Appends the row, in whatever transaction the connection is in, and gives its id.
    pub(crate) fn append(&self, connection: &Connection) -> rusqlite::Result<i64> {
        let row =
            (self.kind.name(), &self.team, &self.name, &self.key, self.attempt, self.fence, self.outcome);
        connection.prepare_cached(include_str!("sql/append.sql"))?.execute(row)?;
        Ok(connection.last_insert_rowid())
    }
}

impl Ledger {
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
        connection.execute_batch(include_str!("sql/create_ledger.sql"))?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Appends a row in a transaction of its own.
    pub(crate) async fn append(&self, entry: Entry) -> Result<(i64, Entry), Failure> {
        self.with(move |connection| Ok((entry.append(connection)?, entry))).await
    }

    /// All rows, in the order of their insertion.
    pub(crate) async fn rows(&self) -> Result<Vec<Row>, Failure> {
        self.with(|connection| {
            let mut rows = connection.prepare_cached(include_str!("sql/rows.sql"))?;
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

/// The file of a `sqlite:` URL.
pub(crate) fn file_of(url: &str) -> Option<PathBuf> {
    url.strip_prefix("sqlite:").map(PathBuf::from)
}
