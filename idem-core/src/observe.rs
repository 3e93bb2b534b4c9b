//! The events and counters of the engine: `tracing` events and, with the feature `metrics`, counters.
//!
//! Names are stable. A key is shown as its digest. Payloads are never shown.
//!
//! | event (target `idem_core`) | level | when |
//! |---|---|---|
//! | `idem.takeover` | warn | a run begins, and an earlier attempt may have had its effect |
//! | `idem.unprotected` | warn | a handler runs although the store could not be reached |
//! | `idem.lease_lost` | warn | the store says that a live run lost its key |
//! | `idem.renewal_failed` | warn | the heartbeat could not renew a lease; it tries again sooner |
//! | `idem.heartbeat_ended` | warn | a run is older than `max_renewal`; its lease will run out |
//! | `idem.unrecorded` | error | the store did not acknowledge a completion in time |
//! | `idem.not_kept` | warn | the store refused an answer as too large; "not kept" was recorded |
//! | `idem.unsettled` | warn | the store did not acknowledge a release or an abandon in the background; the lease will run out |
//! | `idem.resend` | debug | an operation of unknown outcome is sent again |
//!
//! Every execution runs in a span `idem.execute` (debug) with the field `key`; `idem.resend` is an event in it.
//!
//! | counter | labels |
//! |---|---|
//! | `idem_outcomes_total` | `outcome`: `executed`, `replayed`, `in_flight`, `fingerprint_mismatch`, `lease_expired`, `not_kept`, `unprotected`, `lease_lost`, `unrecorded`, `handler_error`, `store_error`, `codec_error` |
//! | `idem_takeovers_total` | |
//! | `idem_renewal_failures_total` | |

use std::error::Error;
use std::fmt;

use tracing::{debug, error, warn};

use crate::engine::run::Run;
use crate::{ExecuteError, Key, Operation, Outcome, StoreError};

pub(crate) fn takeover(run: &Run) {
    count("idem_takeovers_total");
    warn!(
        name: "idem.takeover",
        target: "idem_core",
        key = %run.key.digest(),
        attempt = run.attempt,
        "an earlier attempt may have had its effect"
    );
}

pub(crate) fn unprotected(key: &Key, error: &StoreError) {
    warn!(name: "idem.unprotected", target: "idem_core", key = %key.digest(), error = %Chain(error), "running without protection");
}

pub(crate) fn lease_lost(run: &Run) {
    warn!(
        name: "idem.lease_lost",
        target: "idem_core",
        key = %run.key.digest(),
        attempt = run.attempt,
        "the run has lost its key"
    );
}

pub(crate) fn renewal_failed(run: &Run, error: &StoreError) {
    count("idem_renewal_failures_total");
    warn!(name: "idem.renewal_failed", target: "idem_core", key = %run.key.digest(), error = %Chain(error), "a lease was not renewed");
}

pub(crate) fn heartbeat_ended(run: &Run) {
    warn!(
        name: "idem.heartbeat_ended",
        target: "idem_core",
        key = %run.key.digest(),
        attempt = run.attempt,
        "the run is too old to be renewed; its lease will run out"
    );
}

pub(crate) fn unrecorded(run: &Run, error: &StoreError) {
    error!(
        name: "idem.unrecorded",
        target: "idem_core",
        key = %run.key.digest(),
        attempt = run.attempt,
        error = %Chain(error),
        "the handler ran, but the store did not acknowledge its completion"
    );
}

pub(crate) fn not_kept(run: &Run, error: &StoreError) {
    warn!(name: "idem.not_kept", target: "idem_core", key = %run.key.digest(), error = %Chain(error), "the answer was not kept");
}

pub(crate) fn unsettled(run: &Run, error: &StoreError) {
    warn!(
        name: "idem.unsettled",
        target: "idem_core",
        key = %run.key.digest(),
        operation = %error.operation,
        error = %Chain(error),
        "the store did not acknowledge the end of a run; the lease will run out"
    );
}

pub(crate) fn resend(operation: Operation, error: &StoreError) {
    debug!(
        name: "idem.resend",
        target: "idem_core",
        %operation,
        error = %Chain(error),
        "sending again with the same token"
    );
}

/// An error with its sources, which `Display` leaves out.
struct Chain<'a>(&'a StoreError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Counts how an execution ended.
pub(crate) fn executed<T, E>(result: &Result<Outcome<T>, ExecuteError<E>>) {
    #[cfg(feature = "metrics")]
    metrics::counter!("idem_outcomes_total", "outcome" => match result {
        Ok(Outcome::Executed(_)) => "executed",
        Ok(Outcome::Replayed(_)) => "replayed",
        Ok(Outcome::InFlight { .. }) => "in_flight",
        Ok(Outcome::FingerprintMismatch) => "fingerprint_mismatch",
        Ok(Outcome::LeaseExpired { .. }) => "lease_expired",
        Ok(Outcome::NotKept) => "not_kept",
        Ok(Outcome::Unprotected(_)) => "unprotected",
        Ok(Outcome::LeaseLost(_)) => "lease_lost",
        Ok(Outcome::Unrecorded { .. }) => "unrecorded",
        Err(ExecuteError::Handler(_)) => "handler_error",
        Err(ExecuteError::Store(_)) => "store_error",
        Err(ExecuteError::Codec(_)) => "codec_error",
    })
    .increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = result;
}

fn count(name: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(name).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = name;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, StoreErrorKind};

    #[test]
    fn an_error_is_shown_with_all_of_its_sources() {
        let of = |operation| StoreError::new(StoreErrorKind::Full, Effect::NotApplied, operation);
        let inner = of(Operation::Sweep).with_source("disk I/O error 13");
        let outer = of(Operation::Complete).with_source(inner.clone());
        assert_eq!(Chain(&outer).to_string(), format!("{outer}: {inner}: disk I/O error 13"));
        assert!(outer.to_string().starts_with("complete: the store is full"));
    }
}
