//! [`EngineBuilder`]: the settings of an engine.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::codec::Codec;
use crate::engine::Engine;
use crate::engine::shared::Settings;
use crate::policy::{ExpiredLeasePolicy, HandlerErrorPolicy, InFlightPolicy, StoreFailurePolicy};
use crate::store::{ReservationStore, Span};

/// Makes an [`Engine`]. Every setting has a default. [`build`](Self::build) checks them all.
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

impl Engine {
    /// Starts the settings of an engine that keeps its records in `store`.
    pub fn builder(store: impl ReservationStore) -> EngineBuilder {
        EngineBuilder::new(Arc::new(store))
    }
}

impl EngineBuilder {
    fn new(store: Arc<dyn ReservationStore>) -> Self {
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

    /// How long a key stays blocked after its owner goes silent, for example after a crash. Default: 60 seconds.
    ///
    /// The engine renews the lease every third of it while the handler runs, so a handler may take longer. A short lease
    /// means a short wait after a crash. A long one means fewer renewals, and more time to survive a store that is down
    /// or a process that is paused.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long an answer is kept and replayed, counted from its completion. Default: 24 hours.
    ///
    /// After that, the same key is a new request. Make it longer than your clients retry.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// How long an unfinished record is kept after its lease ends. Default: the retention.
    ///
    /// Until then the next attempt can see that an earlier one crashed. After that the request runs as attempt 1 again.
    pub fn record_ttl(mut self, record_ttl: Duration) -> Self {
        self.record_ttl = Some(record_ttl);
        self
    }

    /// How long a run is renewed, counted from its reservation. Default: 10 leases.
    ///
    /// It limits how long a handler that hangs can block its key. If it is shorter than the lease, nothing is renewed.
    pub fn max_renewal(mut self, max_renewal: Duration) -> Self {
        self.max_renewal = Some(max_renewal);
        self
    }

    /// How long a reservation may take, retries included, before it fails with `Timeout`. Default: 5 seconds.
    ///
    /// It is also how long a caller waits for the acknowledgement of a release or an abandon.
    pub fn reserve_timeout(mut self, timeout: Duration) -> Self {
        self.reserve_timeout = timeout;
        self
    }

    /// How long a completion is retried before the run ends as [`Unrecorded`](crate::Outcome::Unrecorded). Default: the
    /// lease, and at least 30 seconds.
    pub fn complete_timeout(mut self, timeout: Duration) -> Self {
        self.complete_timeout = Some(timeout);
        self
    }

    /// What a duplicate gets while the request is running. Default: [`InFlight`](crate::Outcome::InFlight) at once
    /// ([`Reject`](InFlightPolicy::Reject)).
    pub fn in_flight(mut self, policy: InFlightPolicy) -> Self {
        self.in_flight = policy;
        self
    }

    /// What happens when the lease of an earlier owner is over. Default: the next caller takes over
    /// ([`TakeOver`](ExpiredLeasePolicy::TakeOver)).
    pub fn expired_lease(mut self, policy: ExpiredLeasePolicy) -> Self {
        self.expired_lease = policy;
        self
    }

    /// What happens while the store cannot be reached. Default: the handler does not run
    /// ([`FailClosed`](StoreFailurePolicy::FailClosed)).
    pub fn store_failure(mut self, policy: StoreFailurePolicy) -> Self {
        self.store_failure = policy;
        self
    }

    /// What a handler's error means for its key. Default: nothing happened, and the key is free
    /// ([`Release`](HandlerErrorPolicy::Release)).
    pub fn handler_error(mut self, policy: HandlerErrorPolicy) -> Self {
        self.handler_error = policy;
        self
    }

    /// How the values of handlers are written. Default: JSON.
    ///
    /// A value that was stored with another codec is an error ([`FormatMismatch`](crate::CodecError::FormatMismatch)),
    /// and its request does not run again.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Your version number for the type of the handlers' values. Default: 0.
    ///
    /// Raise it when the type changes in a way that reads old bytes wrong. A value that was stored with another number is
    /// an error ([`FormatMismatch`](crate::CodecError::FormatMismatch)), and its request does not run again.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// Makes the engine. Fails if a duration is zero or longer than ten years.
    pub fn build(self) -> Result<Engine, InvalidPolicy> {
        let max_renewal = self.max_renewal.unwrap_or(self.lease.saturating_mul(10).min(Span::MAX.into()));
        let complete_timeout = self.complete_timeout.unwrap_or(self.lease.max(Duration::from_secs(30)));
        let settings = Settings {
            lease: checked("lease", self.lease)?,
            retention: checked("retention", self.retention)?,
            record_ttl: checked("record_ttl", self.record_ttl.unwrap_or(self.retention))?,
            max_renewal: checked("max_renewal", max_renewal)?.into(),
            reserve_timeout: checked("reserve_timeout", self.reserve_timeout)?.into(),
            complete_timeout: checked("complete_timeout", complete_timeout)?.into(),
            in_flight: self.in_flight,
            expired_lease: self.expired_lease,
            store_failure: self.store_failure,
            handler_error: self.handler_error,
            codec: self.codec,
            schema: self.schema,
        };
        if let InFlightPolicy::Wait { timeout } = self.in_flight {
            checked("in_flight timeout", timeout)?;
        }
        Ok(Engine::new(self.store, settings))
    }
}

/// A setting of the engine that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the engine's {setting} is {value:?}; make it more than zero and at most ten years")]
#[non_exhaustive]
pub struct InvalidPolicy {
    /// The name of the setting.
    pub setting: &'static str,
    /// Its value.
    pub value: Duration,
}

fn checked(setting: &'static str, value: Duration) -> Result<Span, InvalidPolicy> {
    Span::new(value).map_err(|_| InvalidPolicy { setting, value })
}
