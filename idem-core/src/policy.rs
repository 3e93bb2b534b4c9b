//! The decisions that a user makes for the engine, one enum each.

use std::time::Duration;

/// What a caller is answered while another runs the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum InFlightPolicy {
    /// It is told so at once.
    #[default]
    Reject,
    /// It waits for the other's answer, and is told so only if there is none in time.
    Wait {
        /// How long a caller waits at most.
        timeout: Duration,
    },
}

/// What a reservation does when the current owner's lease is over and the owner has not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ExpiredLeasePolicy {
    /// It takes the key over and runs, as a further attempt: the earlier one may have had its effect.
    #[default]
    TakeOver,
    /// It does not run. The key stays blocked until an operator resolves it or its record expires.
    Refuse,
}

/// What happens to a request when the store cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum StoreFailurePolicy {
    /// The handler does not run, and the caller is given the store's error.
    #[default]
    FailClosed,
    /// The handler runs without protection, and the outcome says so. Duplicates are possible.
    ///
    /// This covers only a *reservation* that failed as `Unavailable` or `Timeout`. A store that answers that a
    /// record is corrupt, incompatible or that it is misconfigured is never run past; nor is an owner that is known
    /// to have the key. Under [`InFlightPolicy::Wait`] the callers of one request in this process run one at a time.
    FailOpen,
}

/// What the engine does with a key when its handler returns an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum HandlerErrorPolicy {
    /// The error means that nothing happened: the key is free, and the next caller is attempt 1 again.
    #[default]
    Release,
    /// The error proves nothing: the next caller may run at once, and its attempt number tells it to look first.
    Abandon,
}
