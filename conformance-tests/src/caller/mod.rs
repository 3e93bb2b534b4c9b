//! [`Caller`]: a short way to call a store in tests.

mod checks;
mod operations;

use std::sync::Arc;
use std::time::Duration;

use idem_core::store::{OwnerToken, RecordView, ReserveRequest, StateView};
use idem_core::{Answer, ExpiredLeasePolicy, FencingToken, Fingerprint, Key, ReservationStore};

use crate::values::{HOUR, fingerprint, span};

/// One caller of one key: a store, the key, and a request with its own token.
///
/// A test that calls a [`ReservationStore`] directly spends most of its lines on requests, tokens and matches. A caller
/// has three methods for each operation, for example:
///
/// - [`reserve`](Self::reserve) returns the outcome. An error of the store fails the test.
/// - [`reserved`](Self::reserved) also fails the test unless the operation succeeds.
/// - [`try_reserve`](Self::try_reserve) returns the store's result, for tests of errors.
///
/// The failure message names the line of the test that made the call.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idem_conformance::{Caller, Reference};
/// use idem_core::{CompleteOutcome, Key};
///
/// let owner = Caller::new(Reference::new(), Key::new("scope", "name")?);
/// assert_eq!(owner.reserved().await.attempt, 1);
/// owner.completed("the receipt").await;
///
/// let duplicate = owner.duplicate();
/// duplicate.replayed("the receipt").await;
/// assert_eq!(duplicate.complete("another receipt").await, CompleteOutcome::Lost);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Caller {
    store: Arc<dyn ReservationStore>,
    key: Key,
    request: ReserveRequest,
}

/// What a caller gets with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The number of the attempt.
    pub attempt: u32,
    /// Its fencing token.
    pub fence: FencingToken,
    /// How long the lease still runs.
    pub lease_left: Duration,
}

/// The parts of a record that do not change as time passes. Two snapshots of an unchanged record are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of the attempt.
    pub attempt: u32,
    /// Its fencing token.
    pub fence: FencingToken,
    /// The fingerprint of its request.
    pub fingerprint: Fingerprint,
    /// The stored answer; `None` while the record is in flight.
    pub answer: Option<Answer>,
}

impl Caller {
    /// A caller with a random token. It asks for a lease of an hour, with the fingerprint of the payload `"payload"`.
    pub fn new(store: impl ReservationStore, key: Key) -> Self {
        let request = ReserveRequest::new(OwnerToken::random(), fingerprint("payload"), span(HOUR));
        Self::with_request(Arc::new(store), key, request)
    }

    pub(crate) fn with_request(store: Arc<dyn ReservationStore>, key: Key, request: ReserveRequest) -> Self {
        Self { store, key, request }
    }

    /// Another caller of the same key, with a token of its own and otherwise the same request.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut duplicate = self.clone();
        duplicate.request.owner = OwnerToken::random();
        duplicate
    }

    /// Sets the lease that it asks for.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.request.lease = span(lease);
        self
    }

    /// Sets how long its record is kept after the end of the lease.
    #[must_use]
    pub fn record_ttl(mut self, record_ttl: Duration) -> Self {
        self.request.record_ttl = span(record_ttl);
        self
    }

    /// Sets the payload whose fingerprint it sends.
    #[must_use]
    pub fn payload(mut self, payload: &str) -> Self {
        self.request.fingerprint = fingerprint(payload);
        self
    }

    /// Makes it refuse to take over expired leases.
    #[must_use]
    pub fn refusing(mut self) -> Self {
        self.request.on_expired_lease = ExpiredLeasePolicy::Refuse;
        self
    }

    /// The same token, key and request, sent through another handle.
    #[must_use]
    pub fn through(mut self, store: Arc<dyn ReservationStore>) -> Self {
        self.store = store;
        self
    }

    /// Its store.
    pub fn store(&self) -> &Arc<dyn ReservationStore> {
        &self.store
    }

    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its token.
    pub fn owner(&self) -> OwnerToken {
        self.request.owner
    }
}

impl From<RecordView> for Snapshot {
    fn from(view: RecordView) -> Self {
        let answer = match view.state {
            StateView::InFlight { .. } => None,
            StateView::Completed { answer, .. } => Some(answer),
        };
        Self { attempt: view.attempt, fence: view.fence, fingerprint: view.fingerprint, answer }
    }
}
