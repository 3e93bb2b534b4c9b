//! Transactional completion over sqlx's connections: the same guard as [`crate::Transaction`], which dereferences to
//! [`PgConnection`].
//!
//! The store itself stays on a pool of its own; only the transactions run on sqlx's. Both have to reach the same database.
//!
//! ```no_run
//! # async fn example(store: idem_postgres::PostgresStore, engine: idem_core::Engine, pool: sqlx::PgPool)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! use idem_core::{Admission, Fingerprint, Key, StoredValue};
//! use idem_postgres::sqlx::ReservationExt;
//!
//! let (key, payload) = (Key::new("payments", "42")?, Fingerprint::from_parts(["100 EUR"]));
//! if let Admission::Granted(reservation) = engine.reserve(&key, &payload).await? {
//!     let mut transaction = reservation.begin_sqlx_transaction(&store, &pool).await?;
//!     sqlx::query("INSERT INTO payment (cents) VALUES ($1)").bind(10_000_i64).execute(&mut *transaction).await?;
//!     transaction.complete(StoredValue::bytes("paid")).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `transaction.begin()` of sqlx's [`Connection`](sqlx::Connection) is a savepoint inside of it, as it should be.

use idem_core::backend;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use idem_core::store::{Completion, OwnerToken};
use idem_core::{Answer, CompleteOutcome, Effect, Key, Operation, Reservation, StoreError, StoreErrorKind};
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgArguments, PgDatabaseError, PgRow, PgSeverity, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool, Row as _};
use sqlx_core::transaction::TransactionManager;
use tokio::time::timeout;

use crate::ending::{COMMIT_TIMEOUT, LOCK_TIMEOUT, ROLLBACK_TIMEOUT, terminate};
use crate::error::Cause;
use crate::lock::{LockRow, Locked, UncompletedRow};
use crate::owned::{Open, Owned};
use crate::row::RowError;
use crate::session::{self, CallersSession, Session, unreadable};
use crate::sqlstate::ServerError;
use crate::statement::SqlTexts;
use crate::store::{Inner, WrittenCompletion};
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
                let begun = begin(&store, &self, &pool).await;
                Owned::begun(store, self, begun).map(Transaction)
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
#[derive(Debug)]
pub struct Transaction(Owned<Begun>);

impl Transaction {
    /// The reservation that it completes.
    ///
    /// # Panics
    ///
    /// Never: it is there until the transaction is moved into one of its ends.
    pub fn reservation(&self) -> &Reservation {
        self.0.reservation()
    }

    /// Writes the completion, commits, and finishes the reservation: as
    /// [`crate::Transaction::complete`](crate::Transaction::complete).
    #[must_use = "await it to learn whether it was committed"]
    pub fn complete(
        self,
        answer: impl Into<Answer>,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send {
        self.0.complete(answer.into())
    }

    /// Rolls back, and gives the reservation back: as [`crate::Transaction::rollback`](crate::Transaction::rollback).
    pub async fn rollback(self) -> Reservation {
        self.0.rollback().await
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.connection().open()
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.connection_mut().open_mut()
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
        session::complete_in(&self.inner, &mut **transaction, key, owner, completion).await
    }
}

async fn begin(
    store: &Inner,
    reservation: &Reservation,
    pool: &PgPool,
) -> Result<(Begun, Locked), TransactionError> {
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    let mut transaction = pool.begin_with(begin).await.map_err(not_applied)?;
    let locking = async {
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(limits(store)))).await?;
        let lock = statement(&store.sql.lock.sql)
            .bind(reservation.key().digest().as_bytes().to_vec())
            .bind(backend::owner(reservation).as_bytes().to_vec());
        transaction.fetch_optional(lock).await
    };
    let row = match timeout(LOCK_TIMEOUT, locking).await {
        Ok(row) => row.map_err(not_applied)?,
        Err(_elapsed) => return Err(Cause::Contended.of(Operation::Complete).into()),
    };
    let columns = row.as_ref().map(lock_row).transpose().map_err(not_applied)?;
    match Locked::found(columns).map_err(unreadable)? {
        Ok(locked) => Ok((Begun(Some(transaction)), locked)),
        Err(ended) => {
            let _ = timeout(ROLLBACK_TIMEOUT, transaction.rollback()).await;
            Err(ended)
        }
    }
}

