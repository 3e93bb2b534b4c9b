//! What a failure of Postgres means for an operation, case by case; and the causes that this store finds itself.

use std::error::Error;

use deadpool_postgres::{PoolError, TimeoutType};
use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use thiserror::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::row::RowError;
use crate::sqlstate::ServerError;

/// A connection that says so is an old primary's, and the next one may be the new one's.
const READ_ONLY: SqlState = SqlState::READ_ONLY_SQL_TRANSACTION;
/// A connection that says so has lost its prepared statements (`DEALLOCATE`, `DISCARD`), and would say so for ever.
const UNPREPARED: SqlState = SqlState::INVALID_SQL_STATEMENT_NAME;

/// Why the store refused, or failed, apart from Postgres.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Cause {
    #[error("the answer has {bytes} bytes, and at most {max_answer_bytes} are kept")]
    AnswerTooLarge { bytes: usize, max_answer_bytes: usize },
    // The URL itself is never shown, nor what its parser said about it: it may hold a password.
    #[error(
        "the URL of a Postgres store is like \"postgres://user:password@host:5432/database\"; a password's special \
         characters are percent-encoded, and behind a `?` stand settings that tokio-postgres knows; the store's own are \
         given as `Options`"
    )]
    NotAPostgresUrl,
    #[cfg(not(feature = "rustls"))]
    #[error(
        "the URL asks for TLS (`sslmode=require`); build idem-postgres with its feature `rustls`, or use `connect_tls`"
    )]
    NoTls,
    #[error("the {what}'s name has 1 to {at_most} bytes, and no control characters")]
    Name { what: &'static str, at_most: usize },
    #[error("Postgres 12 or later is needed, and this is {major}")]
    OldServer { major: i32 },
    #[error(
        "the server is a standby and takes no writes; give the address of the primary, or several hosts and \
         `target_session_attrs=read-write`"
    )]
    Standby,
    #[error("the role or the database has `default_transaction_read_only` on; the store has to write")]
    ReadOnly,
    #[error("the tables are not there, and `create_schema` is off; apply `PostgresStore::schema_sql`")]
    NoTables,
    #[error(
        "the functions of the tables are not there, or are not this release's, and `create_schema` is off; apply `PostgresStore::schema_sql`"
    )]
    NoFunctions,
    #[error("the tables have version {found}, and this release knows versions up to {known}")]
    LaterTables { found: i32, known: i32 },
    #[error("the tables are there and their version is not; apply `PostgresStore::schema_sql`")]
    NoVersion,
    #[error(
        "every connection of the pool was in use; give it more (`pool_size`), or wait longer (`pool_timeout`)"
    )]
    PoolExhausted,
    #[error("a connection could not be made in time")]
    ConnectTimeout,
    #[error("the pool is closed, or has no runtime to wait in")]
    PoolClosed,
    #[error("the record is being changed by others, again and again, or is locked; try again")]
    Contended,
    #[error(
        "the transaction sees the database as it was before this key was reserved; begin it after the reservation"
    )]
    OldSnapshot,
    #[error("a statement or a COPY of the transaction's was begun and did not come to its end")]
    StatementOpen,
    #[cfg(feature = "sqlx")]
    #[error("a savepoint of sqlx's was begun and not ended (`Connection::begin`)")]
    SavepointOpen,
    #[error("the connection was lost")]
    ConnectionLost,
}

impl Cause {
    /// All of these are known before anything is written.
    pub(crate) fn of(self, operation: Operation) -> StoreError {
        StoreError::new(self.kind(), Effect::NotApplied, operation).with_source(self)
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::AnswerTooLarge { .. } => StoreErrorKind::TooLarge,
            #[cfg(not(feature = "rustls"))]
            Self::NoTls => StoreErrorKind::Misconfigured,
            Self::NotAPostgresUrl
            | Self::Name { .. }
            | Self::OldServer { .. }
            | Self::Standby
            | Self::ReadOnly
            | Self::NoTables
            | Self::NoFunctions
            | Self::NoVersion
            | Self::OldSnapshot => StoreErrorKind::Misconfigured,
            #[cfg(feature = "sqlx")]
            Self::SavepointOpen => StoreErrorKind::Misconfigured,
            Self::LaterTables { .. } => StoreErrorKind::Incompatible,
            Self::PoolExhausted | Self::ConnectTimeout | Self::StatementOpen => StoreErrorKind::Timeout,
            Self::PoolClosed | Self::Contended | Self::ConnectionLost => StoreErrorKind::Unavailable,
        }
    }
}

/// A failure, before it is known whose it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection was had.
    Pool(PoolError),
    /// Nothing was sent that has an effect.
    Unsent(tokio_postgres::Error),
    /// A statement was sent. `None`: on a connection that was lost before.
    Sent(Option<tokio_postgres::Error>),
    Row(RowError),
    /// Already told as it is to be told: by the state machine, or by this store.
    Store(StoreError),
}

