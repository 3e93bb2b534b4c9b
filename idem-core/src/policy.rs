//! The policies of an engine.

use std::time::Duration;

/// What a duplicate gets while another caller runs the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum InFlightPolicy {
    /// It gets [`InFlight`](crate::Outcome::InFlight) at once.
    #[default]
    Reject,
    /// It waits for the other caller's answer. If there is none in time, it gets
    /// [`InFlight`](crate::Outcome::InFlight).
    Wait {
        /// How long it waits at most.
        timeout: Duration,
    },
}

/// What a reservation does when the owner's lease is over and the owner has not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ExpiredLeasePolicy {
    /// It takes the key over and runs as a further attempt. The earlier one may have had its effect.
    #[default]
    TakeOver,
    /// It does not run. The key stays blocked until an operator [resolves](crate::Engine::resolve) it, or its record
    /// expires.
    Refuse,
}

/// What happens to a request while the store cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum StoreFailurePolicy {
    /// The handler does not run, and the caller gets the store's error.
    #[default]
    FailClosed,
    /// The handler runs without protection, and the outcome is [`Unprotected`](crate::Outcome::Unprotected). Duplicates
    /// are possible.
    ///
    /// It applies only if the *reservation* failed with `Unavailable` or `Timeout`. If the store answers with any other
    /// error, or another owner is known to have the key, the handler does not run. Under [`InFlightPolicy::Wait`] the
    /// callers of one request in this process run one at a time.
    FailOpen,
}

/// What the engine does with a key when its handler returns an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum HandlerErrorPolicy {
    /// The error means that nothing happened. The key is free, and the next caller is attempt 1 again.
    #[default]
    Release,
    /// Something may have happened. The next caller may run at once, and sees it by its attempt number, which is above 1.
    Abandon,
}
