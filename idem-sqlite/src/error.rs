//! What a failure of SQLite means for an operation, case by case; and the causes that this store finds itself.

use std::path::PathBuf;

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use rusqlite::ErrorCode;
use thiserror::Error;

use crate::frame::FrameError;

/// Why the store refused, or failed, apart from SQLite.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Cause {
    #[error("the answer has {bytes} bytes, and at most {max_answer_bytes} are kept")]
    AnswerTooLarge { bytes: usize, max_answer_bytes: usize },
    // The URL itself is not shown: one meant for another backend may hold a password.
    #[error(
        "the URL of a SQLite store is \"sqlite:\" and a path, without host or query, for example \
         \"sqlite:/var/lib/shop/idem.db\"; settings are given as `Options`"
    )]
    NotASqliteUrl,
    #[error("a store in memory is what idem-memory is; give SQLite the path of a file")]
    InMemory,
    #[error("{} cannot be used: {problem}", path.display())]
    Place { path: PathBuf, problem: &'static str },
    #[error("SQLite {found} has a bug that can corrupt the file (fixed in 3.51.3); build with a later one")]
    OldSqlite { found: &'static str },
    #[error("{} was deleted or replaced while it was open; restart the process, or open the store again", path.display())]
    Replaced { path: PathBuf },
    #[error("this store was closed; open it again")]
    Closed,
    #[error("{queued} operations are waiting for the disk; slow down, or raise `max_queued`")]
    QueueFull { queued: usize },
    #[error("the operation waited in the queue for longer than `queue_timeout` and was discarded")]
    QueueTimeout,
    #[error(
        "something panicked while it was being done: the clock, or a value that was dropped; standard error has its words"
    )]
    WriterGone,
    #[error("the transaction that the step shared with other operations was undone ({why}); run it again")]
    UndoneWithOthers { why: String },
    #[error(
        "a step waits for an operation of its own store, which would never come; use its connection instead"
    )]
    InsideStep,
    #[error(
        "the operation's step ended the transaction that it was run in; use the connection for statements only"
    )]
    TransactionEnded,
}

impl Cause {
    /// All of these are known before anything is written.
    pub(crate) fn of(self, operation: Operation) -> StoreError {
        StoreError::new(self.kind(), Effect::NotApplied, operation).with_source(self)
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::AnswerTooLarge { .. } => StoreErrorKind::TooLarge,
            Self::NotASqliteUrl
            | Self::InMemory
            | Self::Place { .. }
            | Self::OldSqlite { .. }
            | Self::InsideStep
            | Self::TransactionEnded => StoreErrorKind::Misconfigured,
            Self::Replaced { .. } | Self::Closed | Self::QueueFull { .. } | Self::UndoneWithOthers { .. } => {
                StoreErrorKind::Unavailable
            }
            Self::QueueTimeout => StoreErrorKind::Timeout,
            Self::WriterGone => StoreErrorKind::Internal,
        }
    }
}

/// A failure inside of a transaction, before it is known whose it is.
#[derive(Debug)]
pub(crate) enum Failure {
    Sqlite(rusqlite::Error),
    Frame(FrameError),
    /// Already told as it is to be told: by the state machine, or by this store.
    Store(StoreError),
}

impl Failure {
    /// The error of an operation that had no effect.
    pub(crate) fn not_applied(self, operation: Operation) -> StoreError {
        match self {
            Self::Sqlite(error) => of_sqlite(&error, Effect::NotApplied, operation),
            Self::Frame(error) => {
                let kind = match error {
                    FrameError::LaterVersion(_) => StoreErrorKind::Incompatible,
                    FrameError::Malformed => StoreErrorKind::Corrupt,
                };
                StoreError::new(kind, Effect::NotApplied, operation).with_source(error)
            }
            Self::Store(error) => error,
        }
    }

    /// Whether another process is writing.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite(error) if code(error) == Some(ErrorCode::DatabaseBusy))
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The error of an operation that SQLite failed. One failure may concern many operations, so that each gets its words
/// and not the error itself.
pub(crate) fn of_sqlite(error: &rusqlite::Error, effect: Effect, operation: Operation) -> StoreError {
    StoreError::new(kind(error), effect, operation).with_source(SqliteFailure(error.to_string()))
}

/// What SQLite said.
#[derive(Debug, Error)]
#[error("SQLite: {0}")]
struct SqliteFailure(String);

/// SQLite's own word for what went wrong (<https://www.sqlite.org/rescode.html>).
pub(crate) fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.code),
        _ => None,
    }
}

fn kind(error: &rusqlite::Error) -> StoreErrorKind {
    match code(error) {
        // Another process is writing, the disk fails, or it is the machine that has no memory: all may pass.
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            // It was there, so it is the process that has too many files open, say.
            | ErrorCode::CannotOpen
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreErrorKind::Unavailable,
        Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Corrupt,
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied,
        ) => StoreErrorKind::Misconfigured,
        Some(ErrorCode::TooBig) => StoreErrorKind::TooLarge,
        _ => StoreErrorKind::Internal,
    }
}
