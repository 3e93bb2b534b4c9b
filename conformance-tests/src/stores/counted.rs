//! [`Counted`]: a store that counts its calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, Span};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError,
};

/// Passes every call on to another store and counts it. Clones share the counts.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idem_conformance::{Counted, Reference};
/// use idem_core::{Key, Operation, ReservationStore};
///
/// let store = Counted::new(Reference::new());
/// store.get(&Key::new("scope", "name")?).await?;
/// assert_eq!((store.calls(Operation::Get), store.total()), (1, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Counted {
    inner: Arc<dyn ReservationStore>,
    calls: Arc<Mutex<HashMap<Operation, usize>>>,
}

impl Counted {
    /// Counts the calls of a store from zero.
    pub fn new(store: impl ReservationStore) -> Self {
        Self { inner: Arc::new(store), calls: Arc::default() }
    }

    /// The number of calls of `operation`.
    pub fn calls(&self, operation: Operation) -> usize {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get(&operation).copied().unwrap_or_default()
    }

    /// The number of calls of all operations.
    pub fn total(&self) -> usize {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn counted(&self, operation: Operation) -> &dyn ReservationStore {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
        &*self.inner
    }
}

#[async_trait]
impl ReservationStore for Counted {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.counted(Operation::Reserve).reserve(key, request).await
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.counted(Operation::Renew).renew(key, owner, lease).await
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.counted(Operation::Complete).complete(key, owner, completion).await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.counted(Operation::Release).release(key, owner).await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.counted(Operation::Abandon).abandon(key, owner).await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.counted(Operation::Get).get(key).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.counted(Operation::Sweep).sweep(limit).await
    }
}