/// A transaction of sqlx's that is open until its commit takes it.
#[derive(Debug)]
struct Begun(Option<sqlx::Transaction<'static, Postgres>>);

impl Begun {
    fn open(&self) -> &PgConnection {
        // Whoever commits has the guard, so that nobody else has it any more.
        let Some(transaction) = &self.0 else { unreachable!("it is open until it is committed") };
        transaction
    }

    fn open_mut(&mut self) -> &mut PgConnection {
        // As above.
        let Some(transaction) = &mut self.0 else { unreachable!("it is open until it is committed") };
        transaction
    }
}

impl Session for Begun {
    async fn complete(
        &mut self,
        sql: &SqlTexts,
        written: &WrittenCompletion<'_>,
    ) -> Result<bool, StoreError> {
        let is_written = self.open_mut().complete(sql, written).await?;
        // A savepoint of sqlx's that was begun and forgotten would be released in the place of the commit.
        if is_written && depth(self.open()) != 1 {
            return Err(Cause::SavepointOpen.of(Operation::Complete));
        }
        Ok(is_written)
    }

    async fn transaction(&mut self, sql: &SqlTexts) -> Result<(Option<i64>, String), StoreError> {
        self.open_mut().transaction(sql).await
    }
}

impl Open for Begun {
    async fn commit(&mut self) -> Option<Result<(), StoreError>> {
        let committing = self.0.take()?.commit();
        let committed = timeout(COMMIT_TIMEOUT, committing).await.ok()?;
        Some(committed.map_err(|error| of_sqlx(&error)))
    }

    /// Of savepoints that were forgotten sqlx rolls back the last alone: if the transaction is still open, its session is
    /// ended, and sqlx finds its connection broken.
    async fn roll_back(self, store: &Inner, locked: Locked) -> bool {
        let Some(transaction) = self.0 else { return false };
        let is_outermost = depth(&transaction) == 1;
        let rolled_back = timeout(ROLLBACK_TIMEOUT, transaction.rollback()).await;
        terminate(store, locked).await;
        is_outermost && matches!(rolled_back, Ok(Ok(())))
    }
}

impl Session for PgConnection {
    async fn complete(
        &mut self,
        sql: &SqlTexts,
        written: &WrittenCompletion<'_>,
    ) -> Result<bool, StoreError> {
        let retention = PgInterval { months: 0, days: 0, microseconds: written.retention.0 };
        let query = bound(&sql.complete.sql, written).bind(retention).bind(written.transaction);
        Ok(fetch(self, query).await?.is_some())
    }

    async fn transaction(&mut self, sql: &SqlTexts) -> Result<(Option<i64>, String), StoreError> {
        let columns = |row: &PgRow| Some((row.try_get(0).ok()?, row.try_get(1).ok()?));
        let row = fetch(self, statement(&sql.transaction.sql)).await?;
        row.as_ref().and_then(columns).ok_or_else(|| unreadable(RowError::Malformed("transaction")))
    }
}

impl CallersSession for PgConnection {
    async fn uncompleted(
        &mut self,
        sql: &SqlTexts,
        written: &WrittenCompletion<'_>,
    ) -> Result<Option<UncompletedRow>, StoreError> {
        let columns = |row: &PgRow| -> Result<UncompletedRow, sqlx::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
        };
        let row = fetch(self, bound(&sql.uncompleted.sql, written)).await?;
        row.as_ref().map(columns).transpose().map_err(|_| unreadable(RowError::Malformed("record")))
    }
}

/// How many transactions are open on a connection, savepoints too. The trait that counts them has no name outside of sqlx's
/// core.
fn depth(connection: &PgConnection) -> usize {
    <<Postgres as sqlx::Database>::TransactionManager as TransactionManager>::get_transaction_depth(
        connection,
    )
}

fn statement(sql: &str) -> Query<'static, Postgres, PgArguments> {
    // Unnamed: nobody knows what this pool's connections go through.
    sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false)
}

/// The parameters that `sql/complete.sql` and `sql/uncompleted.sql` have in common.
fn bound(sql: &str, written: &WrittenCompletion<'_>) -> Query<'static, Postgres, PgArguments> {
    statement(sql)
        .bind(written.digest.0.to_vec())
        .bind(written.owner.0.to_vec())
        .bind(written.state)
        .bind(written.codec)
        .bind(written.schema)
        .bind(written.body.map(<[u8]>::to_vec))
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
