//! The errors of this store, and what each failure of SQLite means for an operation.

use std::path::PathBuf;

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use rusqlite::ErrorCode;
use thiserror::Error;

use crate::record::frame::FrameError;

/// What this store itself found wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Cause {
    // The URL itself is not shown: a URL for another backend can contain a password.
    #[error(
        "the URL of a SQLite store is \"sqlite:\" and a path, without host or query, for example \
         \"sqlite:/var/lib/shop/idem.db\"; set options with `connect_with`"
    )]
    NotASqliteUrl,
    #[error("a SQLite store needs the path of a file; use idem-memory for a store in memory")]
    InMemory,
    #[error("{} cannot be used: {problem}", path.display())]
    Location { path: PathBuf, problem: &'static str },
    #[error("{} is on a network file system ({name}); SQLite's log needs a disk of this machine", path.display())]
    NetworkFileSystem { path: PathBuf, name: &'static str },
    #[error(
        "SQLite {found} has a bug that can corrupt the file (fixed in 3.51.3); build with a later version"
    )]
    OldSqlite { found: &'static str },
    #[error("the file is not a SQLite database; choose another path for the store")]
    NotADatabase,
    #[error("the file is read-only for this process")]
    ReadOnly,
    #[error("the file cannot be opened or created: {reason}")]
    CannotOpen { reason: String },
    #[error("SQLite cannot keep a write-ahead log for this file")]
    NoLog,
    #[error(
        "the file's tables have version {found}, but this release supports only version {supported}; use a later release"
    )]
    LaterTables { found: i32, supported: i32 },
    #[error(
        "the file is another application's (its user_version is {version}); choose another path for the store"
    )]
    ForeignFile { version: i32 },
    #[error("the file has some of this store's tables, but not all, or not their version")]
    IncompleteTables,
    #[error("{} was deleted or replaced while it was open; restart the process or open the store again", path.display())]
    Replaced { path: PathBuf },
    #[error("this store was closed; open it again")]
    Closed,
    #[error("{queued} operations are waiting for the disk; send fewer, or raise `queue_capacity`")]
    QueueFull { queued: usize },
    #[error("the operation waited in the queue longer than `queue_timeout` and was discarded")]
    QueueTimeout,
    #[error(
        "the operation panicked, in the clock or in a value that was dropped; standard error has the message"
    )]
    Panicked,
    #[error(
        "another operation rolled back the transaction that this step shared with it ({why}); run it again"
    )]
    RolledBackWithOthers { why: String },
    #[error(
        "a step cannot wait for a write of its own store, which would never run; use the step's connection"
    )]
    InsideStep,
    #[error(
        "a step ended its transaction; use the connection only for statements that leave the transaction open"
    )]
    TransactionEnded,
}

impl Cause {
    pub(crate) fn into_store_error(self, operation: Operation) -> StoreError {
        // Everything but a panic is noticed before anything is committed.
        let effect = if self == Self::Panicked { Effect::Unknown } else { Effect::NotApplied };
        StoreError::new(self.kind(), effect, operation).with_source(self)
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::NotASqliteUrl
            | Self::InMemory
            | Self::Location { .. }
            | Self::NetworkFileSystem { .. }
            | Self::OldSqlite { .. }
            | Self::NotADatabase
            | Self::ReadOnly
            | Self::CannotOpen { .. }
            | Self::NoLog
            | Self::ForeignFile { .. }
            | Self::InsideStep
            | Self::TransactionEnded => StoreErrorKind::Misconfigured,
            Self::LaterTables { .. } => StoreErrorKind::Incompatible,
            Self::IncompleteTables => StoreErrorKind::Corrupt,
            Self::Replaced { .. }
            | Self::Closed
            | Self::QueueFull { .. }
            | Self::RolledBackWithOthers { .. } => StoreErrorKind::Unavailable,
            Self::QueueTimeout => StoreErrorKind::Timeout,
            Self::Panicked => StoreErrorKind::Internal,
        }
    }
}

/// A failure before it is known which operations it concerns.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Cause(#[from] Cause),
    /// An error of the state machine.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure {
    /// The error of an operation that had no effect.
    pub(crate) fn into_store_error(self, operation: Operation) -> StoreError {
        self.to_store_error(Effect::NotApplied, operation)
    }

    /// The error of one of the operations that this failure concerns. Only a failure of SQLite can have an `effect`
    /// other than `NotApplied`.
    pub(crate) fn to_store_error(&self, effect: Effect, operation: Operation) -> StoreError {
        match self {
            Self::Sqlite(error) => {
                // rusqlite's error cannot be cloned, so that each operation gets its text.
                StoreError::new(sqlite_kind(error), effect, operation).with_source(format!("SQLite: {error}"))
            }
            Self::Frame(error) => {
                let kind = match error {
                    FrameError::LaterVersion(_) => StoreErrorKind::Incompatible,
                    FrameError::Malformed => StoreErrorKind::Corrupt,
                };
                StoreError::new(kind, Effect::NotApplied, operation).with_source(error.clone())
            }
            Self::Cause(cause) => cause.clone().into_store_error(operation),
            Self::Store(error) => error.clone(),
        }
    }

    /// Whether another process holds the write lock.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }
}

/// What SQLite's result code means (<https://www.sqlite.org/rescode.html>).
fn sqlite_kind(error: &rusqlite::Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        // These can pass: another process is writing, the disk fails, or the machine has no memory or file handles left.
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::CannotOpen
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreErrorKind::Unavailable,
        Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Corrupt,
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => StoreErrorKind::Misconfigured,
        Some(ErrorCode::TooBig) => StoreErrorKind::TooLarge,
        _ => StoreErrorKind::Internal,
    }
}
