//! [`DatabaseFile`]: the store's file, and the settings of every connection to it.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Cause, Failure};
use crate::file::location::{self, FileIdentity};
use crate::file::schema;
use crate::{SqliteOptions, Synchronous};

/// The first SQLite without the WAL-reset bug.
const MIN_SQLITE: i32 = 3_051_003;
/// The size of the log, in pages, at which a commit writes it back if maintenance did not: 16 MiB.
const AUTOCHECKPOINT_PAGES: i32 = 4096;
/// SQLite shortens a log that was written back to this size.
const LOG_BYTES_KEPT: i64 = 64 << 20;
/// The pause before the next try to switch to the log, while another process does the same.
const SWITCH_PAUSE: Duration = Duration::from_millis(5);
/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 32;

/// The store's file.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    pub(crate) path: PathBuf,
    pub(crate) options: SqliteOptions,
    identity: FileIdentity,
}

impl DatabaseFile {
    /// Opens the file for the first time. Creates it and its tables if they do not exist.
    pub(crate) fn create(path: PathBuf, options: SqliteOptions) -> Result<(Self, Connection), Failure> {
        check_sqlite(rusqlite::version_number(), rusqlite::version())?;
        location::check(&path)?;
        let connection = create(&path, &options).map_err(explain)?;
        let identity = FileIdentity::of(&path).ok_or_else(|| Cause::Replaced { path: path.clone() })?;
        Ok((Self { path, options, identity }, connection))
    }

    /// Opens another connection to the file, which must exist with its tables.
    pub(crate) fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.options.busy_timeout)?;
        configure(&connection, self.options.synchronous)?;
        Ok(connection)
    }

    /// Opens another connection that only reads.
    pub(crate) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.open()?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// Fails if the path now leads to another file or to none: what is written to the open file would be lost, or other
    /// processes would not see it.
    pub(crate) fn check_identity(&self) -> Result<(), Cause> {
        if FileIdentity::of(&self.path) == Some(self.identity) { Ok(()) } else { Err(self.replaced()) }
    }

    pub(crate) fn replaced(&self) -> Cause {
        Cause::Replaced { path: self.path.clone() }
    }
}

/// Runs `work` on a connection, and closes it if `work` panics, so that no lock on the file stays behind.
pub(crate) fn close_on_panic<T>(
    connection: &mut Option<Connection>,
    work: impl FnOnce(&mut Option<Connection>) -> T,
) -> thread::Result<T> {
    let result = panic::catch_unwind(AssertUnwindSafe(|| work(connection)));
    if result.is_err() {
        *connection = None;
    }
    result
}

fn check_sqlite(number: i32, version: &'static str) -> Result<(), Cause> {
    if number < MIN_SQLITE { Err(Cause::OldSqlite { found: version }) } else { Ok(()) }
}

fn create(path: &Path, options: &SqliteOptions) -> Result<Connection, Failure> {
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    // Before anything is changed: a file that is refused stays as it was.
    schema::has_tables(&connection)?;
    if switch_to_log(&connection, options.busy_timeout)? != "wal" {
        return Err(Cause::NoLog.into());
    }
    configure(&connection, options.synchronous)?;
    schema::create_if_missing(&mut connection)?;
    Ok(connection)
}

fn configure(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    let synchronous = match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// Switches the file to write-ahead logging and returns the mode that it is in then. For this statement SQLite does not
/// wait for other processes by itself.
fn switch_to_log(connection: &Connection, timeout: Duration) -> rusqlite::Result<String> {
    let deadline = Instant::now() + timeout;
    loop {
        let result = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        let is_busy = result.as_ref().is_err_and(|error: &rusqlite::Error| {
            let code = error.sqlite_error_code();
            matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
        });
        if !is_busy || Instant::now() >= deadline {
            return result;
        }
        thread::sleep(SWITCH_PAUSE);
    }
}

/// Says what to do about an error of SQLite that a user can correct.
fn explain(failure: Failure) -> Failure {
    let Failure::Sqlite(error) = failure else { return failure };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Cause::NotADatabase.into(),
        Some(ErrorCode::ReadOnly) => Cause::ReadOnly.into(),
        Some(ErrorCode::CannotOpen) => Cause::CannotOpen { reason: error.to_string() }.into(),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused_by_its_number() {
        assert!(check_sqlite(3_051_002, "3.51.2").is_err());
        assert!(check_sqlite(3_051_003, "3.51.3").is_ok());
        assert!(check_sqlite(rusqlite::version_number(), rusqlite::version()).is_ok());
    }
}
