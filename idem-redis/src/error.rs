//! What a failure of the server or of the connection means for an operation, case by case; and the causes that this store
//! finds itself.

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;

use crate::address::AddressError;
use crate::frame::FrameError;
use crate::health::Ailment;
use crate::link::{Failure, is_own_timeout};

/// Why the store refused, or failed, apart from the server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Cause {
    #[error("the answer has {bytes} bytes, and at most {max_answer_bytes} are kept")]
    AnswerTooLarge { bytes: usize, max_answer_bytes: usize },
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Unfit(#[from] Ailment),
    #[error("waiting for replicas takes connections of the store's own; use `connect` and its like")]
    ReplicasOfOthers,
    #[error("the fencing tokens of this key are used up (above 2^53 - 1); check the server's clock")]
    NoFenceLeft,
    #[error("the server answered what the script does not say: {reply}")]
    Reply { reply: &'static str },
}

impl Cause {
    /// All of these are known before anything is written, but for an answer that the script does not give.
    pub(crate) fn of(self, operation: Operation) -> StoreError {
        let kind = match &self {
            Self::AnswerTooLarge { .. } => StoreErrorKind::TooLarge,
            Self::Address(_) | Self::Unfit(_) | Self::ReplicasOfOthers => StoreErrorKind::Misconfigured,
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

/// The error of an operation that the link or the server failed.
pub(crate) fn of_failure(failure: &Failure, operation: Operation) -> StoreError {
    StoreError::new(kind(&failure.error), failure.effect, operation).with_source(failure.error.clone())
}

/// Whether the server has forgotten the script.
pub(crate) fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether the server reads, and does not write at this time: it has no memory left (OOM), cannot save to its disk
/// (MISCONF), or misses replicas that it insists on (NOREPLICAS). A replica (READONLY) is none of these: what it has may
/// be old.
pub(crate) fn is_no_write(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Extension && matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS"))
}

/// What an error of the client or the server means, case by case.
pub(crate) fn kind(error: &RedisError) -> StoreErrorKind {
    use StoreErrorKind::{Corrupt, Full, Internal, Misconfigured, Timeout, Unavailable};
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ResponseError) => plain(error.detail().unwrap_or_default()),
        ErrorKind::Extension => match error.code() {
            Some("OOM") => Full,
            // Another application's value is where the record should be. Nothing runs until somebody has looked at it.
            Some("WRONGTYPE") => Corrupt,
            Some("NOAUTH" | "WRONGPASS" | "DENIED") => Misconfigured,
            // A long script of somebody's; a disk that cannot be written; replicas that are missing; a failover.
            Some("BUSY" | "MISCONF" | "NOREPLICAS" | "UNBLOCKED") => Unavailable,
            _ => Internal,
        },
        ErrorKind::Io if is_own_timeout(error) => Timeout,
        // It is starting, failing over or moving slots, or is a replica by now: all of it passes.
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
        // What answers is no Redis.
        | ErrorKind::Parse
        | ErrorKind::RESP3NotSupported => Misconfigured,
        _ => Internal,
    }
}

/// The errors that the server begins with a plain `ERR`.
fn plain(detail: &str) -> StoreErrorKind {
    const PASSING: [&str; 1] = ["max number of clients"];
    const OPERATORS: [&str; 8] = [
        "unknown command",
        // The ACL allows a script and not all of its commands: Redis 7.0, and Valkey. Later Redis says NOPERM.
        "The user executing the script",
        "ACL failure in script",
        "DB index",
        "cluster support disabled",
        "AUTH",
        "invalid password",
        // A server before 7.0 does not know the first line of a script.
        "unexpected symbol near '#'",
    ];
    if PASSING.iter().any(|words| detail.contains(words)) {
        StoreErrorKind::Unavailable
    } else if OPERATORS.iter().any(|words| detail.contains(words)) {
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
            // A script's user may not run one of its commands: Redis 7.0, later ones, Valkey.
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
    fn only_a_server_that_reads_is_asked_again_without_writing() {
        for line in ["OOM x", "MISCONF x", "NOREPLICAS x"] {
            assert!(is_no_write(&answered(line)), "{line}");
        }
        for line in ["READONLY x", "WRONGTYPE x", "LOADING x", "ERR OOM"] {
            assert!(!is_no_write(&answered(line)), "{line}");
        }
        assert!(is_no_script(&answered("NOSCRIPT No matching script.")));
    }
}
