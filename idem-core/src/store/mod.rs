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
/// - *The token decides.* Only the current owner's token changes a record that is in flight. Everybody else is told
///   [`Lost`](CompleteOutcome::Lost) and changes nothing.
/// - *Idempotent by token.* Every operation may be sent again with its token while its record or tombstone lives: it
///   has no second effect, and its answer is the first one's or implies it.
/// - *Errors mean failure of the store.* What is expected is an outcome. An error's [`Effect`](crate::Effect) is
///   `NotApplied` only if the operation had no effect and never will.
/// - *Cancellation.* A future that is dropped leaves the operation done or not done, never half done, and leaves the
///   store fit for the next call.
/// - *Expired is absent.* From `expires_at` on a record counts as absent to every operation, whether it was swept or
///   not; only the fencing token still counts on from it while it is there.
///
/// [`transition`](crate::store::transition) is this contract as pure functions: a backend that can lock a record runs them
/// under that lock; one that cannot says the same in its own language. The conformance suite (`idem-conformance`)
/// checks all of it against any implementation.
///
/// # Invariants
///
/// - INV-1: no method has a default body, so that a wrapper cannot forget to pass one on.
/// - INV-2: nothing in a method's answer shows one caller another caller's owner token.
#[async_trait]
pub trait ReservationStore: fmt::Debug + Send + Sync + 'static {
    /// Takes the key for `request.owner`, if nobody has it.
    ///
    /// - A free or expired key is `Reserved` as attempt 1, with a fence above every earlier one of the key.
    /// - A key that another owner released is `Reserved` with the released run's attempt number and a greater fence.
    /// - Sent again by the owner in flight, it is `Reserved` with the same attempt and fence; the lease is never
    ///   shortened.
    /// - A token that has completed, released or abandoned is `Stale`.
    /// - Another owner's live lease is `InFlight`, with what is left of it. The asker's own lease has no influence.
    /// - Another owner's lease that is over or abandoned is taken over as the next attempt with a greater fence, or is
    ///   `LeaseExpired` under [`ExpiredLeasePolicy::Refuse`](crate::ExpiredLeasePolicy::Refuse), which changes
    ///   nothing.
    /// - Another fingerprint, in flight (lease over or not) or completed, is `FingerprintMismatch`, with no bytes.
    /// - A completed run of another owner is `Completed`, with its exact bytes.
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError>;

    /// Extends the owner's lease to at least `lease` from now.
    ///
    /// - The owner in flight is `Renewed`, also when its lease is over but nobody took the key. The lease is never
    ///   shortened, and the record is remembered for its `record_ttl` beyond the new lease.
    /// - An owner that completed is `AlreadyCompleted`.
    /// - Everybody else is `Lost`, also an owner that abandoned.
    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError>;

    /// Stores the run's answer for `completion.retention` from now. It never changes afterwards.
    ///
    /// - The owner in flight is `Completed`, visible at once to every `get` and `reserve`; also when its lease is over
    ///   or abandoned, as long as nobody took the key.
    /// - The same answer again is `AlreadyCompleted`; another one is `AnswerConflict`, and the first is kept.
    /// - Everybody else is `Lost`, and nothing is created.
    /// - An answer above the store's limit is refused as `TooLarge`, and nothing is half written.
    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError>;

    /// Frees the key: the owner says that nothing happened.
    ///
    /// - The owner in flight is `Released`. A tombstone stays, so that a late reservation with this token is `Stale`.
    /// - Again is `AlreadyReleased`; so is an absent key, which gets a tombstone of this token.
    /// - An owner that completed is `AlreadyCompleted`, and the answer is kept.
    /// - Everybody else is `Lost`, and the owner's record is untouched.
    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError>;

    /// Lets the next caller in at once: nobody knows what the owner's run has done.
    ///
    /// - The owner in flight is `Abandoned`, again too. A late renewal of it is `Lost`, its late reservation `Stale`;
    ///   it may still complete as long as nobody took the key.
    /// - An owner that completed is `AlreadyCompleted`.
    /// - Everybody else is `Lost`.
    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError>;

    /// Looks, and changes nothing.
    ///
    /// - In flight or completed, the record is shown without its owner token.
    /// - Absent, expired and released are `None`.
    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError>;

    /// Removes at most `limit` expired records and says how many.
    ///
    /// - A record that is not expired is never removed, also when the sweep races a reservation of the same key.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError>;
}

/// Passes every method on by returning the inner future itself, so that sharing a store costs no second allocation.
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

    /// A store that can nothing, and says so.
    #[derive(Debug)]
    pub(crate) struct NoStore;

    fn no<T>(operation: Operation) -> Result<T, StoreError> {
        Err(StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, operation))
    }

    #[async_trait]
    impl ReservationStore for NoStore {
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
    async fn a_shared_and_a_boxed_store_pass_every_method_on() {
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
        let shared: Arc<dyn ReservationStore> = Arc::new(NoStore);
        let boxed: Box<dyn ReservationStore> = Box::new(NoStore);
        assert_eq!(every_operation(shared).await, all);
        assert_eq!(every_operation(boxed).await, all);
    }
}
