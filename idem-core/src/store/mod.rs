//! [`ReservationStore`]: the contract between the engine and a storage.

mod operation;
mod record;
pub mod transition;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Key, StoreError};

pub use crate::time::{InvalidSpan, Span, Timestamp};
pub use operation::{
    AbandonOutcome, CompleteOutcome, Completion, ReleaseOutcome, RenewOutcome, ReserveOutcome, ReserveRequest,
};
pub use record::{FencingToken, InvalidFencingToken, OwnerToken, Record, RecordView, State, StateView};

/// Keeps one record per key and changes it atomically.
///
/// # Contract
///
/// - *Atomic.* Each operation is one indivisible step for its key, also between processes: of any number of concurrent
///   reservations of a free key exactly one is [`Reserved`](ReserveOutcome::Reserved).
/// - *The store's clock.* Whether a lease is over or a record expired is decided by one clock, the store's. No instant
///   of a caller crosses this trait; durations do.
/// - *The token decides.* Only the current owner's token changes a record in flight. Every other token gets
///   [`Lost`](CompleteOutcome::Lost) and changes nothing.
/// - *Idempotent by token.* Every operation may be sent again with its token while its record or tombstone lives. It has
///   no second effect, and its answer is the first one or implies it.
/// - *Errors mean that the store failed.* Expected results are outcomes. An error's [`Effect`](crate::Effect) is
///   `NotApplied` only if the operation had no effect and never will have one.
/// - *Cancellation.* If a future is dropped, its operation is done or not done, never half done, and the store is ready
///   for the next call.
/// - *Expired is absent.* From `expires_at` on, every operation treats a record as absent, whether or not it was swept.
///   Only its fence still counts: the next one is greater.
///
/// [`transition`] is this contract as pure functions: a backend that can lock a record calls them under that lock. Other
/// backends do the same in SQL or Lua. The conformance suite (`idem-conformance`) checks all of it against any
/// implementation.
///
/// # Invariants
///
/// - INV-1: no method has a default body, so that a wrapper cannot forget to forward one.
/// - INV-2: no answer shows a caller the owner token of another.
#[async_trait]
pub trait ReservationStore: fmt::Debug + Send + Sync + 'static {
    /// Reserves the key for `request.owner`, if nobody owns it.
    ///
    /// - A free or expired key is `Reserved` as attempt 1, with a fence above every earlier one of the key.
    /// - A key that another owner released is `Reserved` with the attempt number of the released run and a greater fence.
    /// - If the owner in flight sends it again, it is `Reserved` with the same attempt and fence. The lease is never
    ///   shortened.
    /// - A token that has completed, released or abandoned is `Stale`.
    /// - If another owner's lease is live, it is `InFlight` with the rest of that lease. The lease of the request does not
    ///   matter.
    /// - If another owner's lease is over or abandoned, the key is taken over as the next attempt with a greater fence, or
    ///   it is `LeaseExpired` under [`ExpiredLeasePolicy::Refuse`](crate::ExpiredLeasePolicy::Refuse) and nothing changes.
    /// - If the record in flight (lease over or not) or completed has another fingerprint, it is `FingerprintMismatch`
    ///   without any bytes.
    /// - If another owner has completed, it is `Completed` with the exact bytes.
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError>;

    /// Extends the owner's lease to at least `lease` from now.
    ///
    /// - The owner in flight gets `Renewed`, also if its lease is over and nobody took the key. The lease is never
    ///   shortened, and the record is kept for its `record_ttl` after the new lease.
    /// - An owner that completed gets `AlreadyCompleted`.
    /// - Every other token gets `Lost`, also that of an owner that abandoned.
    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError>;

    /// Stores the run's answer for `completion.retention` from now. It never changes afterwards.
    ///
    /// - The owner in flight gets `Completed`, also if its lease is over or abandoned and nobody took the key. Every later
    ///   `get` and `reserve` sees the answer.
    /// - The same answer again is `AlreadyCompleted`. Another one is `AnswerConflict`, and the first one is kept.
    /// - Every other token gets `Lost`, and nothing is created.
    /// - An answer above the store's limit fails with `TooLarge`, and nothing is written.
    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError>;

    /// Frees the key: the owner says that nothing happened.
    ///
    /// - The owner in flight gets `Released`. A tombstone stays, so that a late reservation with this token is `Stale`.
    /// - A second release is `AlreadyReleased`. So is the release of an absent key, which leaves a tombstone of this token.
    /// - An owner that completed gets `AlreadyCompleted`, and the answer is kept.
    /// - Every other token gets `Lost`, and the record does not change.
    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError>;

    /// Lets the next caller take over at once: it is not known what the owner's run has done.
    ///
    /// - The owner in flight gets `Abandoned`, also a second time. After that its renewal is `Lost` and its reservation
    ///   `Stale`. It may still complete while nobody has taken the key.
    /// - An owner that completed gets `AlreadyCompleted`.
    /// - Every other token gets `Lost`.
    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError>;

    /// Returns the record of the key, and changes nothing.
    ///
    /// - A record in flight or completed is shown without its owner token.
    /// - An absent, expired or released key is `None`.
    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError>;

    /// Removes at most `limit` expired records and returns how many.
    ///
    /// A record that is not expired is never removed, also if its key is reserved at the same time.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError>;
}

