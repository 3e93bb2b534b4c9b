//! Reads the answers of the scripts into outcomes.

use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{AbandonOutcome, CompleteOutcome, FencingToken, ReleaseOutcome, RenewOutcome};
use redis::Value;

use crate::error::Cause;
use crate::record::{self, Frame, FrameState, TimeToLive};

/// Reads the answer of `reserve.lua`.
pub(crate) fn reserve(reply: Value, request: &ReserveRequest) -> Result<ReserveOutcome, Cause> {
    match reply {
        Value::Int(left) if left < 0 => {
            Ok(ReserveOutcome::InFlight { attempt: 1, lease_left: millis(left.saturating_neg())? })
        }
        Value::Int(number) => Ok(ReserveOutcome::Reserved {
            attempt: 1,
            fence: fence(number)?,
            // The script has just granted it.
            lease_left: request.lease.into(),
        }),
        Value::BulkString(bytes) => completed(record::decode(bytes)?, request),
        Value::Array(parts) => match &parts[..] {
            [Value::Int(1), Value::Int(number), Value::Int(token), Value::Int(lease_left)] => {
                Ok(ReserveOutcome::Reserved {
                    attempt: attempt(*number)?,
                    fence: fence(*token)?,
                    lease_left: millis(*lease_left)?,
                })
            }
            [Value::Int(2)] => Ok(ReserveOutcome::Stale),
            [Value::Int(3)] => Ok(ReserveOutcome::FingerprintMismatch),
            [Value::Int(4), Value::Int(number), Value::Int(lease_left)] => {
                Ok(ReserveOutcome::InFlight { attempt: attempt(*number)?, lease_left: millis(*lease_left)? })
            }
            [Value::Int(5), Value::Int(number)] => {
                Ok(ReserveOutcome::LeaseExpired { attempt: attempt(*number)? })
            }
            [Value::Int(6)] => Err(Cause::NoFenceLeft),
            _ => Err(unknown("reserve")),
        },
        _ => Err(unknown("reserve")),
    }
}

/// A completed record, as an outcome of this reservation.
fn completed(found: Frame, request: &ReserveRequest) -> Result<ReserveOutcome, Cause> {
    let FrameState::Completed { answer, .. } = found.state else { return Err(unknown("reserve")) };
    Ok(if found.fingerprint != request.fingerprint {
        ReserveOutcome::FingerprintMismatch
    } else if found.owner == request.owner {
        ReserveOutcome::Stale
    } else {
        ReserveOutcome::Completed { answer, attempt: found.attempt }
    })
}

/// Reads the answer of `renew.lua`.
pub(crate) fn renew(reply: Value, owner: OwnerToken) -> Result<RenewOutcome, Cause> {
    match found(reply, owner, "renew")? {
        Found::OwnAnswer => Ok(RenewOutcome::AlreadyCompleted),
        Found::OthersAnswer | Found::Code(-2) => Ok(RenewOutcome::Lost),
        Found::Code(lease_left) if lease_left > 0 => {
            Ok(RenewOutcome::Renewed { lease_left: millis(lease_left)? })
        }
        Found::Code(_) => Err(unknown("renew")),
    }
}

/// Reads the answer of `complete.lua`.
pub(crate) fn complete(reply: Value, owner: OwnerToken) -> Result<CompleteOutcome, Cause> {
    let (reply, is_same) = match reply {
        Value::Array(mut parts) if parts.len() == 1 => (parts.swap_remove(0), true),
        reply => (reply, false),
    };
    match found(reply, owner, "complete")? {
        Found::Code(1) => Ok(CompleteOutcome::Completed),
        Found::OwnAnswer if is_same => Ok(CompleteOutcome::AlreadyCompleted),
        Found::OwnAnswer => Ok(CompleteOutcome::AnswerConflict),
        Found::OthersAnswer | Found::Code(4) => Ok(CompleteOutcome::Lost),
        Found::Code(_) => Err(unknown("complete")),
    }
}

/// Reads the answer of `release.lua`.
pub(crate) fn release(reply: Value, owner: OwnerToken) -> Result<ReleaseOutcome, Cause> {
    match found(reply, owner, "release")? {
        Found::Code(1) => Ok(ReleaseOutcome::Released),
        Found::Code(2) => Ok(ReleaseOutcome::AlreadyReleased),
        Found::OwnAnswer => Ok(ReleaseOutcome::AlreadyCompleted),
        Found::OthersAnswer | Found::Code(4) => Ok(ReleaseOutcome::Lost),
        Found::Code(5) => Err(Cause::NoFenceLeft),
        Found::Code(_) => Err(unknown("release")),
    }
}

/// Reads the answer of `abandon.lua`.
pub(crate) fn abandon(reply: Value, owner: OwnerToken) -> Result<AbandonOutcome, Cause> {
    match found(reply, owner, "abandon")? {
        Found::Code(1) => Ok(AbandonOutcome::Abandoned),
        Found::OwnAnswer => Ok(AbandonOutcome::AlreadyCompleted),
        Found::OthersAnswer | Found::Code(3) => Ok(AbandonOutcome::Lost),
        Found::Code(_) => Err(unknown("abandon")),
    }
}

/// Reads the answer of `get.lua`: the record, and its key's time to live, if it has one.
pub(crate) fn get(reply: Value) -> Result<Option<(Frame, Option<TimeToLive>)>, Cause> {
    let Value::Array(mut parts) = reply else {
        return if reply == Value::Nil { Ok(None) } else { Err(unknown("get")) };
    };
    let (Some(Value::Int(ends_at)), Some(Value::Int(left)), Some(Value::BulkString(bytes)), None) =
        (parts.pop(), parts.pop(), parts.pop(), parts.pop())
    else {
        return Err(unknown("get"));
    };
    let ttl = match (u64::try_from(left), u64::try_from(ends_at)) {
        (Ok(left), Ok(ends_at)) => Some(TimeToLive { left, ends_at }),
        _ => None,
    };
    Ok(Some((record::decode(bytes)?, ttl)))
}

/// What a script found.
enum Found {
    /// The number of its outcome.
    Code(i64),
    /// A completed record of this owner.
    OwnAnswer,
    /// A completed record of another owner.
    OthersAnswer,
}

/// Reads the number of an outcome, or the beginning of the record that the script returned instead.
fn found(reply: Value, owner: OwnerToken, script: &'static str) -> Result<Found, Cause> {
    match reply {
        Value::Int(code) => Ok(Found::Code(code)),
        Value::BulkString(bytes) => {
            let Frame { owner: found, state, .. } = record::decode(bytes)?;
            match state {
                FrameState::Completed { .. } if found == owner => Ok(Found::OwnAnswer),
                FrameState::Completed { .. } => Ok(Found::OthersAnswer),
                _ => Err(unknown(script)),
            }
        }
        _ => Err(unknown(script)),
    }
}

fn attempt(number: i64) -> Result<u32, Cause> {
    u32::try_from(number).map_err(|_| unknown("an attempt"))
}

fn fence(number: i64) -> Result<FencingToken, Cause> {
    u64::try_from(number).ok().and_then(FencingToken::new).ok_or(Cause::NoFenceLeft)
}

fn millis(number: i64) -> Result<Duration, Cause> {
    u64::try_from(number).map(Duration::from_millis).map_err(|_| unknown("a duration"))
}

fn unknown(reply: &'static str) -> Cause {
    Cause::Reply { reply }
}
