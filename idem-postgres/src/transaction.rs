//! Transactional completion: an effect in the same database, committed together with its completion (promise P6).
//!
//! INV-1: a [`Transaction`] cannot be committed without its completion: nothing in its public API ends it but
//! [`complete`](Transaction::complete), [`rollback`](Transaction::rollback) and its drop. (SQL of the user's can; that is
//! detected, and said.)
//! INV-2: a connection in whose transaction something is not known to be over never goes back into the pool.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use idem_core::{Answer, Completion, Effect, Operation, Reservation, StoreError, StoreErrorKind};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::{Client, IsolationLevel};

use crate::PostgresStore;
use crate::binary::Binary;
use crate::connection::{InTransaction, Parameter};
use crate::ending::{
    COMMIT_TIMEOUT, LOCK_TIMEOUT, ROLLBACK_TIMEOUT, give_back, locked, longest_idle, resolve, roll_back,
    settle, unknown,
};
use crate::error::{Cause, Failure};
use crate::guards::Guard;
use crate::lock::Locked;
use crate::store::{Inner, WrittenCompletion, check_answer};

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
    /// use idem_core::{Admission, Fingerprint, Key, Response};
    /// use idem_postgres::ReservationExt;
    ///
    /// let (key, payload) = (Key::new("payments", "42")?, Fingerprint::of(["100 EUR"]));
    /// if let Admission::Granted(reservation) = engine.reserve(&key, &payload).await? {
    ///     let transaction = reservation.begin_transaction(&store).await?;
    ///     transaction.execute("INSERT INTO payment (cents) VALUES ($1)", &[&10_000_i64]).await?;
    ///     transaction.complete(Response::bytes("paid")).await?;
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
            match begin(&store, &self, level).await {
                Ok(opened) => Ok(Transaction::new(store, self, opened)),
                Err(error) => {
                    if let TransactionError::Store(_) = &error {
                        give_back(self);
                    }
                    Err(error)
                }
            }
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
pub struct Transaction {
    /// Taken by the end of it.
    open: Option<Open>,
    runtime: Handle,
}

struct Open {
    connection: InTransaction,
    locked: Locked,
    reservation: Reservation,
    store: Arc<Inner>,
    /// While this is there, the heartbeat pauses.
    guard: Guard,
}

impl Transaction {
    fn new(
        store: Arc<Inner>,
        reservation: Reservation,
        (connection, locked): (InTransaction, Locked),
    ) -> Self {
        let guard = store.guards.hold(reservation.key(), reservation.owner());
        let open = Open { connection, locked, reservation, store, guard };
        Self { open: Some(open), runtime: Handle::current() }
    }

    /// The reservation that it completes.
    ///
    /// # Panics
    ///
    /// Never: it is there until the transaction is moved into one of its ends.
    pub fn reservation(&self) -> &Reservation {
        &self.open().reservation
    }

