//! [`Outcome`] and [`ExecuteError`]: how an execution ends.

use std::time::Duration;

use thiserror::Error;

use crate::codec::CodecError;
use crate::error::StoreError;

/// How an execution ended. Exhaustive on purpose: code that answers a client has to handle each variant.
#[derive(Clone, Debug)]
#[must_use = "an outcome says whether the handler ran and whose answer this is"]
pub enum Outcome<T> {
    /// The handler ran, and its value is stored for duplicates.
    ///
    /// If the value is too large for the store, the store records only that the request was executed. Duplicates get
    /// [`NotKept`](Self::NotKept) then.
    Executed(T),
    /// The answer of an accepted run. The handler did not run now.
    ///
    /// A handler that ran can get it too: when it lost its lease, and the run that took the key over was accepted.
    Replayed(T),
    /// Another caller runs this request now.
    InFlight {
        /// How long the other caller's lease still lasts, as far as it is known: when to ask again.
        retry_after: Duration,
    },
    /// The key was used for another request. Nothing of that request is shown.
    FingerprintMismatch,
    /// The lease of an earlier attempt is over, its effect is unknown, and the engine is set to
    /// [`Refuse`](crate::ExpiredLeasePolicy::Refuse). An operator has to [resolve](crate::Engine::resolve) the key.
    LeaseExpired {
        /// The number of that attempt.
        attempt: u32,
    },
    /// The request was executed before, but its answer was not kept.
    NotKept,
    /// The handler ran without protection: the store could not be reached, and the engine is set to
    /// [`FailOpen`](crate::StoreFailurePolicy::FailOpen). Nothing is recorded.
    Unprotected(T),
    /// The handler ran, but it lost its key, and no accepted answer was found: another attempt may be running. The value
    /// is *not* the request's answer.
    LeaseLost(T),
    /// The handler ran, but the store did not acknowledge the completion in time. Duplicates may get
    /// [`InFlight`](Self::InFlight), and a later attempt may run.
    Unrecorded {
        /// What the handler returned.
        value: T,
        /// The store's last error.
        error: StoreError,
    },
}

impl<T> Outcome<T> {
    /// The value of this outcome, if it has one.
    ///
    /// - [`Executed`](Self::Executed) and [`Replayed`](Self::Replayed) have the request's answer.
    /// - [`Unprotected`](Self::Unprotected), [`LeaseLost`](Self::LeaseLost) and [`Unrecorded`](Self::Unrecorded) have
    ///   what this handler returned. Duplicates may get another value. Match on the outcome where that matters.
    /// - All others have none.
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Executed(value)
            | Self::Replayed(value)
            | Self::Unprotected(value)
            | Self::LeaseLost(value)
            | Self::Unrecorded { value, .. } => Some(value),
            Self::InFlight { .. } | Self::FingerprintMismatch | Self::LeaseExpired { .. } | Self::NotKept => {
                None
            }
        }
    }
}

/// Why an execution has no outcome.
#[derive(Debug, Error)]
pub enum ExecuteError<E> {
    /// The handler returned this error. The key was released or abandoned, as the engine's
    /// [`HandlerErrorPolicy`](crate::HandlerErrorPolicy) says.
    #[error("the handler failed")]
    Handler(#[source] E),
    /// The store failed before the handler ran.
    #[error("the store failed, and the handler did not run")]
    Store(#[from] StoreError),
    /// The handler's value could not be encoded, or a stored value could not be decoded.
    #[error("the answer could not be converted")]
    Codec(#[from] CodecError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Effect, Operation, StoreErrorKind};

    #[test]
    fn an_outcome_has_a_value_if_a_handler_returned_one() {
        let error = StoreError::new(StoreErrorKind::Timeout, Effect::Unknown, Operation::Complete);
        let with_value = [
            Outcome::Executed(7),
            Outcome::Replayed(7),
            Outcome::Unprotected(7),
            Outcome::LeaseLost(7),
            Outcome::Unrecorded { value: 7, error },
        ];
        assert!(with_value.into_iter().all(|outcome| outcome.into_value() == Some(7)));
        let without: [Outcome<u32>; 4] = [
            Outcome::InFlight { retry_after: Duration::ZERO },
            Outcome::FingerprintMismatch,
            Outcome::LeaseExpired { attempt: 1 },
            Outcome::NotKept,
        ];
        assert!(without.into_iter().all(|outcome| outcome.into_value().is_none()));
    }
}
