//! How failures of the server, of the connection and of this store become a [`StoreError`], case by case.

use std::io;
use std::sync::Arc;

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;

use crate::address::AddressError;
use crate::health::HealthProblem;
use crate::record::FrameError;

/// A command failed.
///
/// - The *server* answered with an error: `NotApplied`, because it then did not carry the command out. (A script that
///   fails halfway may have written; ours check everything before they write.)
/// - The command was never sent: `NotApplied`.
/// - Everything else: `Unknown`, because the command may have arrived.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: RedisError,
    pub(crate) effect: Effect,
}

impl Failure {
    pub(crate) fn not_applied(error: impl Into<RedisError>) -> Self {
        Self { error: error.into(), effect: Effect::NotApplied }
    }

    pub(crate) fn unknown(error: impl Into<RedisError>) -> Self {
        Self { error: error.into(), effect: Effect::Unknown }
    }

    /// The command waited for its turn until its time was over.
    pub(crate) fn too_many_in_flight(max_in_flight: usize) -> Self {
        Self::not_applied((
            ErrorKind::Io,
            "too many commands are in flight to the server; send fewer, or raise `max_in_flight`",
            max_in_flight.to_string(),
        ))
    }

    /// There is no connection, and the last attempt to make one failed with this error.
    pub(crate) fn not_connected(error: RedisError) -> Self {
        // The attempt may have timed out. The command did not: it was never sent.
        if is_own_timeout(&error) {
            return Self::not_applied((ErrorKind::Io, "the server does not answer attempts to connect"));
        }
        Self::not_applied(error)
    }

    pub(crate) fn into_store_error(self, operation: Operation) -> StoreError {
        StoreError::new(kind(&self.error), self.effect, operation).with_source(self.error)
    }
}

/// A failure that this store itself found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Health(#[from] HealthProblem),
    #[error(
        "waiting for replicas needs connections of the store's own; use `connect_with` in place of `from_connection`"
    )]
    ReplicasOverExternal,
    #[error("the fencing tokens of this key are used up (above 2^53 - 1); check the server's clock")]
    NoFenceLeft,
    #[error("the server's answer is not one that the script gives: {reply}")]
    Reply { reply: &'static str },
}

impl Cause {
    /// All causes but an answer that cannot be read are found before anything is written.
    pub(crate) fn into_store_error(self, operation: Operation) -> StoreError {
        let kind = match &self {
            Self::Address(_) | Self::Health(_) | Self::ReplicasOverExternal => StoreErrorKind::Misconfigured,
            Self::Frame(FrameError::LaterVersion(_)) => StoreErrorKind::Incompatible,
            Self::Frame(FrameError::Malformed) => StoreErrorKind::Corrupt,
            Self::NoFenceLeft | Self::Reply { .. } => StoreErrorKind::Internal,
        };
        let effect = match &self {
            Self::Reply { .. } => Effect::Unknown,
            _ => Effect::NotApplied,
        };
        StoreError::new(kind, effect, operation).with_source(self)
    }
}

/// Whether the server does not know the script.
pub(crate) fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether the server can be read but does not accept writes now: it has no memory left (OOM), cannot save to its disk
/// (MISCONF), or lacks replicas that it requires (NOREPLICAS). A replica (READONLY) does not count: its data may be old.
pub(crate) fn is_no_write(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Extension && matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS"))
}

/// Whether this process stopped waiting. A timeout of the operating system (keepalive) has an error number and means that
/// the connection is gone.
pub(crate) fn is_own_timeout(error: &RedisError) -> bool {
    error.is_timeout()
        && std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>())
            .and_then(|source| source.downcast_ref::<io::Error>())
            .is_none_or(|error| error.raw_os_error().is_none())
}

/// The kind of store error that an error of the client or of the server is.
pub(crate) fn kind(error: &RedisError) -> StoreErrorKind {
    use StoreErrorKind::{Corrupt, Full, Internal, Misconfigured, Timeout, Unavailable};
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ResponseError) => kind_of_plain_error(error.detail().unwrap_or_default()),
        ErrorKind::Extension => match error.code() {
            Some("OOM") => Full,
            // Another application's value is in the record's place. Nothing runs until an operator has removed it.
            Some("WRONGTYPE") => Corrupt,
            Some("NOAUTH" | "WRONGPASS" | "DENIED") => Misconfigured,
            // A long script of another client; a disk that cannot be written; missing replicas; a failover.
            Some("BUSY" | "MISCONF" | "NOREPLICAS" | "UNBLOCKED") => Unavailable,
            _ => Internal,
        },
        ErrorKind::Io if is_own_timeout(error) => Timeout,
        // The server starts, fails over, moves slots, or has become a replica. All of these pass.
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::ReadOnly,
        )
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::NoValidReplicasFoundBySentinel
        | ErrorKind::Io => Unavailable,
        ErrorKind::Server(ServerErrorKind::NoPerm)
        | ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::EmptySentinelList
        // The peer does not speak Redis's protocol.
        | ErrorKind::Parse
        | ErrorKind::RESP3NotSupported => Misconfigured,
        _ => Internal,
    }
}