    /// Writes the completion, commits, and finishes the reservation. `Ok` means that both the effect and its completion
    /// are committed.
    ///
    /// A commit whose reply is lost is resolved: the record says what became of it. An error whose effect is
    /// [`Unknown`](Effect::Unknown) remains only if the server cannot be asked before
    /// [`idle_in_transaction_timeout`](crate::Options::idle_in_transaction_timeout) has passed.
    ///
    /// From the call on it is decided: if the future is dropped, even unpolled, it goes on in the background.
    #[must_use = "await it to learn whether it was committed"]
    pub fn complete(
        mut self,
        answer: impl Into<Answer>,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send {
        let answer = answer.into();
        let completing = self.open.take().map(|open| self.runtime.spawn(open.complete(answer)));
        async move {
            match completing {
                Some(completing) => match completing.await {
                    Ok(result) => result,
                    // The runtime is shutting down.
                    Err(gone) => Err(unknown(StoreErrorKind::Unavailable).with_source(gone).into()),
                },
                None => Err(TransactionError::Ended),
            }
        }
    }

    /// Rolls back, and gives the reservation back: to be released, or to begin anew. What a `COMMIT` of the caller's own
    /// SQL has committed stays, and is not looked for.
    pub async fn rollback(mut self) -> Reservation {
        // It is there until one of the two ends takes it, and each of them takes the transaction itself.
        let Some(open) = self.open.take() else { unreachable!("a transaction ends once") };
        let Open { connection, locked, reservation, store, guard } = open;
        // To its end, whatever becomes of the caller: it goes on in a task of its own.
        let rolled_back = self.runtime.spawn(async move {
            roll_back(&store, connection, locked).await;
            drop(guard);
        });
        let _ = rolled_back.await;
        reservation
    }

    fn open(&self) -> &Open {
        let Some(open) = &self.open else {
            unreachable!("a transaction that has ended is not there any more")
        };
        open
    }
}

impl Deref for Transaction {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.open().connection.client()
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(Open { connection, locked, reservation, store, guard }) = self.open.take() else { return };
        self.runtime.spawn(async move {
            roll_back(&store, connection, locked).await;
            drop(guard);
            // Only now: its abandoning would have waited for the lock.
            drop(reservation);
        });
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("reservation", &self.open.as_ref().map(|open| &open.reservation))
            .finish_non_exhaustive()
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
    let (digest, owner) = (Binary::digest(reservation.key()), Binary(*reservation.owner().as_bytes()));
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

impl Open {
    async fn complete(mut self, answer: Answer) -> Result<(), TransactionError> {
        match self.write_and_commit(&answer).await {
            Ok(()) => {
                drop(self.guard);
                self.reservation.committed(&answer);
                Ok(())
            }
            Err(error) => {
                let is_same_server = roll_back(&self.store, self.connection, self.locked).await;
                drop(self.guard);
                Err(settle(&self.store, self.locked, is_same_server, self.reservation, error).await)
            }
        }
    }

    /// The completion is the last statement of the transaction, and waits for all that were sent before it.
    async fn write_and_commit(&mut self, answer: &Answer) -> Result<(), TransactionError> {
        let within = longest_idle(&self.store);
        match timeout(within, self.write(answer)).await {
            Ok(written) => written?,
            Err(_elapsed) => return Err(Cause::StatementOpen.of(Operation::Complete).into()),
        }
        let error = match self.connection.commit(COMMIT_TIMEOUT).await {
            Some(Ok(())) => return Ok(()),
            Some(Err(failure)) => failure.of(Operation::Complete),
            None => unknown(StoreErrorKind::Timeout),
        };
        match error.effect {
            Effect::NotApplied => Err(error.into()),
            Effect::Unknown => resolve(&self.store, &self.reservation, self.locked, error).await,
        }
    }

    async fn write(&mut self, answer: &Answer) -> Result<(), TransactionError> {
        let completion = Completion::new(answer.clone(), self.reservation.retention());
        check_answer(answer, self.store.options.max_answer_bytes)?;
        let failed = |failure: Failure| TransactionError::Store(failure.in_transaction());

        let (key, owner) = (self.reservation.key(), self.reservation.owner());
        let written = WrittenCompletion::new(key, owner, &completion, Some(self.locked.transaction));
        let sql = &self.store.sql;
        let rows = self.connection.query(&sql.complete, &written.parameters()).await.map_err(failed)?;
        if rows.is_empty() {
            let rows = self.connection.query(&sql.transaction, &[]).await.map_err(failed)?;
            let transaction = rows.first().and_then(|row| row.try_get::<_, Option<i64>>(0).ok().flatten());
            // It is ours, so that the record is not: it has expired meanwhile.
            let is_ours = transaction == Some(self.locked.transaction);
            return Err(if is_ours { TransactionError::Lost } else { TransactionError::Ended });
        }
        Ok(())
    }
}
