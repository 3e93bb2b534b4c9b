//! [`Transaction`]: the guard over tokio-postgres, on a connection of the store's pool.

use std::ops::Deref;
use std::sync::Arc;

use idem_core::{Answer, Operation, Reservation, StoreError, backend};
use tokio::time::timeout;
use tokio_postgres::{Client, IsolationLevel};

use super::commit_recovery::terminate_session;
use super::error::TransactionError;
use super::guard::{OpenTransaction, TransactionGuard};
use super::limits::{COMMIT_TIMEOUT, LOCK_TIMEOUT, ROLLBACK_TIMEOUT, settings};
use super::session::LockedRecord;
use crate::connection::{Rollback, TransactionConnection};
use crate::error::{Cause, Failure};
use crate::sql::{Binary, Parameter};
use crate::store::{PostgresStore, StoreInner};

/// Begins transactions for a [`Reservation`].
pub trait ReservationExt: Sized + sealed::Sealed {
    /// Begins a transaction in which the reserved key will be completed: the effect and its completion are committed
    /// together, or neither. The reservation must come from an engine on this store.
    ///
    /// The transaction locks the record until it ends. Nobody takes the key over meanwhile, even after its lease, and its
    /// heartbeat pauses. If the process vanishes, or does nothing for
    /// [`idle_in_transaction_timeout`](crate::PostgresOptions::idle_in_transaction_timeout), the server rolls back, and the
    /// key is free once its lease is over. A server that cannot check for its client during a statement (before Postgres
    /// 14, or on Windows) notices when the statement ends.
    ///
    /// Fails as [`Lost`](TransactionError::Lost) or [`AlreadyCompleted`](TransactionError::AlreadyCompleted) if this owner
    /// cannot complete the key any more. If the store failed, nothing has happened, and the key is released.
    fn begin_transaction(
        self,
        store: &PostgresStore,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send {
        self.begin_transaction_at(store, IsolationLevel::ReadCommitted)
    }

    /// Does the same as [`begin_transaction`](Self::begin_transaction) at another isolation level. At `RepeatableRead` and
    /// `Serializable` the snapshot is taken when the record is locked.
    fn begin_transaction_at(
        self,
        store: &PostgresStore,
        level: IsolationLevel,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send;
}

pub(super) mod sealed {
    pub trait Sealed {}
    impl Sealed for idem_core::Reservation {}
}

impl ReservationExt for Reservation {
    fn begin_transaction_at(
        self,
        store: &PostgresStore,
        level: IsolationLevel,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send {
        let store = Arc::clone(&store.inner);
        async move {
            let begun = begin(&store, &self, level).await;
            TransactionGuard::new(store, self, begun).map(Transaction)
        }
    }
}

/// An open transaction in which a reserved key will be completed.
///
/// It dereferences to the [`tokio_postgres::Client`] that it runs on; use that for the statements of the effect.
///
/// - [`complete`](Self::complete) is the only method that commits it.
/// - Dropped, it is rolled back and its key is abandoned, as with a dropped [`Reservation`]. [`rollback`](Self::rollback)
///   returns the reservation instead.
/// - `COMMIT`, `ROLLBACK` or `PREPARE TRANSACTION` as SQL text cannot be prevented. `complete` detects them, returns
///   [`Ended`](TransactionError::Ended) and abandons the key. Savepoints are allowed.
/// - The connection returns to the store's pool, so use `SET LOCAL` for settings: the effects of `SET` and `SET ROLE` would
///   remain on the connection and change what the store does.
#[must_use = "a transaction that is dropped is rolled back"]
#[derive(Debug)]
pub struct Transaction(TransactionGuard<TransactionConnection>);

impl Transaction {
    /// The reservation that it completes.
    pub fn reservation(&self) -> &Reservation {
        self.0.reservation()
    }

    /// Writes the completion, commits, and settles the reservation. `Ok` means that the effect and its completion are both
    /// committed.
    ///
    /// If the reply to the commit is lost, the record is read to find out what became of it. An error with the effect
    /// [`Unknown`](idem_core::Effect::Unknown) remains only if the server cannot be asked until
    /// [`idle_in_transaction_timeout`](crate::PostgresOptions::idle_in_transaction_timeout) has passed.
    ///
    /// The call starts the completion. If the future is dropped, even unpolled, it continues in the background.
    #[must_use = "await it to learn whether it was committed"]
    pub fn complete(
        self,
        answer: impl Into<Answer>,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send {
        self.0.complete(answer.into())
    }

    /// Rolls back and returns the reservation, which you can release or begin another transaction with. What a `COMMIT` in
    /// your own SQL has committed stays, and is not detected.
    pub async fn rollback(self) -> Reservation {
        self.0.rollback().await
    }
}

impl Deref for Transaction {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.connection().client()
    }
}

impl OpenTransaction for TransactionConnection {
    async fn commit(&mut self) -> Option<Result<(), StoreError>> {
        let committed = self.send_commit(COMMIT_TIMEOUT).await?;
        Some(committed.map_err(|failure| failure.into_store_error(Operation::Complete)))
    }

    async fn roll_back(mut self, store: &StoreInner, locked: LockedRecord) -> bool {
        match self.send_rollback(ROLLBACK_TIMEOUT).await {
            Rollback::Confirmed => true,
            // A COMMIT was sent, and must not be interrupted.
            Rollback::AlreadyEnded => false,
            Rollback::Unconfirmed => {
                drop(self);
                terminate_session(store, locked).await;
                false
            }
        }
    }
}

async fn begin(
    store: &StoreInner,
    reservation: &Reservation,
    level: IsolationLevel,
) -> Result<(TransactionConnection, LockedRecord), TransactionError> {
    let failed = |failure: Failure| TransactionError::Store(failure.in_transaction());
    let mut connection = store.transaction_connection().await.map_err(failed)?;
    let begin = format!("BEGIN ISOLATION LEVEL {}; {}", sql_of(level), settings(store));
    let (digest, owner) = (Binary::from(reservation.key()), Binary::from(backend::owner(reservation)));
    let parameters: [Parameter<'_>; 2] = [&digest, &owner];
    // A standby refuses this level.
    let can_fail = matches!(level, IsolationLevel::Serializable);
    let locking = connection.begin((&begin, can_fail), &store.sql.lock_record, &parameters);
    let rows = match timeout(LOCK_TIMEOUT, locking).await {
        Ok(rows) => rows.map_err(failed)?,
        Err(_elapsed) => return Err(Cause::Contended.into_store_error(Operation::Complete).into()),
    };
    match LockedRecord::decode(&rows).map_err(|error| failed(error.into()))? {
        Ok(locked) => Ok((connection, locked)),
        Err(ended) => {
            connection.send_rollback(ROLLBACK_TIMEOUT).await;
            Err(ended)
        }
    }
}

fn sql_of(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::RepeatableRead => "REPEATABLE READ",
        IsolationLevel::Serializable => "SERIALIZABLE",
        // Postgres treats READ UNCOMMITTED as READ COMMITTED.
        _ => "READ COMMITTED",
    }
}
