//! [`Caller`]: one token at work on one key. Its methods unwrap the store's errors, so that a case reads as a story.

use crate::span;
use std::fmt::Debug;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{Completion, RecordView, ReserveOutcome, ReserveRequest, StateView};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, ExpiredLeasePolicy, FencingToken, Key, ReleaseOutcome,
    RenewOutcome, ReservationStore, StoreError, StoredValue,
};

use crate::context::{DAY, fingerprint};

/// One token at work on one key.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) store: Arc<dyn ReservationStore>,
    pub(crate) key: Key,
    pub(crate) request: ReserveRequest,
}

/// What the winner of a key is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) attempt: u32,
    pub(crate) fence: FencingToken,
    pub(crate) lease_left: Duration,
}

impl Caller {
    pub(crate) fn lease(mut self, lease: Duration) -> Self {
        self.request.lease = span(lease);
        self
    }

    pub(crate) fn record_ttl(mut self, record_ttl: Duration) -> Self {
        self.request.record_ttl = span(record_ttl);
        self
    }

    pub(crate) fn payload(mut self, payload: &str) -> Self {
        self.request.fingerprint = fingerprint(payload);
        self
    }

    /// Does not take over expired leases.
    pub(crate) fn refusing(mut self) -> Self {
        self.request.on_expired_lease = ExpiredLeasePolicy::Refuse;
        self
    }

    /// The same token and key through another handle.
    pub(crate) fn through(mut self, store: Arc<dyn ReservationStore>) -> Self {
        self.store = store;
        self
    }

    #[track_caller]
    pub(crate) fn reserve(&self) -> impl Future<Output = ReserveOutcome> + Send + '_ {
        answered(self.store.reserve(&self.key, self.request.clone()))
    }

    /// Reserves, and fails the case if the key is not granted.
    #[track_caller]
    pub(crate) fn reserved(&self) -> impl Future<Output = Granted> + Send + '_ {
        let at = Location::caller();
        let reserve = self.reserve();
        async move {
            match reserve.await {
                ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                    Granted { attempt, fence, lease_left }
                }
                other => panic!("{at}: expected to be granted the key, and got {other:?}"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn renew(&self, lease: Duration) -> impl Future<Output = RenewOutcome> + Send + '_ {
        answered(self.store.renew(&self.key, self.request.owner, span(lease)))
    }

    /// Completes with plain bytes, kept for a day.
    #[track_caller]
    pub(crate) fn complete(
        &self,
        body: impl Into<Bytes>,
    ) -> impl Future<Output = CompleteOutcome> + Send + '_ {
        self.complete_for(DAY, bytes(body))
    }

    #[track_caller]
    pub(crate) fn complete_for(
        &self,
        retention: Duration,
        answer: Answer,
    ) -> impl Future<Output = CompleteOutcome> + Send + '_ {
        answered(self.store.complete(&self.key, self.request.owner, Completion::new(answer, span(retention))))
    }

    /// Completes, and fails the case if that is not accepted.
    #[track_caller]
    pub(crate) fn completed(&self, body: impl Into<Bytes>) -> impl Future<Output = ()> + Send + '_ {
        self.completed_for(DAY, bytes(body))
    }

    #[track_caller]
    pub(crate) fn completed_for(
        &self,
        retention: Duration,
        answer: Answer,
    ) -> impl Future<Output = ()> + Send + '_ {
        expected(CompleteOutcome::Completed, self.complete_for(retention, answer))
    }

    #[track_caller]
    pub(crate) fn release(&self) -> impl Future<Output = ReleaseOutcome> + Send + '_ {
        answered(self.store.release(&self.key, self.request.owner))
    }

    #[track_caller]
    pub(crate) fn abandon(&self) -> impl Future<Output = AbandonOutcome> + Send + '_ {
        answered(self.store.abandon(&self.key, self.request.owner))
    }

    /// Releases, and fails the case if that frees nothing.
    #[track_caller]
    pub(crate) fn released(&self) -> impl Future<Output = ()> + Send + '_ {
        expected(ReleaseOutcome::Released, self.release())
    }

    /// Abandons, and fails the case if that is refused.
    #[track_caller]
    pub(crate) fn abandoned(&self) -> impl Future<Output = ()> + Send + '_ {
        expected(AbandonOutcome::Abandoned, self.abandon())
    }

    /// Renews, and fails the case if that is refused. How long the lease then runs.
    #[track_caller]
    pub(crate) fn renewed(&self, lease: Duration) -> impl Future<Output = Duration> + Send + '_ {
        let at = Location::caller();
        let renew = self.renew(lease);
        async move {
            match renew.await {
                RenewOutcome::Renewed { lease_left } => lease_left,
                other => panic!("{at}: expected the lease to be renewed, and got {other:?}"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn get(&self) -> impl Future<Output = Option<RecordView>> + Send + '_ {
        answered(self.store.get(&self.key))
    }

    /// What the key's record looks like, without what time alone changes.
    #[track_caller]
    pub(crate) fn look(&self) -> impl Future<Output = Option<Look>> + Send + '_ {
        let get = self.get();
        async move { get.await.map(Look::from) }
    }
}

/// A record without what time alone changes, so that two looks at an unchanged one are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) attempt: u32,
    pub(crate) fence: FencingToken,
    pub(crate) fingerprint: idem_core::Fingerprint,
    /// `None` while it is in flight.
    pub(crate) answer: Option<Answer>,
}

impl From<RecordView> for Look {
    fn from(view: RecordView) -> Self {
        let answer = match view.state {
            StateView::InFlight { .. } => None,
            StateView::Completed { answer, .. } => Some(answer),
        };
        Self { attempt: view.attempt, fence: view.fence, fingerprint: view.fingerprint, answer }
    }
}

/// An answer of plain bytes.
pub(crate) fn bytes(body: impl Into<Bytes>) -> Answer {
    StoredValue::bytes(body).into()
}

/// The outcome of a store's future; an error of the store fails the case and names the line that called.
#[track_caller]
fn answered<'a, T: Debug + 'a>(
    call: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> impl Future<Output = T> + Send + 'a {
    let at = Location::caller();
    async move {
        match call.await {
            Ok(outcome) => outcome,
            Err(error) => panic!("{at}: the store failed: {error} ({:?})", std::error::Error::source(&error)),
        }
    }
}

/// Fails the case, and names the line that called, unless the outcome is the expected one.
#[track_caller]
fn expected<'a, T: Debug + PartialEq + Send + 'a>(
    expected: T,
    call: impl Future<Output = T> + Send + 'a,
) -> impl Future<Output = ()> + Send + 'a {
    let at = Location::caller();
    async move {
        let outcome = call.await;
        assert!(outcome == expected, "{at}: expected {expected:?}, and got {outcome:?}");
    }
}
