//! [`EngineBuilder`]: what an engine is told before it starts.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;

use crate::engine::Shared;
use crate::engine::given_up::RELEASES_AT_ONCE;
use crate::engine::heartbeat::Heartbeat;
use crate::engine::shutdown::Activity;
use crate::engine::single_flight::Flights;
use crate::store::Span;
use crate::{
    Codec, Engine, ExpiredLeasePolicy, HandlerErrorPolicy, InFlightPolicy, ReservationStore,
    StoreFailurePolicy,
};

/// Makes an [`Engine`]. Every setting has a default; [`build`](Self::build) checks them.
///
/// ```no_run
/// # fn example(store: impl idem_core::ReservationStore) -> Result<(), idem_core::InvalidPolicy> {
/// use std::time::Duration;
/// use idem_core::{Engine, InFlightPolicy};
///
/// let engine = Engine::builder(store)
///     .lease(Duration::from_secs(30))
///     .in_flight(InFlightPolicy::Wait { timeout: Duration::from_secs(5) })
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct EngineBuilder {
    store: Arc<dyn ReservationStore>,
    lease: Duration,
    retention: Duration,
    record_ttl: Option<Duration>,
    max_renewal: Option<Duration>,
    reserve_timeout: Duration,
    complete_timeout: Option<Duration>,
    in_flight: InFlightPolicy,
    expired_lease: ExpiredLeasePolicy,
    store_failure: StoreFailurePolicy,
    handler_error: HandlerErrorPolicy,
    codec: Codec,
    schema: u32,
}

impl EngineBuilder {
    pub(crate) fn new(store: Arc<dyn ReservationStore>) -> Self {
        Self {
            store,
            lease: Duration::from_secs(60),
            retention: Duration::from_secs(24 * 3600),
            record_ttl: None,
            max_renewal: None,
            reserve_timeout: Duration::from_secs(5),
            complete_timeout: None,
            in_flight: InFlightPolicy::default(),
            expired_lease: ExpiredLeasePolicy::default(),
            store_failure: StoreFailurePolicy::default(),
            handler_error: HandlerErrorPolicy::default(),
            codec: Codec::default(),
            schema: 0,
        }
    }

    /// How long a silent owner blocks its key, after a crash say. It is renewed every third of it while the handler
    /// runs. Default: 60 seconds.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long an answer is kept, from its completion. Default: 24 hours.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// How long an undecided record is remembered after its lease: as long as that, a crash stays visible to the next
    /// attempt. Default: the retention.
    pub fn record_ttl(mut self, record_ttl: Duration) -> Self {
        self.record_ttl = Some(record_ttl);
        self
    }

    /// How long after its reservation a run is renewed at the most, so that a handler that hangs does not hold its key
    /// for ever. Below the lease it means that nothing is renewed. Default: 10 leases.
    pub fn max_renewal(mut self, max_renewal: Duration) -> Self {
        self.max_renewal = Some(max_renewal);
        self
    }

    /// How long a reservation may take, sent again included, before the store counts as failed. Also how long a caller
    /// waits for the acknowledgement of a release or an abandon. Default: 5 seconds.
    pub fn reserve_timeout(mut self, timeout: Duration) -> Self {
        self.reserve_timeout = timeout;
        self
    }

    /// How long a completion is tried before the run counts as [`Unrecorded`](crate::Outcome::Unrecorded). Default:
    /// the lease, but at least 30 seconds.
    pub fn complete_timeout(mut self, timeout: Duration) -> Self {
        self.complete_timeout = Some(timeout);
        self
    }

    /// What a duplicate of a running request is answered. Default: it is told so at once.
    pub fn in_flight(mut self, policy: InFlightPolicy) -> Self {
        self.in_flight = policy;
        self
    }

    /// What happens when an earlier owner's lease is over. Default: the next caller takes over.
    pub fn expired_lease(mut self, policy: ExpiredLeasePolicy) -> Self {
        self.expired_lease = policy;
        self
    }

    /// What happens while the store cannot be reached. Default: the handler does not run.
    pub fn store_failure(mut self, policy: StoreFailurePolicy) -> Self {
        self.store_failure = policy;
        self
    }

    /// What a handler's error says about its effects. Default: that there were none.
    pub fn handler_error(mut self, policy: HandlerErrorPolicy) -> Self {
        self.handler_error = policy;
        self
    }

    /// How handler values become bytes. Default: JSON.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Your number for the shape of the handler's values. Raise it when the type changes in a way that old bytes would
    /// be read wrong; records of another number are an error then, and their requests do not run again. Default: 0.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// Makes the engine. Fails if a duration is zero or above ten years.
    pub fn build(self) -> Result<Engine, InvalidPolicy> {
        let lease = checked("lease", self.lease)?;
        let retention = checked("retention", self.retention)?;
        let record_ttl = checked("record_ttl", self.record_ttl.unwrap_or(self.retention))?;
        let max_renewal = self.max_renewal.unwrap_or(self.lease.saturating_mul(10).min(Span::MAX.into()));
        let max_renewal = checked("max_renewal", max_renewal)?;
        let complete_timeout = self.complete_timeout.unwrap_or(self.lease.max(Duration::from_secs(30)));
        if let InFlightPolicy::Wait { timeout } = self.in_flight {
            checked("in_flight timeout", timeout)?;
        }
        let policy = Policy {
            lease,
            retention,
            record_ttl,
            reserve_timeout: checked("reserve_timeout", self.reserve_timeout)?.into(),
            complete_timeout: checked("complete_timeout", complete_timeout)?.into(),
            in_flight: self.in_flight,
            expired_lease: self.expired_lease,
            store_failure: self.store_failure,
            handler_error: self.handler_error,
            codec: self.codec,
            schema: self.schema,
        };
        Ok(Engine::new(Shared {
            heartbeat: Heartbeat::new(Arc::clone(&self.store), lease, max_renewal.into()),
            store: self.store,
            policy,
            flights: Flights::new(),
            activity: Activity::default(),
            given_up: Arc::new(Semaphore::new(RELEASES_AT_ONCE)),
        }))
    }
}

/// A setting of the engine that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the engine's {setting} is {value:?}; make it more than zero and at most ten years")]
#[non_exhaustive]
pub struct InvalidPolicy {
    /// Which setting it is.
    pub setting: &'static str,
    /// What it was.
    pub value: Duration,
}

/// The checked settings.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) lease: Span,
    pub(crate) retention: Span,
    pub(crate) record_ttl: Span,
    pub(crate) reserve_timeout: Duration,
    pub(crate) complete_timeout: Duration,
    pub(crate) in_flight: InFlightPolicy,
    pub(crate) expired_lease: ExpiredLeasePolicy,
    pub(crate) store_failure: StoreFailurePolicy,
    pub(crate) handler_error: HandlerErrorPolicy,
    pub(crate) codec: Codec,
    pub(crate) schema: u32,
}

fn checked(setting: &'static str, value: Duration) -> Result<Span, InvalidPolicy> {
    Span::new(value).map_err(|_| InvalidPolicy { setting, value })
}
