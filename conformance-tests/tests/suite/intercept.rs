//! [`Intercept`]: a wrapper of the reference store that changes some of its methods.

use idem_core::store::Span;
use std::fmt::Debug;

use async_trait::async_trait;
use idem_conformance::Reference;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Key, ReleaseOutcome, RenewOutcome, ReservationStore, StoreError,
};

/// A wrapper that changes one or two methods and passes the others on.
#[async_trait]
pub(crate) trait Intercept: Debug + Send + Sync + 'static {
    /// The store that gets the calls.
    fn inner(&self) -> &Reference;

    /// Called before every operation of a key. An error becomes the result of the operation.
    async fn before(&self, _key: &Key) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called after every operation of a key that was not dropped.
    fn after(&self, _key: &Key) {}

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner().sweep(limit).await
    }
}

#[derive(Debug)]
pub(crate) struct Intercepted<I>(pub(crate) I);

impl<I: Intercept> Intercepted<I> {
    async fn around<T>(
        &self,
        key: &Key,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.0.before(key).await?;
        let outcome = call.await;
        self.0.after(key);
        outcome
    }
}

#[async_trait]
impl<I: Intercept> ReservationStore for Intercepted<I> {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.around(key, async { self.0.inner().reserve(key, request).await }).await
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.around(key, async { self.0.inner().renew(key, owner, lease).await }).await
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.around(key, async { self.0.inner().complete(key, owner, completion).await }).await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.around(key, async { self.0.inner().release(key, owner).await }).await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.around(key, async { self.0.inner().abandon(key, owner).await }).await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.around(key, async { self.0.inner().get(key).await }).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.0.sweep(limit).await
    }
}
