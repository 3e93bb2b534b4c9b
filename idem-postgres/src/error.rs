//! How failures become a [`StoreError`]: those of the drivers and the pool ([`Failure`]), and those that the store finds
//! itself ([`Cause`]).

use std::error::Error;

use deadpool_postgres::{PoolError, TimeoutType};
use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use thiserror::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::record::RowError;
use crate::sql::InvalidName;
use crate::sqlstate::ServerError;

/// The connection leads to an old primary. A new connection can lead to the new one.
const READ_ONLY: SqlState = SqlState::READ_ONLY_SQL_TRANSACTION;
/// The connection has lost its prepared statements (`DEALLOCATE`, `DISCARD`), and would fail on every use.
const UNPREPARED: SqlState = SqlState::INVALID_SQL_STATEMENT_NAME;

/// A failure that the store finds itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Cause {
    // The URL is never shown, nor the parser's message about it: both can contain a password.
    #[error(
        "the URL of a Postgres store has the form \"postgres://user:password@host:5432/database\"; percent-encode special \
         characters of the password; after a `?` it takes the parameters of tokio-postgres, and the store's own settings \
         are in `PostgresOptions`"
    )]
    NotAPostgresUrl,
    #[cfg(not(feature = "rustls"))]
    #[error("the URL asks for TLS (`sslmode=require`); enable the feature `rustls`, or use `connect_tls`")]
    NoTls,
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("Postgres 12 or later is required; this server has version {major}")]
    OldServer { major: i32 },
    #[error(
        "the server is a standby and accepts no writes; connect to the primary, or list several hosts and set \
         `target_session_attrs=read-write`"
    )]
    Standby,
    #[error("the role or the database sets `default_transaction_read_only`; the store has to write")]
    ReadOnly,
    #[error("the tables do not exist and `create_schema` is off; apply `PostgresStore::schema_sql`")]
    NoTables,
    #[error(
        "the functions of the tables are missing or not those of this release, and `create_schema` is off; apply \
         `PostgresStore::schema_sql`"
    )]
    NoFunctions,
    #[error("the tables have version {found}; this release supports versions up to {known}")]
    LaterTables { found: i32, known: i32 },
    #[error("the tables exist but their version is missing; apply `PostgresStore::schema_sql`")]
    NoVersion,
    #[error("all connections of the pool are in use; raise `pool_size` or `pool_timeout`")]
    PoolExhausted,
    #[error("a connection could not be made in time")]
    ConnectTimeout,
    #[error("the pool is closed, or has no runtime for its timeouts")]
    PoolClosed,
    #[error("other callers keep changing or locking the record; try again")]
    Contended,
    #[error("the snapshot of the transaction is older than the reservation; begin it after the reservation")]
    OldSnapshot,
    #[error("a statement or a COPY of the transaction did not finish in time")]
    StatementOpen,
    #[cfg(feature = "sqlx")]
    #[error("a savepoint of sqlx (`Connection::begin`) is still open")]
    SavepointOpen,
    #[error("the connection was lost")]
    ConnectionLost,
}

impl Cause {
    /// Every cause is found before anything is written, so the error is without effect.
    pub(crate) fn into_store_error(self, operation: Operation) -> StoreError {
        StoreError::new(self.kind(), Effect::NotApplied, operation).with_source(self)
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::LaterTables { .. } => StoreErrorKind::Incompatible,
            Self::PoolExhausted | Self::ConnectTimeout | Self::StatementOpen => StoreErrorKind::Timeout,
            Self::PoolClosed | Self::Contended | Self::ConnectionLost => StoreErrorKind::Unavailable,
            // All others stay until the user corrects them.
            _ => StoreErrorKind::Misconfigured,
        }
    }
}

/// A failed step of an operation.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The pool gave no connection.
    Pool(PoolError),
    /// Nothing with an effect was sent.
    Unsent(tokio_postgres::Error),
    /// A statement was sent.
    Sent(tokio_postgres::Error),
    /// A row that was only read.
    Row(RowError),
    /// The row of a statement that may have written something.
    Written(RowError),
    Cause(Cause),
    /// An error that is already complete.
    Store(StoreError),
}

