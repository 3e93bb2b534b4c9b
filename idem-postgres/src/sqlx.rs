//! Transactional completion over sqlx's connections: the same guard as [`crate::Transaction`], which dereferences to
//! [`PgConnection`].
//!
//! The store itself stays on a pool of its own; only the transactions run on sqlx's. Both have to reach the same database.
//!
//! ```no_run
//! # async fn example(store: idem_postgres::PostgresStore, engine: idem_core::Engine, pool: sqlx::PgPool)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! use idem_core::{Admission, Fingerprint, Key, Response};
//! use idem_postgres::sqlx::ReservationExt;
//!
//! let (key, payload) = (Key::new("payments", "42")?, Fingerprint::of(["100 EUR"]));
//! if let Admission::Granted(reservation) = engine.reserve(&key, &payload).await? {
//!     let mut transaction = reservation.begin_sqlx_transaction(&store, &pool).await?;
//!     sqlx::query("INSERT INTO payment (cents) VALUES ($1)").bind(10_000_i64).execute(&mut *transaction).await?;
//!     transaction.complete(Response::bytes("paid")).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `transaction.begin()` of sqlx's [`Connection`](sqlx::Connection) is a savepoint inside of it, as it should be.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use idem_core::{
    Answer, CompleteOutcome, Completion, Effect, Key, Operation, OwnerToken, Reservation, StoreError,
    StoreErrorKind,
};
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgArguments, PgDatabaseError, PgRow, PgSeverity, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool, Row as _};
use sqlx_core::transaction::TransactionManager;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::ending::{
    COMMIT_TIMEOUT, LOCK_TIMEOUT, ROLLBACK_TIMEOUT, give_back, longest_idle, resolve, settle, terminate,
    unknown,
};
use crate::error::Cause;
use crate::guards::Guard;
use crate::lock::{self, LockRow, Locked, UncompletedRow};
use crate::patience::Patience;
use crate::row::RowError;
use crate::sqlstate::ServerError;
use crate::store::{Inner, WrittenCompletion, check_answer};
use crate::transaction::limits;
use crate::{PostgresStore, TransactionError};

/// What sqlx adds to a [`Reservation`].
pub trait ReservationExt: Sized + sealed::Sealed {
    /// [`begin_transaction`](crate::ReservationExt::begin_transaction) on a connection of sqlx's pool, with the same
    /// promises.
    fn begin_sqlx_transaction(
        self,
        store: &PostgresStore,
        pool: &PgPool,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for idem_core::Reservation {}
}

impl ReservationExt for Reservation {
    fn begin_sqlx_transaction(
        self,
        store: &PostgresStore,
        pool: &PgPool,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send {
        let (store, pool) = (Arc::clone(&store.inner), pool.clone());
        async move {
            // To its end, whatever becomes of the caller: sqlx gives a connection on which a beginning was cancelled back
            // to its pool as it is (its issue 4393).
            let beginning = tokio::spawn(async move {
                match begin(&store, &self, &pool).await {
                    Ok((transaction, locked)) => {
                        let guard = store.guards.hold(self.key(), self.owner());
                        let open = Open { transaction, locked, reservation: self, store, guard };
                        Ok(Transaction { open: Some(open), runtime: Handle::current() })
                    }
                    Err(error) => {
                        if let TransactionError::Store(_) = &error {
                            give_back(self);
                        }
                        Err(error)
                    }
                }
            });
            // The runtime is shutting down: nothing is committed.
            beginning.await.unwrap_or_else(|gone| {
                Err(Cause::PoolClosed.of(Operation::Complete).with_source(gone).into())
            })
        }
    }
}

/// An open transaction in which a reserved key will be completed: [`crate::Transaction`] over sqlx.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction {
    /// Taken by the end of it.
    open: Option<Open>,
    runtime: Handle,
}

struct Open {
    transaction: sqlx::Transaction<'static, Postgres>,
    locked: Locked,
    reservation: Reservation,
    store: Arc<Inner>,
    guard: Guard,
}

impl Transaction {
    /// The reservation that it completes.
    ///
    /// # Panics
    ///
    /// Never: it is there until the transaction is moved into one of its ends.
    pub fn reservation(&self) -> &Reservation {
        &self.open().reservation
    }

    /// Writes the completion, commits, and finishes the reservation: as
    /// [`crate::Transaction::complete`](crate::Transaction::complete).
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

