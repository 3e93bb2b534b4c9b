//! Transactional completion: an effect in the same database, committed together with its completion (promise P6).
//!
//! INV-1: a [`Transaction`] cannot be committed without its completion: nothing in its public API ends it but
//! [`complete`](Transaction::complete), [`rollback`](Transaction::rollback) and its drop. (SQL of the user's can; that is
//! detected, and said.)
//! INV-2: a connection in whose transaction something is not known to be over never goes back into the pool.

use idem_core::backend;
use std::ops::Deref;
use std::sync::Arc;

use idem_core::{Answer, Operation, Reservation, StoreError};
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::{Client, IsolationLevel};

use crate::PostgresStore;
use crate::binary::Binary;
use crate::connection::{End, InTransaction, Parameter};
use crate::ending::{COMMIT_TIMEOUT, LOCK_TIMEOUT, ROLLBACK_TIMEOUT, locked, longest_idle, terminate};
use crate::error::{Cause, Failure};
use crate::lock::Locked;
use crate::owned::{Open, Owned};
use crate::store::Inner;

/// What Postgres adds to a [`Reservation`].
pub trait ReservationExt: Sized + sealed::Sealed {
    /// Begins a transaction in which the reserved key will be completed: the effect and its completion are committed
    /// together, or neither. The reservation has to be of an engine on this very store.
    ///
    /// The record is locked from here on, so that nobody takes the key over, even past its lease, and its heartbeat
    /// pauses. If the process vanishes, or does nothing for
    /// [`idle_in_transaction_timeout`](crate::Options::idle_in_transaction_timeout), the server rolls back and the key is
    /// free once its lease is over. A server that cannot look for its client while it runs a statement (before
    /// Postgres 14, or on Windows) notices when that statement ends.
    ///
    /// Fails as [`Lost`](TransactionError::Lost) or [`AlreadyCompleted`](TransactionError::AlreadyCompleted) if the key is
    /// not (any more) the reservation's to complete. If the store failed, nothing has happened, and the key is released.
    ///
    /// ```no_run
    /// # async fn example(store: idem_postgres::PostgresStore, engine: idem_core::Engine)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// use idem_core::{Admission, Fingerprint, Key, StoredValue};
    /// use idem_postgres::ReservationExt;
    ///
    /// let (key, payload) = (Key::new("payments", "42")?, Fingerprint::from_parts(["100 EUR"]));
    /// if let Admission::Granted(reservation) = engine.reserve(&key, &payload).await? {
    ///     let transaction = reservation.begin_transaction(&store).await?;
    ///     transaction.execute("INSERT INTO payment (cents) VALUES ($1)", &[&10_000_i64]).await?;
    ///     transaction.complete(StoredValue::bytes("paid")).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn begin_transaction(
        self,
        store: &PostgresStore,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send {
        self.begin_transaction_at(store, IsolationLevel::ReadCommitted)
    }

    /// [`begin_transaction`](Self::begin_transaction) at an isolation level. At `RepeatableRead` and `Serializable` the
    /// snapshot is taken when the record is locked.
    fn begin_transaction_at(
        self,
        store: &PostgresStore,
        level: IsolationLevel,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send;
}

mod sealed {
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
            Owned::begun(store, self, begun).map(Transaction)
        }
    }
}

/// Why a transaction was not begun, or not committed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// The key is another owner's by now, or was given up. Nothing was committed.
    #[error("the key is not this owner's any more; nothing was committed")]
    Lost,
    /// This owner has completed the key before. Nothing was committed.
    #[error("the key was completed by this owner before; nothing was committed")]
    AlreadyCompleted,
    /// The transaction was over before it was to be completed: SQL of the caller's ended it, by COMMIT or ROLLBACK. What
    /// was done in it may be committed, and its completion is not; the next attempt is told so by its number.
    #[error(
        "the transaction was ended by a COMMIT or ROLLBACK of its user's, and what was done in it may stand without its \
         completion; end it by `complete` and `rollback` alone"
    )]
    Ended,
    /// The store failed. If the error's [`effect`](StoreError::effect) is `NotApplied`, it was not committed, and the key is
    /// free: released if the server says that everything was rolled back, and abandoned if it cannot be asked. If it is
    /// `Unknown`, nobody could learn whether it was committed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An open transaction in which a reserved key will be completed. It dereferences to the
