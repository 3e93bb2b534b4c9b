//! [`Shared`]: what the parts of one engine have in common.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::codec::Codec;
use crate::engine::heartbeat::Heartbeat;
use crate::engine::single_flight::SingleFlight;
use crate::engine::tracker::RunTracker;
use crate::policy::{ExpiredLeasePolicy, HandlerErrorPolicy, InFlightPolicy, StoreFailurePolicy};
use crate::store::{ReservationStore, Span};

/// How many reservations without a known outcome an engine releases at once. While a store is down every request leaves
/// one; the rest is left to the leases, so that the releases do not keep the store down.
const RELEASES_AT_ONCE: usize = 64;

/// Each reservation keeps it, so it is dropped with the last clone of the engine and the last reservation.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn ReservationStore>,
    pub(crate) settings: Settings,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) single_flight: Arc<SingleFlight>,
    pub(crate) tracker: Arc<RunTracker>,
    /// Limits the releases that [`ReleaseOnDrop`](crate::engine::settlement::ReleaseOnDrop) sends.
    pub(crate) releases: Arc<Semaphore>,
}

/// The settings of an engine, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) lease: Span,
    pub(crate) retention: Span,
    pub(crate) record_ttl: Span,
    pub(crate) max_renewal: Duration,
    pub(crate) reserve_timeout: Duration,
    pub(crate) complete_timeout: Duration,
    pub(crate) in_flight: InFlightPolicy,
    pub(crate) expired_lease: ExpiredLeasePolicy,
    pub(crate) store_failure: StoreFailurePolicy,
    pub(crate) handler_error: HandlerErrorPolicy,
    pub(crate) codec: Codec,
    pub(crate) schema: u32,
}

impl Shared {
    pub(crate) fn new(store: Arc<dyn ReservationStore>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            heartbeat: Heartbeat::new(Arc::clone(&store), settings.lease, settings.max_renewal),
            store,
            settings,
            single_flight: SingleFlight::new(),
            tracker: Arc::default(),
            releases: Arc::new(Semaphore::new(RELEASES_AT_ONCE)),
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.heartbeat.close();
    }
}
