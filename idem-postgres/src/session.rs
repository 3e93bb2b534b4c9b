//! [`Session`]: the statements of a completion on a connection of either driver, and what is told from their rows.
//!
//! tokio-postgres is here; sqlx is in `sqlx`.

use idem_core::store::{Completion, OwnerToken};
use idem_core::{CompleteOutcome, Key, Operation, StoreError};
use tokio_postgres::types::Type;
use tokio_postgres::{Row, Transaction};

use crate::connection::{InTransaction, Parameter};
use crate::error::{Cause, Failure};
use crate::lock::{self, UncompletedRow};
use crate::patience::Patience;
use crate::row::RowError;
use crate::statement::{SqlTexts, Statement};
use crate::store::{Inner, WrittenCompletion, check_answer};

/// A connection on which a transaction is open. Its errors are without effect, since the transaction can only be rolled back
/// after one.
pub(crate) trait Session: Send {
    /// `sql/complete.sql`: whether the completion was written.
    fn complete(
        &mut self,
        sql: &SqlTexts,
        written: &WrittenCompletion<'_>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// `sql/transaction.sql`: the transaction's number, if it has one, and its isolation level.
    fn transaction(
        &mut self,
        sql: &SqlTexts,
    ) -> impl Future<Output = Result<(Option<i64>, String), StoreError>> + Send;
}

/// One that its caller has begun, perhaps before the key was reserved.
pub(crate) trait CallersSession: Session {
    /// `sql/uncompleted.sql`: why the completion was not written. `None`: there is no record that this transaction could see.
    fn uncompleted(
        &mut self,
        sql: &SqlTexts,
        written: &WrittenCompletion<'_>,
    ) -> impl Future<Output = Result<Option<UncompletedRow>, StoreError>> + Send;
}

/// Writes a completion in a transaction of the caller's.
pub(crate) async fn complete_in(
    store: &Inner,
    session: &mut impl CallersSession,
    key: &Key,
    owner: OwnerToken,
    completion: Completion,
) -> Result<CompleteOutcome, StoreError> {
    check_answer(&completion.answer, store.options.max_answer_bytes)?;
    let written = WrittenCompletion::new(key, owner, &completion, None);
    let mut patience = Patience::default();
    loop {
        if session.complete(&store.sql, &written).await? {
            return Ok(CompleteOutcome::Completed);
        }
        let Some(columns) = session.uncompleted(&store.sql, &written).await? else {
            let (_, level) = session.transaction(&store.sql).await?;
            return match &*level {
                "read committed" | "read uncommitted" => Ok(CompleteOutcome::Lost),
                _ => Err(Cause::OldSnapshot.of(Operation::Complete)),
            };
        };
        if let Some(outcome) = lock::uncompleted(columns).map_err(unreadable)? {
            return Ok(outcome);
        }
        if !patience.wait().await {
            return Err(Cause::Contended.of(Operation::Complete));
        }
    }
}

/// The error of a row that is not as it should be.
pub(crate) fn unreadable(error: RowError) -> StoreError {
    Failure::Row(error).of(Operation::Complete)
}

/// The store's own.
impl Session for InTransaction {
    async fn complete(
        &mut self,
        sql: &SqlTexts,
        written: &WrittenCompletion<'_>,
    ) -> Result<bool, StoreError> {
        was_written(self.query(&sql.complete, &written.parameters()).await)
    }

    async fn transaction(&mut self, sql: &SqlTexts) -> Result<(Option<i64>, String), StoreError> {
        transaction(self.query(&sql.transaction, &[]).await)
    }
}

/// A caller's.
impl Session for Transaction<'_> {
    async fn complete(
        &mut self,
        sql: &SqlTexts,
        written: &WrittenCompletion<'_>,
    ) -> Result<bool, StoreError> {
        was_written(run(self, &sql.complete, &written.parameters()).await)
    }

    async fn transaction(&mut self, sql: &SqlTexts) -> Result<(Option<i64>, String), StoreError> {
        transaction(run(self, &sql.transaction, &[]).await)
    }
}

impl CallersSession for Transaction<'_> {
    async fn uncompleted(
        &mut self,
        sql: &SqlTexts,
        written: &WrittenCompletion<'_>,
    ) -> Result<Option<UncompletedRow>, StoreError> {
        let columns = |row: &Row| -> Result<UncompletedRow, tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
        };
        let rows = run(self, &sql.uncompleted, &written.parameters()[..6]).await;
        let row = rows.map_err(Failure::in_transaction)?.pop();
        row.as_ref().map(columns).transpose().map_err(|_| unreadable(RowError::Malformed("record")))
    }
}

/// Unnamed: nobody knows what the caller's connection goes through.
async fn run(
    transaction: &Transaction<'_>,
    statement: &Statement,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Failure> {
    let typed: Vec<(Parameter<'_>, Type)> =
        parameters.iter().copied().zip(statement.types.iter().cloned()).collect();
    transaction.query_typed(&statement.sql, &typed).await.map_err(Failure::sent)
}

fn was_written(rows: Result<Vec<Row>, Failure>) -> Result<bool, StoreError> {
    Ok(!rows.map_err(Failure::in_transaction)?.is_empty())
}

fn transaction(rows: Result<Vec<Row>, Failure>) -> Result<(Option<i64>, String), StoreError> {
    let columns = |row: &Row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?));
    let row = rows.map_err(Failure::in_transaction)?.pop();
    row.as_ref().and_then(columns).ok_or_else(|| unreadable(RowError::Malformed("transaction")))
}