impl Failure {
    pub(crate) fn sent(error: tokio_postgres::Error) -> Self {
        Self::Sent(Some(error))
    }

    /// The error of an operation whose statements are each a transaction of their own.
    pub(crate) fn of(self, operation: Operation) -> StoreError {
        match self {
            Self::Pool(error) => of_pool(error, operation),
            Self::Unsent(error) => of_postgres(&error, Effect::NotApplied, operation),
            Self::Sent(Some(error)) => of_postgres(&error, effect(&error), operation),
            Self::Sent(None) => Cause::ConnectionLost.of(operation),
            Self::Row(error) => {
                let kind = match error {
                    RowError::LaterVersion(_) => StoreErrorKind::Incompatible,
                    RowError::Malformed(_) => StoreErrorKind::Corrupt,
                };
                StoreError::new(kind, Effect::NotApplied, operation).with_source(error)
            }
            Self::Store(error) => error,
        }
    }

    /// The error of a statement in a transaction whose COMMIT was not sent: whatever became of the statement, it can only
    /// be rolled back.
    pub(crate) fn in_transaction(self) -> StoreError {
        // In a store's own statement a failover may be under way; here it is what the caller has asked for.
        let is_read_only = self.code() == Some(&READ_ONLY);
        let mut error = self.of(Operation::Complete);
        error.effect = Effect::NotApplied;
        if is_read_only {
            error.kind = StoreErrorKind::Misconfigured;
        }
        error
    }

    /// What the server said, if it was the server.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Pool(PoolError::Backend(error)) | Self::Unsent(error) | Self::Sent(Some(error)) => {
                error.code()
            }
            Self::Pool(_) | Self::Sent(None) | Self::Row(_) | Self::Store(_) => None,
        }
    }

    /// Whether others were in the way, and it was undone for that alone: done again, it may be told otherwise.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.code(), Some(&(SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED)))
    }

    /// Whether nothing more can be expected of the connection that it happened on.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Unsent(error) | Self::Sent(Some(error)) => error
                .as_db_error()
                .is_none_or(|said| is_fatal(said) || matches!(*said.code(), READ_ONLY | UNPREPARED)),
            Self::Sent(None) => true,
            Self::Pool(_) | Self::Row(_) | Self::Store(_) => false,
        }
    }
}

impl From<RowError> for Failure {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

/// Whether a statement that failed so, and was a transaction of its own, may have had its effect. What was never said may
/// have been anything.
fn effect(error: &tokio_postgres::Error) -> Effect {
    error.as_db_error().map_or(Effect::Unknown, |said| server_error(said).effect())
}

fn is_fatal(said: &DbError) -> bool {
    // Servers before 9.6 do not say it in a word that can be read; those are refused.
    !matches!(said.parsed_severity(), Some(Severity::Error) | None)
}

fn server_error(said: &DbError) -> ServerError {
    ServerError {
        severity: said.severity().to_owned(),
        code: said.code().code().to_owned(),
        message: said.message().to_owned(),
        is_fatal: is_fatal(said),
    }
}

fn of_pool(error: PoolError, operation: Operation) -> StoreError {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => Cause::PoolExhausted.of(operation),
        PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => Cause::ConnectTimeout.of(operation),
        PoolError::Backend(error) => of_postgres(&error, Effect::NotApplied, operation),
        PoolError::Closed | PoolError::NoRuntimeSpecified => Cause::PoolClosed.of(operation),
        // The user's own, on a pool of the user's: its words are not known to be free of secrets.
        PoolError::PostCreateHook(_) => {
            StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, operation)
                .with_source("a hook of the pool refused the new connection")
        }
    }
}

/// The error of an operation that Postgres failed.
pub(crate) fn of_postgres(error: &tokio_postgres::Error, effect: Effect, operation: Operation) -> StoreError {
    if let Some(said) = error.as_db_error() {
        let said = server_error(said);
        return StoreError::new(said.kind(), effect, operation).with_source(said);
    }
    // No connection, or it broke, or the server did not follow its own protocol: all may pass.
    StoreError::new(StoreErrorKind::Unavailable, effect, operation).with_source(NoAnswer::new(error))
}

/// How the connection failed.
#[derive(Debug, Error)]
#[error("Postgres: {0}")]
struct NoAnswer(String);

impl NoAnswer {
    fn new(error: &tokio_postgres::Error) -> Self {
        Self(match error.source() {
            // The words for a wrong connection string repeat it.
            Some(source) if !error.to_string().contains("configuration") => format!("{error}: {source}"),
            _ => error.to_string(),
        })
    }
}
