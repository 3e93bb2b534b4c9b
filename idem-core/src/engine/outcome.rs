//! What the engine answers: [`Outcome`] and [`ExecuteError`] for a whole execution, [`Admission`] for a reservation.

use std::time::Duration;

use thiserror::Error;

use crate::{Attempt, CodecError, Reservation, StoreError, StoredValue};

/// How an execution ended. Exhaustive on purpose: whoever answers a client has to decide about each.
#[derive(Clone, Debug)]
#[must_use = "an outcome says whether the handler ran and whose answer this is"]
pub enum Outcome<T> {
    /// The handler ran, and its value is stored for duplicates. (If the store called it too large, it is recorded that
    /// the request was executed; duplicates are told [`NotKept`](Self::NotKept) then.)
    Executed(T),
    /// The handler did not run now: this is the answer of the run that was accepted.
    ///
    /// It can also be the answer to a handler that did run, and lost its lease to a run that was accepted.
    Replayed(T),
    /// Another caller is running the same request.
    InFlight {
        /// When asking again makes sense: the rest of the other's lease, as far as it is known.
        retry_after: Duration,
    },
    /// The key was used for another request. Nothing of that request is shown.
    FingerprintMismatch,
    /// An earlier attempt's lease is over, nobody knows what it did, and
    /// [`Refuse`](crate::ExpiredLeasePolicy::Refuse) forbids to run again. An operator has to
    /// [resolve](crate::Engine::resolve) the key.
    LeaseExpired {
        /// The number of that attempt.
        attempt: u32,
    },
    /// The request was executed before, but its answer was not kept.
    NotKept,
    /// The handler ran without any protection: the store could not be reached, and
    /// [`FailOpen`](crate::StoreFailurePolicy::FailOpen) is set. Nothing is recorded.
    Unprotected(T),
    /// The handler ran, but its key was lost while it did, and no accepted answer was found in its place: another
    /// attempt may be running. Its value is *not* the request's answer.
    LeaseLost(T),
    /// The handler ran, but the store did not acknowledge the completion in time. Duplicates may be told that the
    /// request is in flight, and a later attempt may run.
    Unrecorded {
        /// What the handler returned.
        value: T,
        /// The store's last error.
        error: StoreError,
    },
}

/// Why an execution has no outcome.
#[derive(Debug, Error)]
pub enum ExecuteError<E> {
    /// The handler ran and returned this error. The key was released, or abandoned if the engine is set so.
    #[error("the handler failed")]
    Handler(#[source] E),
    /// The store failed before the handler ran.
    #[error("the store failed, and the handler did not run")]
    Store(#[from] StoreError),
    /// A value could not be encoded, or a stored answer could not be decoded.
    #[error("the answer could not be converted")]
    Codec(#[from] CodecError),
}

/// Whether a caller may run, as [`Engine::reserve`](crate::Engine::reserve) answers.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the large variant is the common one, and is moved once")]
#[must_use = "an admission says whether to run, and dropping a granted one abandons the key"]
pub enum Admission {
    /// Run, then settle the reservation.
    Granted(Reservation),
    /// Run without protection: the store could not be reached, and the engine is set to fail open.
    Unprotected(Attempt),
    /// Do not run: this is the stored answer.
    Replayed(StoredValue),
    /// Do not run: another caller is.
    InFlight {
        /// When asking again makes sense.
        retry_after: Duration,
    },
    /// Do not run: the key was used for another request.
    FingerprintMismatch,
    /// Do not run: an earlier attempt's lease is over, and taking over is refused.
    LeaseExpired {
        /// The number of that attempt.
        attempt: u32,
    },
    /// Do not run: the request was executed before, but its answer was not kept.
    NotKept,
}