    /// Rolls back, and gives the reservation back: as [`crate::Transaction::rollback`](crate::Transaction::rollback).
    pub async fn rollback(mut self) -> Reservation {
        // It is there until one of the two ends takes it, and each of them takes the transaction itself.
        let Some(open) = self.open.take() else { unreachable!("a transaction ends once") };
        let Open { transaction, locked, reservation, store, guard } = open;
        let rolled_back = self.runtime.spawn(async move {
            roll_back(&store, transaction, locked).await;
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
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.open().transaction
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        let Some(open) = &mut self.open else {
            unreachable!("a transaction that has ended is not there any more")
        };
        &mut open.transaction
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(Open { transaction, locked, reservation, store, guard }) = self.open.take() else { return };
        self.runtime.spawn(async move {
            roll_back(&store, transaction, locked).await;
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

impl PostgresStore {
    /// [`complete_in`](Self::complete_in) for a transaction of sqlx's.
    pub async fn complete_in_sqlx(
        &self,
        transaction: &mut sqlx::Transaction<'_, Postgres>,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        completion.check()?;
        check_answer(&completion.answer, self.inner.options.max_answer_bytes)?;
        let sql = &self.inner.sql;
        let written = WrittenCompletion::new(key, owner, &completion, None);
        let mut patience = Patience::default();
        loop {
            if fetch(transaction, bound(&sql.complete.sql, &written, true)).await?.is_some() {
                return Ok(CompleteOutcome::Completed);
            }
            let Some(row) = fetch(transaction, bound(&sql.uncompleted.sql, &written, false)).await? else {
                let row = fetch(transaction, statement(&sql.transaction.sql)).await?;
                let level = row.and_then(|row| row.try_get::<String, _>(1).ok());
                return match level.as_deref() {
                    Some("read committed" | "read uncommitted") => Ok(CompleteOutcome::Lost),
                    _ => Err(Cause::OldSnapshot.of(Operation::Complete)),
                };
            };
            let columns = uncompleted_row(&row).map_err(|_| malformed(RowError::Malformed("record")))?;
            if let Some(outcome) = lock::uncompleted(columns).map_err(malformed)? {
                return Ok(outcome);
            }
            if !patience.wait().await {
                return Err(Cause::Contended.of(Operation::Complete));
            }
        }
    }
}

async fn begin(
    store: &Inner,
    reservation: &Reservation,
    pool: &PgPool,
) -> Result<(sqlx::Transaction<'static, Postgres>, Locked), TransactionError> {
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    let mut transaction = pool.begin_with(begin).await.map_err(not_applied)?;
    let locking = async {
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(limits(store)))).await?;
        let lock = statement(&store.sql.lock.sql)
            .bind(reservation.key().digest().as_bytes().to_vec())
            .bind(reservation.owner().as_bytes().to_vec());
        transaction.fetch_optional(lock).await
    };
    let row = match timeout(LOCK_TIMEOUT, locking).await {
        Ok(row) => row.map_err(not_applied)?,
        Err(_elapsed) => return Err(Cause::Contended.of(Operation::Complete).into()),
    };
    let columns = row.as_ref().map(lock_row).transpose().map_err(not_applied)?;
    match Locked::found(columns).map_err(malformed)? {
        Ok(locked) => Ok((transaction, locked)),
        Err(ended) => {
            let _ = timeout(ROLLBACK_TIMEOUT, transaction.rollback()).await;
            Err(ended)
        }
    }
}

impl Open {
    async fn complete(self, answer: Answer) -> Result<(), TransactionError> {
        let Self { mut transaction, locked, reservation, store, guard } = self;
        let writing = write(&store, &mut transaction, locked, &reservation, &answer);
        let written = timeout(longest_idle(&store), writing).await;
        let written = written.unwrap_or_else(|_| Err(Cause::StatementOpen.of(Operation::Complete).into()));
        let (result, is_same_server) = match written {
            Ok(()) => (commit(&store, transaction, locked, &reservation).await, false),
            Err(error) => (Err(error), roll_back(&store, transaction, locked).await),
        };
        drop(guard);
        match result {
            Ok(()) => {
                reservation.committed(&answer);
                Ok(())
            }
            Err(error) => Err(settle(&store, locked, is_same_server, reservation, error).await),
        }
    }
}

/// Writes the completion, if the transaction is the one that was begun, and no savepoint of it.
async fn write(
    store: &Inner,
    connection: &mut PgConnection,
    locked: Locked,
    reservation: &Reservation,
    answer: &Answer,
) -> Result<(), TransactionError> {
    check_answer(answer, store.options.max_answer_bytes)?;
    let completion = Completion::new(answer.clone(), reservation.retention());
    let (key, owner) = (reservation.key(), reservation.owner());
    let written = WrittenCompletion::new(key, owner, &completion, Some(locked.transaction));
    match fetch(connection, bound(&store.sql.complete.sql, &written, true)).await? {
        // A savepoint of sqlx's that was begun and forgotten would be released in the place of the commit.
        Some(_) if <Manager as TransactionManager>::get_transaction_depth(connection) != 1 => {
            Err(Cause::SavepointOpen.of(Operation::Complete).into())
        }
        Some(_) => Ok(()),
        None => {
            let row = fetch(connection, statement(&store.sql.transaction.sql)).await?;
            let transaction = row.and_then(|row| row.try_get::<Option<i64>, _>(0).ok().flatten());
            let is_ours = transaction == Some(locked.transaction);
            Err(if is_ours { TransactionError::Lost } else { TransactionError::Ended })
        }
    }
}

async fn commit(
    store: &Inner,
    transaction: sqlx::Transaction<'static, Postgres>,
    locked: Locked,
    reservation: &Reservation,
) -> Result<(), TransactionError> {
    let error = match timeout(COMMIT_TIMEOUT, transaction.commit()).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => of_sqlx(&error),
        Err(_elapsed) => unknown(StoreErrorKind::Timeout),
    };
    match error.effect {
        Effect::NotApplied => Err(error.into()),
        Effect::Unknown => resolve(store, reservation, locked, error).await,
    }
}

/// Rolls back. A statement that its caller did not wait for may still be running and hold the record's lock, and of
/// savepoints that were forgotten sqlx rolls back the last alone: if the transaction is still open, its session is ended,
/// and sqlx finds its connection broken. Whether the session went on to the end.
async fn roll_back(store: &Inner, transaction: sqlx::Transaction<'static, Postgres>, locked: Locked) -> bool {
    let is_outermost = <Manager as TransactionManager>::get_transaction_depth(&transaction) == 1;
    let rolled_back = timeout(ROLLBACK_TIMEOUT, transaction.rollback()).await;
    terminate(store, locked).await;
    is_outermost && matches!(rolled_back, Ok(Ok(())))
}

/// It counts the transactions on a connection, the savepoints too. Its trait has no name outside of sqlx's core.
type Manager = <Postgres as sqlx::Database>::TransactionManager;

fn statement(sql: &str) -> Query<'static, Postgres, PgArguments> {
    // Unnamed: nobody knows what this pool's connections go through.
    sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false)
}

/// `sql/complete.sql`, or `sql/uncompleted.sql`, which has fewer parameters.
fn bound(
    sql: &str,
    written: &WrittenCompletion<'_>,
    is_completion: bool,
) -> Query<'static, Postgres, PgArguments> {
    let query = statement(sql)
        .bind(written.digest.0.to_vec())
        .bind(written.owner.0.to_vec())
        .bind(written.state)
        .bind(written.codec)
        .bind(written.schema)
        .bind(written.body.map(<[u8]>::to_vec));
    if !is_completion {
        return query;
    }
    let retention = PgInterval { months: 0, days: 0, microseconds: written.retention.0 };
    query.bind(retention).bind(written.transaction)
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

fn uncompleted_row(row: &PgRow) -> Result<UncompletedRow, sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
}

fn malformed(error: RowError) -> StoreError {
    crate::error::Failure::Row(error).of(Operation::Complete)
}

/// The error of a statement in a transaction whose COMMIT was not sent: it can only be rolled back.
#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn not_applied(error: sqlx::Error) -> StoreError {
    let mut error = of_sqlx(&error);
    error.effect = Effect::NotApplied;
    error
}

