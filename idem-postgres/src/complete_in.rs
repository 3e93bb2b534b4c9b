//! [`PostgresStore::complete_in`]: completion inside a transaction that the caller has begun and will commit.

use idem_core::{CompleteOutcome, Completion, Key, Operation, OwnerToken, StoreError};
use tokio_postgres::types::Type;
use tokio_postgres::{Row, Transaction};

use crate::PostgresStore;
use crate::connection::Parameter;
use crate::error::{Cause, Failure};
use crate::lock;
use crate::patience::Patience;
use crate::row::RowError;
use crate::statement::Statement;
use crate::store::{Inner, WrittenCompletion, check_answer};

impl PostgresStore {
    /// Writes the completion of an owner's key inside of a transaction of the caller's, which commits it together with its
    /// effect. For those who cannot hand their transaction over; all others take
    /// [`begin_transaction`](crate::ReservationExt::begin_transaction), which cannot be committed without this.
    ///
    /// The tables have to be in the database of that transaction.
    ///
    /// - `Completed`: written by *this* transaction. Commit it, and then tell the reservation
    ///   ([`Reservation::committed`](idem_core::Reservation::committed)). If the commit fails, or nobody can say whether it
    ///   did, drop the reservation, or reserve again with its token: `Stale` says that it was committed.
    /// - In a savepoint it is undone with that: let the effect be in the same one, or this in the outermost transaction.
    /// - `AlreadyCompleted`, `ResponseConflict`, `Lost`: nothing was written. *Roll back*: the effect is another's to have.
    /// - From here until its end the transaction has the record locked. At `READ COMMITTED`, wait with this for the end,
    ///   and the lease is renewed until then. At `REPEATABLE READ` and `SERIALIZABLE` begin the transaction after the
    ///   reservation, and call this early: a renewal in between is a serialization failure (`40001`, `Unavailable`), after
    ///   which the whole transaction is to be run again.
    /// - In a transaction that is read-only, or failed before, this is refused as `Misconfigured`; by a statement or lock
    ///   timeout it fails as `Timeout`. All of its errors are without effect, and leave nothing but to roll back.
    pub async fn complete_in(
        &self,
        transaction: &mut Transaction<'_>,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        completion.check()?;
        check_answer(&completion.answer, self.inner.options.max_answer_bytes)?;
        complete(&self.inner, transaction, key, owner, completion).await.map_err(Failure::in_transaction)
    }
}

async fn complete(
    inner: &Inner,
    transaction: &mut Transaction<'_>,
    key: &Key,
    owner: OwnerToken,
    completion: Completion,
) -> Result<CompleteOutcome, Failure> {
    let written = WrittenCompletion::new(key, owner, &completion, None);
    let mut patience = Patience::default();
    loop {
        if !run(transaction, &inner.sql.complete, &written.parameters()).await?.is_empty() {
            return Ok(CompleteOutcome::Completed);
        }
        let Some(row) = run(transaction, &inner.sql.uncompleted, &written.parameters()[..6]).await?.pop()
        else {
            if is_read_committed(inner, transaction).await? {
                return Ok(CompleteOutcome::Lost);
            }
            return Err(Failure::Store(Cause::OldSnapshot.of(Operation::Complete)));
        };
        let columns = || {
            Ok::<_, tokio_postgres::Error>((
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
            ))
        };
        let columns = columns().map_err(|_| RowError::Malformed("record"))?;
        if let Some(outcome) = lock::uncompleted(columns)? {
            return Ok(outcome);
        }
        if !patience.wait().await {
            return Err(Failure::Store(Cause::Contended.of(Operation::Complete)));
        }
    }
}

/// Unnamed: nobody knows what the caller's connection goes through.
async fn run(
    transaction: &mut Transaction<'_>,
    statement: &Statement,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Failure> {
    let typed: Vec<(Parameter<'_>, Type)> =
        parameters.iter().copied().zip(statement.types.iter().cloned()).collect();
    transaction.query_typed(&statement.sql, &typed).await.map_err(Failure::sent)
}

async fn is_read_committed(inner: &Inner, transaction: &mut Transaction<'_>) -> Result<bool, Failure> {
    let row = run(transaction, &inner.sql.transaction, &[]).await?.pop();
    let level = row.as_ref().and_then(|row| row.try_get::<_, &str>(1).ok());
    level
        .map(|level| matches!(level, "read committed" | "read uncommitted"))
        .ok_or(Failure::Row(RowError::Malformed("transaction_isolation")))
}
