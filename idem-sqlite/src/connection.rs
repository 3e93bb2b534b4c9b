//! Opening the file: the settings of a connection, and the errors of a file that is not ours.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Failure, code, of_sqlite};
use crate::place::{self, Place};
use crate::schema::{self, Found};
use crate::{Options, Synchronous};

/// Pages of the log at which a commit begins to write them back into the file, if the keeper has not: 16 MiB.
const AUTOCHECKPOINT_PAGES: i32 = 4096;
/// What the log is cut back to when it is written back.
const LOG_BYTES_KEPT: i64 = 64 << 20;
/// How long to pause before the log is asked for again, when another process is switching to it.
const PAUSE: Duration = Duration::from_millis(5);
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 32;

/// Opens connections to one file, all with the same settings.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
}

impl Opener {
    /// Opens the file for the first time: makes it and its tables if they are not there.
    pub(crate) fn create(&self) -> Result<(Connection, Place), StoreError> {
        let refused = |cause: crate::error::Cause| cause.of(Operation::Connect);
        place::check_sqlite(rusqlite::version_number(), rusqlite::version()).map_err(refused)?;
        place::check_before_opening(&self.path).map_err(refused)?;
        let failed = |error: rusqlite::Error| match code(&error) {
            Some(ErrorCode::NotADatabase) => {
                misconfigured("the file is not a SQLite database; give the store a path of its own")
            }
            Some(ErrorCode::ReadOnly) => misconfigured("the file is read-only for this process"),
            Some(ErrorCode::CannotOpen) => {
                misconfigured(&format!("the file cannot be opened or made: {error}"))
            }
            _ => of_sqlite(&error, Effect::NotApplied, Operation::Connect),
        };
        let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        connection.busy_timeout(self.busy_timeout()).map_err(failed)?;
        // Read before anything is changed: what is not ours is left as it was.
        refuse_foreign(&schema::find(&connection).map_err(failed)?)?;
        if self.switch_to_log(&connection).map_err(failed)? != "wal" {
            return Err(misconfigured("SQLite cannot keep a log beside this file"));
        }
        self.configure(&connection).map_err(failed)?;
        let found = schema::create_if_missing(&mut connection).map_err(|failure| match failure {
            Failure::Sqlite(error) => failed(error),
            other => other.not_applied(Operation::Connect),
        })?;
        refuse_foreign(&found)?;
        let place = Place::of(&self.path).map_err(refused)?;
        Ok((connection, place))
    }

    /// Opens the file again, which must be there with its tables.
    pub(crate) fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout())?;
        self.configure(&connection)?;
        Ok(connection)
    }

    /// Opens the file for reading.
    pub(crate) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.open()?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// How long to wait for another process: at the longest for what SQLite can count, some weeks.
    pub(crate) fn busy_timeout(&self) -> Duration {
        const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
        self.options.busy_timeout.min(LONGEST)
    }

    fn configure(&self, connection: &Connection) -> rusqlite::Result<()> {
        let synchronous = match self.options.synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(())
    }

    /// Switches the file to write-ahead logging, which stays, and gives the mode that it is in then. SQLite does not wait
    /// by itself for others that do the same at this moment.
    fn switch_to_log(&self, connection: &Connection) -> rusqlite::Result<String> {
        let deadline = Instant::now() + self.busy_timeout();
        loop {
            match connection
                .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
            {
                Ok(mode) => return Ok(mode),
                Err(error) => match code(&error) {
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
                        if Instant::now() < deadline =>
                    {
                        thread::sleep(PAUSE);
                    }
                    _ => return Err(error),
                },
            }
        }
    }
}

fn refuse_foreign(found: &Found) -> Result<(), StoreError> {
    match found {
        Found::Current | Found::Nothing => Ok(()),
        Found::Later(version) => Err(StoreError::new(
            StoreErrorKind::Incompatible,
            Effect::NotApplied,
            Operation::Connect,
        )
        .with_source(format!(
            "the file's tables have version {version}, and this release knows versions up to {}; upgrade it",
            schema::VERSION
        ))),
        Found::Foreign(version) => Err(misconfigured(&format!(
            "the file is another application's (its user_version is {version}); give the store a path of its own"
        ))),
        Found::Broken => {
            Err(StoreError::new(StoreErrorKind::Corrupt, Effect::NotApplied, Operation::Connect)
                .with_source("the file has some of this store's tables, and not all, or not their version"))
        }
    }
}

fn misconfigured(problem: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Misconfigured, Effect::NotApplied, Operation::Connect)
        .with_source(problem)
}
