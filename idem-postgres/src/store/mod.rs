//! [`PostgresStore`], and its operations.
//!
//! Every statement is a transaction of its own, so that nothing is ever half done and no connection keeps an open
//! transaction. The statements are written for READ COMMITTED and are correct at every level that a role or a database may
//! set as the default.
//!
//! An outcome that changes nothing comes from one read of the record. A statement that changes a record checks again
//! whether it may. If it may not, it returns no row, and the operation reads the record again in a *new* statement with a
//! new snapshot: a single statement that reads and writes would see neither its own row nor the row in its way. (In a
//! function such as `schema/v1/reserve.sql`, each statement has a snapshot of its own.)
//!
//! INV-1: no reservation, renewal or sweep waits for a row lock. A record that stays locked by its owner's open transaction
//! is in flight to every other caller, and still belongs to the owner's heartbeat.
//! INV-2: what is written uses the `clock_timestamp()` of the statement that writes. Where it decides who owns the key, it
//! is read after the lock was acquired.
//! INV-3: an outcome that changes nothing was true both before and after the record was read; the snapshot lies in between.

mod inner;
mod operations;
mod reserve;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, Span};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError,
};

pub(crate) use inner::{PausedHeartbeat, Retries, StoreInner};

/// A store in a table of a Postgres database.
///
/// Clones share one pool of connections. A background task removes expired records; it ends with the last clone.
#[derive(Clone)]
pub struct PostgresStore {
    pub(crate) inner: Arc<StoreInner>,
}

impl PostgresStore {
    /// The pool that the store uses.
    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }
}

#[async_trait]
impl ReservationStore for PostgresStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.inner.reserve(key, &request).await.map_err(|error| error.into_store_error(Operation::Reserve))
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.inner.renew(key, owner, lease).await.map_err(|error| error.into_store_error(Operation::Renew))
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        completion.check(self.inner.options.max_answer_bytes)?;
        self.inner
            .complete(key, owner, completion)
            .await
            .map_err(|error| error.into_store_error(Operation::Complete))
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.inner.release(key, owner).await.map_err(|error| error.into_store_error(Operation::Release))
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.inner.abandon(key, owner).await.map_err(|error| error.into_store_error(Operation::Abandon))
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.inner.get(key).await.map_err(|error| error.into_store_error(Operation::Get))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.sweep(limit).await.map_err(|error| error.into_store_error(Operation::Sweep))
    }
}

/// Shows the schema and the table. The connection settings may contain a secret and are left out.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.inner.names.schema)
            .field("table", &self.inner.names.table)
            .finish_non_exhaustive()
    }
}