fn of_sqlx(error: &sqlx::Error) -> StoreError {
    let failed = |kind, effect| StoreError::new(kind, effect, Operation::Complete);
    match error {
        sqlx::Error::Database(said) => match said.try_downcast_ref::<PgDatabaseError>() {
            Some(said) => {
                let said = ServerError {
                    severity: format!("{:?}", said.severity()).to_uppercase(),
                    code: said.code().to_owned(),
                    message: said.message().to_owned(),
                    is_fatal: matches!(said.severity(), PgSeverity::Fatal | PgSeverity::Panic),
                };
                let kind = if said.code == "25006" { StoreErrorKind::Misconfigured } else { said.kind() };
                failed(kind, said.effect()).with_source(said)
            }
            None => failed(StoreErrorKind::Internal, Effect::Unknown),
        },
        sqlx::Error::PoolTimedOut => Cause::PoolExhausted.of(Operation::Complete),
        sqlx::Error::PoolClosed => Cause::PoolClosed.of(Operation::Complete),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            failed(StoreErrorKind::Unavailable, Effect::Unknown).with_source(error.to_string())
        }
        sqlx::Error::Configuration(_) => failed(StoreErrorKind::Misconfigured, Effect::NotApplied)
            .with_source("sqlx could not use its connection settings"),
        _ => failed(StoreErrorKind::Internal, Effect::Unknown).with_source(error.to_string()),
    }
}