impl Failure {
    /// The error of an operation whose every statement is a transaction of its own.
    pub(crate) fn into_store_error(self, operation: Operation) -> StoreError {
        match self {
            Self::Pool(error) => pool_error(error, operation),
            Self::Unsent(error) => driver_error(&error, Effect::NotApplied, operation),
            Self::Sent(error) => driver_error(&error, effect(&error), operation),
            Self::Row(error) => {
                let kind = match error {
                    RowError::LaterVersion(_) => StoreErrorKind::Incompatible,
                    RowError::Malformed(_) => StoreErrorKind::Corrupt,
                };
                StoreError::new(kind, Effect::NotApplied, operation).with_source(error)
            }
            Self::Written(error) => {
                StoreError::new(StoreErrorKind::Corrupt, Effect::Unknown, operation).with_source(error)
            }
            Self::Cause(cause) => cause.into_store_error(operation),
            Self::Store(error) => error,
        }
    }

    /// The error of a statement in a transaction whose COMMIT was not sent: it had no effect, because the transaction can
    /// only be rolled back.
    pub(crate) fn in_transaction(self) -> StoreError {
        // In a statement of the store this can be a failover. Here the caller asked for a read-only transaction.
        let is_read_only = self.code() == Some(&READ_ONLY);
        let mut error = self.into_store_error(Operation::Complete);
        error.effect = Effect::NotApplied;
        if is_read_only {
            error.kind = StoreErrorKind::Misconfigured;
        }
        error
    }

    /// The SQLSTATE, if the server reported the failure.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Pool(PoolError::Backend(error)) | Self::Unsent(error) | Self::Sent(error) => error.code(),
            _ => None,
        }
    }

    /// Whether a conflict with another transaction was the only reason: the same statement may succeed if it is repeated.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.code(), Some(&(SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED)))
    }

    /// Whether the connection must not be used again.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Unsent(error) | Self::Sent(error) => error
                .as_db_error()
                .is_none_or(|error| is_fatal(error) || matches!(*error.code(), READ_ONLY | UNPREPARED)),
            _ => false,
        }
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

impl From<RowError> for Failure {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

/// The error of a library that could not be set up.
pub(crate) fn setup_error(error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::new(StoreErrorKind::Internal, Effect::NotApplied, Operation::Connect).with_source(error)
}

/// Whether a failed statement that was a transaction of its own may have had its effect. Without a reply of the server it
/// may.
fn effect(error: &tokio_postgres::Error) -> Effect {
    error.as_db_error().map_or(Effect::Unknown, |error| server_error(error).effect())
}

fn is_fatal(error: &DbError) -> bool {
    // Only servers before 9.6 send no severity that can be parsed, and those are refused.
    !matches!(error.parsed_severity(), Some(Severity::Error) | None)
}

fn server_error(error: &DbError) -> ServerError {
    ServerError {
        severity: error.severity().to_owned(),
        code: error.code().code().to_owned(),
        message: error.message().to_owned(),
        is_fatal: is_fatal(error),
    }
}

fn pool_error(error: PoolError, operation: Operation) -> StoreError {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => Cause::PoolExhausted.into_store_error(operation),
        PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => {
            Cause::ConnectTimeout.into_store_error(operation)
        }
        PoolError::Backend(error) => driver_error(&error, Effect::NotApplied, operation),
        PoolError::Closed | PoolError::NoRuntimeSpecified => Cause::PoolClosed.into_store_error(operation),
        // The message of a user's hook may contain secrets.
        PoolError::PostCreateHook(_) => {
            StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, operation)
                .with_source("a hook of the pool refused the new connection")
        }
    }
}

fn driver_error(error: &tokio_postgres::Error, effect: Effect, operation: Operation) -> StoreError {
    if let Some(error) = error.as_db_error() {
        let error = server_error(error);
        return StoreError::new(error.kind(), effect, operation).with_source(error);
    }
    // There is no connection, or it broke, or the server did not follow the protocol: all of them may pass.
    let text = match error.source() {
        // The message about a wrong connection string repeats the string.
        Some(source) if !error.to_string().contains("configuration") => {
            format!("Postgres: {error}: {source}")
        }
        _ => format!("Postgres: {error}"),
    };
    StoreError::new(StoreErrorKind::Unavailable, effect, operation).with_source(text)
}
