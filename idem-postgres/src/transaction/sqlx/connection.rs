//! [`SqlxTransaction`]: the statements of the guard on a connection of sqlx.

use idem_core::{Effect, Operation, Reservation, StoreError, StoreErrorKind, backend};
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgArguments, PgDatabaseError, PgRow, PgSeverity, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool, Row as _};
use sqlx_core::transaction::TransactionManager;
use tokio::time::timeout;

use crate::error::Cause;
use crate::record::{EncodedCompletion, RowError};
use crate::sql::Sql;
use crate::sqlstate::ServerError;
use crate::store::StoreInner;
use crate::transaction::commit_recovery::terminate_session;
use crate::transaction::error::TransactionError;
use crate::transaction::guard::OpenTransaction;
use crate::transaction::limits::{COMMIT_TIMEOUT, LOCK_TIMEOUT, ROLLBACK_TIMEOUT, settings};
use crate::transaction::session::{
    CallerSession, CurrentTransaction, LockRow, LockedRecord, Session, UncompletedRow, unreadable,
};

/// A transaction of sqlx; `None` once its commit was sent.
#[derive(Debug)]
pub(super) struct SqlxTransaction(Option<sqlx::Transaction<'static, Postgres>>);

impl SqlxTransaction {
    /// Begins a transaction and locks the record of the reservation.
    pub(super) async fn begin(
        store: &StoreInner,
        reservation: &Reservation,
        pool: &PgPool,
    ) -> Result<(Self, LockedRecord), TransactionError> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        let mut transaction = pool.begin_with(begin).await.map_err(not_applied)?;
        let locking = async {
            transaction.execute(sqlx::raw_sql(AssertSqlSafe(settings(store)))).await?;
            let lock = statement(&store.sql.lock_record.sql)
                .bind(reservation.key().digest().as_bytes().to_vec())
                .bind(backend::owner(reservation).as_bytes().to_vec());
            transaction.fetch_optional(lock).await
        };
        let row = match timeout(LOCK_TIMEOUT, locking).await {
            Ok(row) => row.map_err(not_applied)?,
            Err(_elapsed) => return Err(Cause::Contended.into_store_error(Operation::Complete).into()),
        };
        let columns = row.as_ref().map(lock_row).transpose().map_err(not_applied)?;
        match LockedRecord::from_columns(columns).map_err(unreadable)? {
            Ok(locked) => Ok((Self(Some(transaction)), locked)),
            Err(ended) => {
                let _ = timeout(ROLLBACK_TIMEOUT, transaction.rollback()).await;
                Err(ended)
            }
        }
    }

    pub(super) fn open(&self) -> &PgConnection {
        // Only the commit takes it, and the commit has consumed the guard that this reference is borrowed from.
        let Some(transaction) = &self.0 else { unreachable!("it is open until its commit is sent") };
        transaction
    }

    pub(super) fn open_mut(&mut self) -> &mut PgConnection {
        // As in `open`.
        let Some(transaction) = &mut self.0 else { unreachable!("it is open until its commit is sent") };
        transaction
    }
}

impl Session for SqlxTransaction {
    async fn complete(&mut self, sql: &Sql, completion: &EncodedCompletion<'_>) -> Result<bool, StoreError> {
        let is_written = self.open_mut().complete(sql, completion).await?;
        // With a savepoint still open, sqlx would release the savepoint in place of committing.
        if is_written && depth(self.open()) != 1 {
            return Err(Cause::SavepointOpen.into_store_error(Operation::Complete));
        }
        Ok(is_written)
    }

    async fn current_transaction(&mut self, sql: &Sql) -> Result<CurrentTransaction, StoreError> {
        self.open_mut().current_transaction(sql).await
    }
}

impl OpenTransaction for SqlxTransaction {
    async fn commit(&mut self) -> Option<Result<(), StoreError>> {
        let committing = self.0.take()?.commit();
        let committed = timeout(COMMIT_TIMEOUT, committing).await.ok()?;
        Some(committed.map_err(|error| store_error(&error)))
    }

    /// sqlx rolls back only the innermost open savepoint. If the transaction is then still open, its session is ended, and
    /// sqlx finds the connection broken.
    async fn roll_back(self, store: &StoreInner, locked: LockedRecord) -> bool {
        let Some(transaction) = self.0 else { return false };
        let is_outermost = depth(&transaction) == 1;
        let rolled_back = timeout(ROLLBACK_TIMEOUT, transaction.rollback()).await;
        terminate_session(store, locked).await;
        is_outermost && matches!(rolled_back, Ok(Ok(())))
    }
}

