//! What a [`Caller`] can do: for each operation the store's result, its outcome, and its success.

use std::panic::Location;
use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{Completion, RecordView, ReserveOutcome};
use idem_core::{AbandonOutcome, Answer, CompleteOutcome, ReleaseOutcome, RenewOutcome, StoreError};

use super::checks::{answered, expected, failed, matching};
use super::{Caller, Granted, Snapshot};
use crate::values::{DAY, HOUR, bytes, span};

impl Caller {
    /// Reserves the key.
    pub async fn try_reserve(&self) -> Result<ReserveOutcome, StoreError> {
        self.store.reserve(&self.key, self.request.clone()).await
    }

    /// Reserves the key.
    #[track_caller]
    pub fn reserve(&self) -> impl Future<Output = ReserveOutcome> + Send + '_ {
        answered(self.try_reserve())
    }

    /// Reserves the key, and fails unless it is granted.
    #[track_caller]
    pub fn reserved(&self) -> impl Future<Output = Granted> + Send + '_ {
        matching("a reservation", self.reserve(), |outcome| match outcome {
            ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                Ok(Granted { attempt, fence, lease_left })
            }
            other => Err(other),
        })
    }

    /// Reserves the key, and fails unless the answer is these bytes.
    #[track_caller]
    pub fn replayed(&self, body: impl Into<Bytes>) -> impl Future<Output = ()> + Send + '_ {
        self.replayed_as(bytes(body))
    }

    /// Reserves the key, and fails unless this is the answer.
    #[track_caller]
    pub fn replayed_as(&self, expected: Answer) -> impl Future<Output = ()> + Send + '_ {
        matching("that answer", self.reserve(), move |outcome| match outcome {
            ReserveOutcome::Completed { answer, .. } if answer == expected => Ok(()),
            other => Err(other),
        })
    }

    /// Renews the lease.
    pub async fn try_renew(&self, lease: Duration) -> Result<RenewOutcome, StoreError> {
        self.store.renew(&self.key, self.owner(), span(lease)).await
    }

    /// Renews the lease.
    #[track_caller]
    pub fn renew(&self, lease: Duration) -> impl Future<Output = RenewOutcome> + Send + '_ {
        answered(self.try_renew(lease))
    }

    /// Renews the lease, and fails if that is refused. Returns how long the lease then runs.
    #[track_caller]
    pub fn renewed(&self, lease: Duration) -> impl Future<Output = Duration> + Send + '_ {
        matching("a renewal", self.renew(lease), |outcome| match outcome {
            RenewOutcome::Renewed { lease_left } => Ok(lease_left),
            other => Err(other),
        })
    }

    /// Completes with these bytes, kept for a day.
    pub async fn try_complete(&self, body: impl Into<Bytes>) -> Result<CompleteOutcome, StoreError> {
        self.try_complete_for(DAY, bytes(body)).await
    }

    /// Completes with these bytes, kept for a day.
    #[track_caller]
    pub fn complete(&self, body: impl Into<Bytes>) -> impl Future<Output = CompleteOutcome> + Send + '_ {
        self.complete_for(DAY, bytes(body))
    }

    /// Completes with these bytes, kept for a day, and fails if that is refused.
    #[track_caller]
    pub fn completed(&self, body: impl Into<Bytes>) -> impl Future<Output = ()> + Send + '_ {
        self.completed_for(DAY, bytes(body))
    }

    /// Completes with an answer and a retention.
    pub async fn try_complete_for(
        &self,
        retention: Duration,
        answer: Answer,
    ) -> Result<CompleteOutcome, StoreError> {
        self.store.complete(&self.key, self.owner(), Completion::new(answer, span(retention))).await
    }

    /// Completes with an answer and a retention.
    #[track_caller]
    pub fn complete_for(
        &self,
        retention: Duration,
        answer: Answer,
    ) -> impl Future<Output = CompleteOutcome> + Send + '_ {
        answered(self.try_complete_for(retention, answer))
    }

    /// Completes with an answer and a retention, and fails if that is refused.
    #[track_caller]
    pub fn completed_for(&self, retention: Duration, answer: Answer) -> impl Future<Output = ()> + Send + '_ {
        expected(CompleteOutcome::Completed, self.complete_for(retention, answer))
    }

    /// Releases the key.
    pub async fn try_release(&self) -> Result<ReleaseOutcome, StoreError> {
        self.store.release(&self.key, self.owner()).await
    }

    /// Releases the key.
    #[track_caller]
    pub fn release(&self) -> impl Future<Output = ReleaseOutcome> + Send + '_ {
        answered(self.try_release())
    }

    /// Releases the key, and fails if this caller did not hold it.
    #[track_caller]
    pub fn released(&self) -> impl Future<Output = ()> + Send + '_ {
        expected(ReleaseOutcome::Released, self.release())
    }

    /// Abandons the attempt.
    pub async fn try_abandon(&self) -> Result<AbandonOutcome, StoreError> {
        self.store.abandon(&self.key, self.owner()).await
    }

    /// Abandons the attempt.
    #[track_caller]
    pub fn abandon(&self) -> impl Future<Output = AbandonOutcome> + Send + '_ {
        answered(self.try_abandon())
    }

    /// Abandons the attempt, and fails if that is refused.
    #[track_caller]
    pub fn abandoned(&self) -> impl Future<Output = ()> + Send + '_ {
        expected(AbandonOutcome::Abandoned, self.abandon())
    }

    /// Reads the key's record.
    pub async fn try_get(&self) -> Result<Option<RecordView>, StoreError> {
        self.store.get(&self.key).await
    }

    /// Reads the key's record.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Option<RecordView>> + Send + '_ {
        answered(self.try_get())
    }

    /// Reads the parts of the key's record that do not change as time passes.
    #[track_caller]
    pub fn snapshot(&self) -> impl Future<Output = Option<Snapshot>> + Send + '_ {
        let get = self.get();
        async move { get.await.map(Snapshot::from) }
    }

    /// Calls every operation of the key and returns their errors. Fails if one of them succeeds.
    #[track_caller]
    pub fn errors(&self) -> impl Future<Output = [StoreError; 6]> + Send + '_ {
        let at = Location::caller();
        async move {
            [
                failed(at, self.try_reserve().await),
                failed(at, self.try_renew(HOUR).await),
                failed(at, self.try_complete("an answer").await),
                failed(at, self.try_release().await),
                failed(at, self.try_abandon().await),
                failed(at, self.try_get().await),
            ]
        }
    }
}
