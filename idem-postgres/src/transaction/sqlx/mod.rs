//! Transactional completion over sqlx: the same guard as [`crate::Transaction`], which dereferences to [`PgConnection`].
//!
//! Only these transactions run on sqlx's pool. The store keeps a pool of its own; both must reach the same database.
//!
//! ```no_run
//! # async fn example(store: idem_postgres::PostgresStore, engine: idem_core::Engine, pool: sqlx::PgPool)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! use idem_core::{Admission, Fingerprint, Key, StoredValue};
//! use idem_postgres::sqlx::ReservationExt;
//!
//! let (key, fingerprint) = (Key::new("payments", "42")?, Fingerprint::from_parts(["100 EUR"]));
//! if let Admission::Granted(reservation) = engine.reserve(&key, &fingerprint).await? {
//!     let mut transaction = reservation.begin_sqlx_transaction(&store, &pool).await?;
//!     sqlx::query("INSERT INTO payment (cents) VALUES ($1)").bind(10_000_i64).execute(&mut *transaction).await?;
//!     transaction.complete(StoredValue::bytes("paid")).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `transaction.begin()` of sqlx's [`Connection`](sqlx::Connection) begins a savepoint inside of the transaction.

mod connection;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use idem_core::store::{Completion, OwnerToken};
use idem_core::{Answer, CompleteOutcome, Key, Operation, Reservation, StoreError};
use sqlx::postgres::Postgres;
use sqlx::{PgConnection, PgPool};

use self::connection::SqlxTransaction;
use crate::error::Cause;
use crate::store::PostgresStore;
use crate::transaction::complete_in::complete_in;
use crate::transaction::error::TransactionError;
use crate::transaction::guard::TransactionGuard;
use crate::transaction::tokio_postgres::sealed;

/// Begins transactions over sqlx for a [`Reservation`].
pub trait ReservationExt: Sized + sealed::Sealed {
    /// Does the same as [`begin_transaction`](crate::ReservationExt::begin_transaction), with the same promises, on a
    /// connection of sqlx's pool.
    fn begin_sqlx_transaction(
        self,
        store: &PostgresStore,
        pool: &PgPool,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send;
}

impl ReservationExt for Reservation {
    fn begin_sqlx_transaction(
        self,
        store: &PostgresStore,
        pool: &PgPool,
    ) -> impl Future<Output = Result<Transaction, TransactionError>> + Send {
        let (store, pool) = (Arc::clone(&store.inner), pool.clone());
        async move {
            // In a task of its own, so that it runs to its end when the caller's future is dropped: sqlx returns a connection
            // to its pool as it is when a `begin` on it was cancelled (sqlx issue 4393).
            let beginning = tokio::spawn(async move {
                let begun = SqlxTransaction::begin(&store, &self, &pool).await;
                TransactionGuard::new(store, self, begun).map(Transaction)
            });
            // If the runtime is shutting down, nothing is committed.
            beginning.await.unwrap_or_else(|error| {
                Err(Cause::PoolClosed.into_store_error(Operation::Complete).with_source(error).into())
            })
        }
    }
}

/// An open transaction in which a reserved key will be completed: [`crate::Transaction`] over sqlx.
#[must_use = "a transaction that is dropped is rolled back"]
#[derive(Debug)]
pub struct Transaction(TransactionGuard<SqlxTransaction>);

impl Transaction {
    /// The reservation that it completes.
    pub fn reservation(&self) -> &Reservation {
        self.0.reservation()
    }

    /// Writes the completion, commits, and settles the reservation, as
    /// [`crate::Transaction::complete`](crate::Transaction::complete) does.
    #[must_use = "await it to learn whether it was committed"]
    pub fn complete(
        self,
        answer: impl Into<Answer>,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send {
        self.0.complete(answer.into())
    }

    /// Rolls back and returns the reservation, as [`crate::Transaction::rollback`](crate::Transaction::rollback) does.
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
    /// Does the same as [`complete_in`](Self::complete_in) in a transaction of sqlx.
    pub async fn complete_in_sqlx(
        &self,
        transaction: &mut sqlx::Transaction<'_, Postgres>,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        complete_in(&self.inner, &mut **transaction, key, owner, completion).await
    }
}