/// [`tokio_postgres::Client`] that it runs on, for the statements of the effect.
///
/// - [`complete`](Self::complete) is the only way to commit it.
/// - Dropped, it is rolled back, and its key abandoned, as a [`Reservation`] is; [`rollback`](Self::rollback) gives that
///   back instead.
/// - `COMMIT`, `ROLLBACK` or `PREPARE TRANSACTION` as SQL text cannot be kept from it. `complete` notices
///   ([`Ended`](TransactionError::Ended)) and abandons the key. Savepoints are fine.
/// - Its connection goes back into the store's pool: settings are made with `SET LOCAL`, since what `SET` or `SET ROLE`
///   leave behind would be the store's from then on.
#[must_use = "a transaction that is dropped is rolled back"]
#[derive(Debug)]
pub struct Transaction(Owned<InTransaction>);

impl Transaction {
    /// The reservation that it completes.
    ///
    /// # Panics
    ///
    /// Never: it is there until the transaction is moved into one of its ends.
    pub fn reservation(&self) -> &Reservation {
        self.0.reservation()
    }

    /// Writes the completion, commits, and finishes the reservation. `Ok` means that both the effect and its completion
    /// are committed.
    ///
    /// A commit whose reply is lost is resolved: the record says what became of it. An error whose effect is
    /// [`Unknown`](idem_core::Effect::Unknown) remains only if the server cannot be asked before
    /// [`idle_in_transaction_timeout`](crate::Options::idle_in_transaction_timeout) has passed.
    ///
    /// From the call on it is decided: if the future is dropped, even unpolled, it goes on in the background.
    #[must_use = "await it to learn whether it was committed"]
    pub fn complete(
        self,
        answer: impl Into<Answer>,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send {
        self.0.complete(answer.into())
    }

    /// Rolls back, and gives the reservation back: to be released, or to begin anew. What a `COMMIT` of the caller's own
    /// SQL has committed stays, and is not looked for.
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

impl Open for InTransaction {
    async fn commit(&mut self) -> Option<Result<(), StoreError>> {
        let committed = self.commit_within(COMMIT_TIMEOUT).await;
        committed.map(|committed| committed.map_err(|failure| failure.of(Operation::Complete)))
    }

    async fn roll_back(mut self, store: &Inner, locked: Locked) -> bool {
        match self.end("ROLLBACK", ROLLBACK_TIMEOUT).await {
            End::Said => true,
            // By its commit, which nobody may end.
            End::Before => false,
            End::Unsaid => {
                drop(self);
                terminate(store, locked).await;
                false
            }
        }
    }
}

async fn begin(
    store: &Inner,
    reservation: &Reservation,
    level: IsolationLevel,
) -> Result<(InTransaction, Locked), TransactionError> {
    let failed = |failure: Failure| TransactionError::Store(failure.in_transaction());
    let mut connection =
        InTransaction::take(&store.pool, store.options.statements, store.options.pool_timeout)
            .await
            .map_err(failed)?;
    let begin = format!("BEGIN ISOLATION LEVEL {}; {}", sql_of(level), limits(store));
    let (digest, owner) =
        (Binary::digest(reservation.key()), Binary(*backend::owner(reservation).as_bytes()));
    let parameters: [Parameter<'_>; 2] = [&digest, &owner];
    // A standby refuses that level.
    let can_fail = matches!(level, IsolationLevel::Serializable);
    let locking = connection.begin((&begin, can_fail), &store.sql.lock, &parameters);
    let rows = match timeout(LOCK_TIMEOUT, locking).await {
        Ok(rows) => rows.map_err(failed)?,
        Err(_elapsed) => return Err(TransactionError::Store(Cause::Contended.of(Operation::Complete))),
    };
    match locked(&rows).map_err(|error| failed(error.into()))? {
        Ok(locked) => Ok((connection, locked)),
        Err(ended) => {
            connection.end("ROLLBACK", ROLLBACK_TIMEOUT).await;
            Err(ended)
        }
    }
}

/// What frees the key of a client that has vanished, between two statements and within one. These settings end with the
/// transaction.
pub(crate) fn limits(store: &Inner) -> String {
    let idle = format!("SET LOCAL idle_in_transaction_session_timeout = {}", longest_idle(store).as_millis());
    match store.notices_clients.get() {
        Some(true) => format!("{idle}; SET LOCAL client_connection_check_interval = 1000"),
        _ => idle,
    }
}

fn sql_of(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::RepeatableRead => "REPEATABLE READ",
        IsolationLevel::Serializable => "SERIALIZABLE",
        // Postgres does the same at both.
        _ => "READ COMMITTED",
    }
}