/// The same for the errors that have no code but `ERR`.
fn kind_of_plain_error(detail: &str) -> StoreErrorKind {
    const MISCONFIGURED: [&str; 8] = [
        "unknown command",
        // The user may run the script but not all of its commands: Redis 7.0, and Valkey. Later Redis answers NOPERM.
        "The user executing the script",
        "ACL failure in script",
        "DB index",
        "cluster support disabled",
        "AUTH",
        "invalid password",
        // A server before 7.0 does not know the first line of a script.
        "unexpected symbol near '#'",
    ];
    if detail.contains("max number of clients") {
        StoreErrorKind::Unavailable
    } else if MISCONFIGURED.iter().any(|words| detail.contains(words)) {
        StoreErrorKind::Misconfigured
    } else {
        StoreErrorKind::Internal
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use super::*;

    fn answered(line: &str) -> RedisError {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap().extract_error().unwrap_err()
    }

    #[test]
    fn every_answer_of_a_server_has_its_kind() {
        use StoreErrorKind::{Corrupt, Full, Internal, Misconfigured, Unavailable};
        for (line, expected) in [
            ("LOADING Redis is loading the dataset in memory", Unavailable),
            ("MASTERDOWN Link with MASTER is down", Unavailable),
            ("CLUSTERDOWN The cluster is down", Unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Unavailable),
            ("MOVED 1 h:1", Unavailable),
            ("ASK 1 h:1", Unavailable),
            ("READONLY You can't write against a read only replica.", Unavailable),
            ("BUSY Redis is busy running a script.", Unavailable),
            ("MISCONF Errors writing to the AOF file", Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            ("UNBLOCKED force unblock from blocking operation", Unavailable),
            ("ERR max number of clients reached", Unavailable),
            ("OOM command not allowed when used memory > 'maxmemory'.", Full),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Corrupt),
            ("NOAUTH Authentication required.", Misconfigured),
            ("WRONGPASS invalid username-password pair or user is disabled.", Misconfigured),
            ("NOPERM this user has no permissions to run the 'get' command", Misconfigured),
            ("ERR DB index is out of range", Misconfigured),
            ("ERR unknown command 'EVALSHA'", Misconfigured),
            ("ERR This instance has cluster support disabled", Misconfigured),
            // The user may not run one of a script's commands: Redis 7.0, later Redis, Valkey.
            (
                "ERR The user executing the script can't run this command or subcommand script: 0, on @user_script:2.",
                Misconfigured,
            ),
            (
                "NOPERM ACL failure in script: User app has no permissions to run the 'set' command",
                Misconfigured,
            ),
            (
                "ERR ACL failure in script: User app has no permissions to run the 'set' command",
                Misconfigured,
            ),
            ("DENIED Redis is running in protected mode because protected mode is enabled", Misconfigured),
            // A server before 7.0, which does not know `#!lua`.
            (
                "ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'",
                Misconfigured,
            ),
            ("ERR syntax error", Internal),
            ("EXECABORT Transaction discarded", Internal),
            ("SOMETHING else", Internal),
        ] {
            assert_eq!(kind(&answered(line)), expected, "{line}");
        }
    }

    #[test]
    fn only_a_server_that_can_be_read_is_asked_again_without_writing() {
        for line in ["OOM x", "MISCONF x", "NOREPLICAS x"] {
            assert!(is_no_write(&answered(line)), "{line}");
        }
        for line in ["READONLY x", "WRONGTYPE x", "LOADING x", "ERR OOM"] {
            assert!(!is_no_write(&answered(line)), "{line}");
        }
        assert!(is_no_script(&answered("NOSCRIPT No matching script.")));
    }

    #[test]
    fn our_timeouts_are_not_the_systems() {
        let ours = RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let systems = RedisError::from(io::Error::from_raw_os_error(110));
        assert!(systems.is_timeout(), "the client cannot tell them apart");
        assert_eq!((kind(&ours), kind(&systems)), (StoreErrorKind::Timeout, StoreErrorKind::Unavailable));
    }

    #[test]
    fn a_command_that_got_no_connection_had_no_effect_and_did_not_time_out() {
        for failure in [
            Failure::not_connected(io::Error::from(io::ErrorKind::TimedOut).into()),
            Failure::too_many_in_flight(1),
        ] {
            let error = failure.into_store_error(Operation::Reserve);
            assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
        }
    }
}
