//! [`PostgresStore::complete_in`]: completion in a transaction that the caller began and will commit.

use idem_core::store::{Completion, OwnerToken};
use idem_core::{CompleteOutcome, Key, Operation, StoreError};
use tokio_postgres::{Row, Transaction};

use super::session::{CallerSession, Query, UncompletedRow, uncompleted, unreadable};
use crate::error::{Cause, Failure};
use crate::record::{EncodedCompletion, RowError};
use crate::sql::{Parameter, Sql, Statement};
use crate::store::{PostgresStore, Retries, StoreInner};

impl PostgresStore {
    /// Writes the completion of a key in a transaction of the caller, whose commit then makes both the effect and the
    /// completion visible.
    ///
    /// Use it where you cannot hand over the transaction. Otherwise use
    /// [`begin_transaction`](crate::ReservationExt::begin_transaction), whose transaction cannot be committed without its
    /// completion. The tables must be in the database of the transaction. A reservation's token is
    /// [`idem_core::backend::owner`].
    ///
    /// - `Completed`: *this* transaction wrote it. Commit, and then call [`idem_core::backend::mark_committed`]. If the commit
    ///   fails or its outcome is unknown, drop the reservation, or reserve again with its token: `Stale` means that it was
    ///   committed.
    /// - `AlreadyCompleted`, `AnswerConflict`, `Lost`: nothing was written. *Roll back*: the effect belongs to another run.
    /// - After a savepoint, rolling back to the savepoint undoes the completion. Make the effect after the same savepoint, or
    ///   call this outside of savepoints.
    /// - From this call on the transaction locks the record. At `READ COMMITTED` call it last, and the lease is renewed until
    ///   then. At `REPEATABLE READ` and `SERIALIZABLE` begin the transaction after the reservation and call this early: a
    ///   renewal in between is a serialization failure (`40001`, `Unavailable`), after which the whole transaction has to be
    ///   run again.
    /// - A transaction that is read-only or has failed is refused as `Misconfigured`. A statement timeout or lock timeout is a
    ///   `Timeout`. Every error is without effect; roll back after it.
    pub async fn complete_in(
        &self,
        transaction: &mut Transaction<'_>,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        complete_in(&self.inner, transaction, key, owner, completion).await
    }
}

/// The same for both drivers.
pub(super) async fn complete_in(
    store: &StoreInner,
    session: &mut impl CallerSession,
    key: &Key,
    owner: OwnerToken,
    completion: Completion,
) -> Result<CompleteOutcome, StoreError> {
    completion.check(store.options.max_answer_bytes)?;
    let completion = EncodedCompletion::new(key, owner, &completion, None);
    let mut retries = Retries::new();
    loop {
        if session.complete(&store.sql, &completion).await? {
            return Ok(CompleteOutcome::Completed);
        }
        let Some(columns) = session.why_not_completed(&store.sql, &completion).await? else {
            return match &*session.current_transaction(&store.sql).await?.isolation_level {
                "read committed" | "read uncommitted" => Ok(CompleteOutcome::Lost),
                _ => Err(Cause::OldSnapshot.into_store_error(Operation::Complete)),
            };
        };
        if let Some(outcome) = uncompleted(columns).map_err(unreadable)? {
            return Ok(outcome);
        }
        if !retries.wait().await {
            return Err(Cause::Contended.into_store_error(Operation::Complete));
        }
    }
}

impl Query for Transaction<'_> {
    /// Sends it unnamed, because a pooler may be between the caller's connection and the server.
    async fn query(&self, statement: &Statement, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        let parameters = statement.with_types(parameters);
        self.query_typed(&statement.sql, &parameters).await.map_err(Failure::Sent)
    }
}

impl CallerSession for Transaction<'_> {
    async fn why_not_completed(
        &mut self,
        sql: &Sql,
        completion: &EncodedCompletion<'_>,
    ) -> Result<Option<UncompletedRow>, StoreError> {
        let columns = |row: &Row| -> Result<UncompletedRow, tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
        };
        let rows = Query::query(self, &sql.why_not_completed, &completion.parameters_of_query()).await;
        let row = rows.map_err(Failure::in_transaction)?.pop();
        row.as_ref().map(columns).transpose().map_err(|_| unreadable(RowError::Malformed("record")))
    }
}