impl Session for PgConnection {
    async fn complete(&mut self, sql: &Sql, completion: &EncodedCompletion<'_>) -> Result<bool, StoreError> {
        let retention = PgInterval { months: 0, days: 0, microseconds: completion.retention.0 };
        let query = bind(&sql.complete.sql, completion).bind(retention).bind(completion.transaction);
        Ok(fetch(self, query).await?.is_some())
    }

    async fn current_transaction(&mut self, sql: &Sql) -> Result<CurrentTransaction, StoreError> {
        let columns = |row: &PgRow| {
            Some(CurrentTransaction { number: row.try_get(0).ok()?, isolation_level: row.try_get(1).ok()? })
        };
        let row = fetch(self, statement(&sql.current_transaction.sql)).await?;
        row.as_ref().and_then(columns).ok_or_else(|| unreadable(RowError::Malformed("transaction")))
    }
}

impl CallerSession for PgConnection {
    async fn why_not_completed(
        &mut self,
        sql: &Sql,
        completion: &EncodedCompletion<'_>,
    ) -> Result<Option<UncompletedRow>, StoreError> {
        let columns = |row: &PgRow| -> Result<UncompletedRow, sqlx::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
        };
        let row = fetch(self, bind(&sql.why_not_completed.sql, completion)).await?;
        row.as_ref().map(columns).transpose().map_err(|_| unreadable(RowError::Malformed("record")))
    }
}

/// How many transactions are open on a connection, including savepoints. sqlx exports the trait that counts them only from
/// sqlx-core.
fn depth(connection: &PgConnection) -> usize {
    <<Postgres as sqlx::Database>::TransactionManager as TransactionManager>::get_transaction_depth(
        connection,
    )
}

/// Unnamed, because a pooler may be between sqlx's pool and the server.
fn statement(sql: &str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false)
}

/// Binds the parameters that `sql/complete.sql` and `sql/why_not_completed.sql` have in common.
fn bind(sql: &str, completion: &EncodedCompletion<'_>) -> Query<'static, Postgres, PgArguments> {
    statement(sql)
        .bind(completion.digest.0.to_vec())
        .bind(completion.owner.0.to_vec())
        .bind(completion.state)
        .bind(completion.codec)
        .bind(completion.schema)
        .bind(completion.body.map(<[u8]>::to_vec))
}

async fn fetch(
    connection: &mut PgConnection,
    query: Query<'static, Postgres, PgArguments>,
) -> Result<Option<PgRow>, StoreError> {
    connection.fetch_optional(query).await.map_err(not_applied)
}

fn lock_row(row: &PgRow) -> Result<LockRow, sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
}

/// The error of a statement in a transaction whose COMMIT was not sent: it had no effect, because the transaction can only
/// be rolled back.
#[allow(clippy::needless_pass_by_value, reason = "`map_err` passes it by value")]
fn not_applied(error: sqlx::Error) -> StoreError {
    let mut error = store_error(&error);
    error.effect = Effect::NotApplied;
    error
}

fn store_error(error: &sqlx::Error) -> StoreError {
    let failed = |kind, effect| StoreError::new(kind, effect, Operation::Complete);
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => {
                let error = ServerError {
                    severity: format!("{:?}", error.severity()).to_uppercase(),
                    code: error.code().to_owned(),
                    message: error.message().to_owned(),
                    is_fatal: matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic),
                };
                // The caller asked for a read-only transaction.
                let kind = if error.code == "25006" { StoreErrorKind::Misconfigured } else { error.kind() };
                failed(kind, error.effect()).with_source(error)
            }
            None => failed(StoreErrorKind::Internal, Effect::Unknown),
        },
        sqlx::Error::PoolTimedOut => Cause::PoolExhausted.into_store_error(Operation::Complete),
        sqlx::Error::PoolClosed => Cause::PoolClosed.into_store_error(Operation::Complete),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            failed(StoreErrorKind::Unavailable, Effect::Unknown).with_source(error.to_string())
        }
        // The message may contain the connection string.
        sqlx::Error::Configuration(_) => failed(StoreErrorKind::Misconfigured, Effect::NotApplied)
            .with_source("sqlx could not use its connection settings"),
        _ => failed(StoreErrorKind::Internal, Effect::Unknown).with_source(error.to_string()),
    }
}