/// Forwards every method and returns the inner future itself, so that sharing a store costs no second allocation.
macro_rules! forward_to_inner {
    ($pointer:ident) => {
        impl<S: ReservationStore + ?Sized> ReservationStore for $pointer<S> {
            fn reserve<'a, 'b, 'f>(
                &'a self,
                key: &'b Key,
                request: ReserveRequest,
            ) -> BoxFuture<'f, Result<ReserveOutcome, StoreError>>
            where
                'a: 'f,
                'b: 'f,
                Self: 'f,
            {
                (**self).reserve(key, request)
            }

            fn renew<'a, 'b, 'f>(
                &'a self,
                key: &'b Key,
                owner: OwnerToken,
                lease: Span,
            ) -> BoxFuture<'f, Result<RenewOutcome, StoreError>>
            where
                'a: 'f,
                'b: 'f,
                Self: 'f,
            {
                (**self).renew(key, owner, lease)
            }

            fn complete<'a, 'b, 'f>(
                &'a self,
                key: &'b Key,
                owner: OwnerToken,
                completion: Completion,
            ) -> BoxFuture<'f, Result<CompleteOutcome, StoreError>>
            where
                'a: 'f,
                'b: 'f,
                Self: 'f,
            {
                (**self).complete(key, owner, completion)
            }

            fn release<'a, 'b, 'f>(
                &'a self,
                key: &'b Key,
                owner: OwnerToken,
            ) -> BoxFuture<'f, Result<ReleaseOutcome, StoreError>>
            where
                'a: 'f,
                'b: 'f,
                Self: 'f,
            {
                (**self).release(key, owner)
            }

            fn abandon<'a, 'b, 'f>(
                &'a self,
                key: &'b Key,
                owner: OwnerToken,
            ) -> BoxFuture<'f, Result<AbandonOutcome, StoreError>>
            where
                'a: 'f,
                'b: 'f,
                Self: 'f,
            {
                (**self).abandon(key, owner)
            }

            fn get<'a, 'b, 'f>(
                &'a self,
                key: &'b Key,
            ) -> BoxFuture<'f, Result<Option<RecordView>, StoreError>>
            where
                'a: 'f,
                'b: 'f,
                Self: 'f,
            {
                (**self).get(key)
            }

            fn sweep<'a, 'f>(&'a self, limit: usize) -> BoxFuture<'f, Result<usize, StoreError>>
            where
                'a: 'f,
                Self: 'f,
            {
                (**self).sweep(limit)
            }
        }
    };
}

/// The future that `async_trait` makes of an `async fn`.
type BoxFuture<'f, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'f>>;

forward_to_inner!(Arc);
forward_to_inner!(Box);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Effect, Operation, StoreErrorKind};

    /// A store whose every operation fails.
    #[derive(Debug)]
    pub(crate) struct FailingStore;

    fn no<T>(operation: Operation) -> Result<T, StoreError> {
        Err(StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, operation))
    }

    #[async_trait]
    impl ReservationStore for FailingStore {
        async fn reserve(&self, _: &Key, _: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
            no(Operation::Reserve)
        }

        async fn renew(&self, _: &Key, _: OwnerToken, _: Span) -> Result<RenewOutcome, StoreError> {
            no(Operation::Renew)
        }

        async fn complete(
            &self,
            _: &Key,
            _: OwnerToken,
            _: Completion,
        ) -> Result<CompleteOutcome, StoreError> {
            no(Operation::Complete)
        }

        async fn release(&self, _: &Key, _: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
            no(Operation::Release)
        }

        async fn abandon(&self, _: &Key, _: OwnerToken) -> Result<AbandonOutcome, StoreError> {
            no(Operation::Abandon)
        }

        async fn get(&self, _: &Key) -> Result<Option<RecordView>, StoreError> {
            no(Operation::Get)
        }

        async fn sweep(&self, _: usize) -> Result<usize, StoreError> {
            no(Operation::Sweep)
        }
    }

    #[tokio::test]
    async fn a_shared_and_a_boxed_store_forward_every_method() {
        async fn every_operation(store: impl ReservationStore) -> Vec<Operation> {
            let (key, owner) = (Key::new("scope", "name").unwrap(), OwnerToken::random());
            let second = Span::MAX;
            let request = ReserveRequest::new(owner, crate::Fingerprint::from_parts(["payload"]), second);
            let completion = Completion::new(crate::Answer::NotKept, second);
            vec![
                store.reserve(&key, request).await.unwrap_err().operation,
                store.renew(&key, owner, second).await.unwrap_err().operation,
                store.complete(&key, owner, completion).await.unwrap_err().operation,
                store.release(&key, owner).await.unwrap_err().operation,
                store.abandon(&key, owner).await.unwrap_err().operation,
                store.get(&key).await.unwrap_err().operation,
                store.sweep(1).await.unwrap_err().operation,
            ]
        }
        use Operation::{Abandon, Complete, Get, Release, Renew, Reserve as ReserveOp, Sweep};
        let all = vec![ReserveOp, Renew, Complete, Release, Abandon, Get, Sweep];
        let shared: Arc<dyn ReservationStore> = Arc::new(FailingStore);
        let boxed: Box<dyn ReservationStore> = Box::new(FailingStore);
        assert_eq!(every_operation(shared).await, all);
        assert_eq!(every_operation(boxed).await, all);
    }
}
