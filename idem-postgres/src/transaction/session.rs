//! [`Session`]: the statements of a completion on a connection of either driver, and the meaning of their rows.

use idem_core::{CompleteOutcome, Operation, StoreError};
use tokio_postgres::Row;

use super::error::TransactionError;
use crate::connection::TransactionConnection;
use crate::error::Failure;
use crate::record::{EncodedCompletion, RowError, VERSION, state};
use crate::sql::{Parameter, Sql, Statement};

/// A connection with an open transaction. Its errors are without effect, because after an error the transaction can only be
/// rolled back.
pub(super) trait Session: Send {
    /// Sends `sql/complete.sql`, and says whether the completion was written.
    fn complete(
        &mut self,
        sql: &Sql,
        completion: &EncodedCompletion<'_>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Sends `sql/current_transaction.sql`.
    fn current_transaction(
        &mut self,
        sql: &Sql,
    ) -> impl Future<Output = Result<CurrentTransaction, StoreError>> + Send;
}

/// A session whose transaction the caller began, perhaps before the key was reserved.
pub(super) trait CallerSession: Session {
    /// Sends `sql/why_not_completed.sql`. `None`: there is no record that this transaction can see.
    fn why_not_completed(
        &mut self,
        sql: &Sql,
        completion: &EncodedCompletion<'_>,
    ) -> impl Future<Output = Result<Option<UncompletedRow>, StoreError>> + Send;
}

/// The transaction that a session is in.
pub(super) struct CurrentTransaction {
    /// `None` if it has neither written nor locked anything.
    pub(super) number: Option<i64>,
    pub(super) isolation_level: String,
}

/// A connection of tokio-postgres with an open transaction.
pub(super) trait Query: Send {
    fn query(
        &self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, Failure>> + Send;
}

impl Query for TransactionConnection {
    async fn query(&self, statement: &Statement, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        self.query(statement, parameters).await
    }
}

impl<Q: Query + Sync> Session for Q {
    async fn complete(&mut self, sql: &Sql, completion: &EncodedCompletion<'_>) -> Result<bool, StoreError> {
        let rows = Query::query(self, &sql.complete, &completion.parameters()).await;
        Ok(!rows.map_err(Failure::in_transaction)?.is_empty())
    }

    async fn current_transaction(&mut self, sql: &Sql) -> Result<CurrentTransaction, StoreError> {
        let columns = |row: &Row| {
            Some(CurrentTransaction { number: row.try_get(0).ok()?, isolation_level: row.try_get(1).ok()? })
        };
        let row =
            Query::query(self, &sql.current_transaction, &[]).await.map_err(Failure::in_transaction)?.pop();
        row.as_ref().and_then(columns).ok_or_else(|| unreadable(RowError::Malformed("transaction")))
    }
}

/// The error of a row that cannot be decoded.
pub(super) fn unreadable(error: RowError) -> StoreError {
    Failure::Row(error).into_store_error(Operation::Complete)
}

/// A locked record that is in flight and belongs to this owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LockedRecord {
    /// The transaction that holds the lock.
    pub(super) transaction: i64,
    /// The server process that runs it.
    pub(super) backend: i32,
}

/// The columns of `sql/lock_record.sql`.
pub(super) type LockRow = (Option<i64>, i32, i16, i8, bool);

impl LockedRecord {
    /// The lock, or why this owner cannot complete the key.
    pub(super) fn decode(rows: &[Row]) -> Result<Result<Self, TransactionError>, RowError> {
        let columns = |row: &Row| -> Result<LockRow, tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
        };
        let row = rows.first().map(columns).transpose().map_err(|_| RowError::Malformed("record"))?;
        Self::from_columns(row)
    }

    pub(super) fn from_columns(row: Option<LockRow>) -> Result<Result<Self, TransactionError>, RowError> {
        let Some((transaction, backend, version, state, is_expired)) = row else {
            return Ok(Err(TransactionError::Lost));
        };
        if version != VERSION {
            return Err(RowError::of_version(version));
        }
        Ok(match state {
            // Also if the answer has expired: it was this owner's.
            state::COMPLETED | state::NOT_KEPT => Err(TransactionError::AlreadyCompleted),
            _ if is_expired => Err(TransactionError::Lost),
            state::IN_FLIGHT | state::ABANDONED => {
                // A transaction that holds a lock has a number.
                let transaction = transaction.ok_or(RowError::Malformed("transaction"))?;
                Ok(Self { transaction, backend })
            }
            state::RELEASED => Err(TransactionError::Lost),
            _ => return Err(RowError::Malformed("state")),
        })
    }
}

/// The columns of `sql/why_not_completed.sql`.
pub(super) type UncompletedRow = (i16, bool, i8, bool, Option<bool>);

/// The outcome of a completion that was not written. `None`: it can be written by now.
pub(super) fn uncompleted(
    (version, is_owner, state, is_expired, is_same): UncompletedRow,
) -> Result<Option<CompleteOutcome>, RowError> {
    if is_expired {
        return Ok(Some(CompleteOutcome::Lost));
    }
    if version != VERSION {
        return Err(RowError::of_version(version));
    }
    Ok(match state {
        _ if !is_owner => Some(CompleteOutcome::Lost),
        state::IN_FLIGHT | state::ABANDONED => None,
        state::COMPLETED | state::NOT_KEPT if is_same == Some(true) => {
            Some(CompleteOutcome::AlreadyCompleted)
        }
        state::COMPLETED | state::NOT_KEPT => Some(CompleteOutcome::AnswerConflict),
        state::RELEASED => Some(CompleteOutcome::Lost),
        _ => return Err(RowError::Malformed("state")),
    })
}
