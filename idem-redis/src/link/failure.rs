//! [`Failure`]: a command failed, and whether it may have been carried out.

use std::io;

use idem_core::Effect;
use redis::{ErrorKind, RedisError};

/// A command failed.
///
/// What kind of failure that is says [`error`](crate::error).
///
/// - An error that the *server* answered with: `NotApplied`, since it then did not carry the command out. (A script that
///   fails in its middle has; ours check before they write.)
/// - Never sent: `NotApplied`.
/// - Everything else: `Unknown`, since it may have arrived.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: RedisError,
    pub(crate) effect: Effect,
}

impl Failure {
    pub(crate) fn not_applied(error: RedisError) -> Self {
        Self { error, effect: Effect::NotApplied }
    }

    pub(crate) fn unknown(error: RedisError) -> Self {
        Self { error, effect: Effect::Unknown }
    }
}

/// Whether we stopped waiting. The system's own timeouts (keepalive) have a number and mean that the connection is gone.
pub(crate) fn is_own_timeout(error: &RedisError) -> bool {
    error.is_timeout()
        && std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::sync::Arc<dyn std::error::Error + Send + Sync>>())
            .and_then(|source| source.downcast_ref::<io::Error>())
            .is_none_or(|error| error.raw_os_error().is_none())
}

/// A command waited for its turn until its time was up.
pub(super) fn crowded(max_in_flight: usize) -> Failure {
    Failure::not_applied(RedisError::from((
        ErrorKind::Io,
        "too many commands are under way to the server; slow down, or raise `max_in_flight`",
        max_in_flight.to_string(),
    )))
}

/// There is no connection, and the last attempt to make one failed with this.
pub(super) fn unconnected(error: RedisError) -> Failure {
    // Trying to connect may itself have timed out. For the command it makes no difference: it was never sent.
    let error = if is_own_timeout(&error) {
        RedisError::from((ErrorKind::Io, "the server does not answer to attempts to connect"))
    } else {
        error
    };
    Failure::not_applied(error)
}

#[cfg(test)]
mod tests {
    use idem_core::StoreErrorKind;

    use super::*;
    use crate::error::kind;

    #[test]
    fn our_timeouts_are_not_the_systems() {
        let ours = RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let systems = RedisError::from(io::Error::from_raw_os_error(110));
        assert!(systems.is_timeout(), "the client cannot tell them apart");
        assert_eq!((kind(&ours), kind(&systems)), (StoreErrorKind::Timeout, StoreErrorKind::Unavailable));
    }

    #[test]
    fn whoever_never_got_a_connection_had_no_effect_and_no_timeout() {
        let failure = unconnected(RedisError::from(io::Error::from(io::ErrorKind::TimedOut)));
        assert_eq!((kind(&failure.error), failure.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
        let failure = crowded(1);
        assert_eq!((kind(&failure.error), failure.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    }
}
