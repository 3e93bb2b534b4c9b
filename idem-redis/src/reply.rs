//! What the scripts answer, read into outcomes.

use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{AbandonOutcome, CompleteOutcome, FencingToken, ReleaseOutcome, RenewOutcome};
use redis::Value;

use crate::error::Cause;
use crate::frame::{self, Frame, FrameState, TimeToLive};

/// What `reserve.lua` answers.
pub(crate) fn reserve(reply: Value, request: &ReserveRequest) -> Result<ReserveOutcome, Cause> {
    match reply {
        Value::Int(left) if left < 0 => {
            Ok(ReserveOutcome::InFlight { attempt: 1, lease_left: millis(left.saturating_neg())? })
        }
        Value::Int(fence) => Ok(ReserveOutcome::Reserved {
            attempt: 1,
            fence: fence_of(fence)?,
            // By the look that wrote it, nothing of it has passed.
            lease_left: request.lease.into(),
        }),
        Value::BulkString(record) => completed(frame::decode(record)?, request),
        Value::Array(parts) => match &parts[..] {
            [Value::Int(1), Value::Int(attempt), Value::Int(fence), Value::Int(lease_left)] => {
                Ok(ReserveOutcome::Reserved {
                    attempt: attempt_of(*attempt)?,
                    fence: fence_of(*fence)?,
                    lease_left: millis(*lease_left)?,
                })
            }
            [Value::Int(2)] => Ok(ReserveOutcome::Stale),
            [Value::Int(3)] => Ok(ReserveOutcome::FingerprintMismatch),
            [Value::Int(4), Value::Int(attempt), Value::Int(lease_left)] => Ok(ReserveOutcome::InFlight {
                attempt: attempt_of(*attempt)?,
                lease_left: millis(*lease_left)?,
            }),
            [Value::Int(5), Value::Int(attempt)] => {
                Ok(ReserveOutcome::LeaseExpired { attempt: attempt_of(*attempt)? })
            }
            [Value::Int(6)] => Err(Cause::NoFenceLeft),
            _ => Err(unknown("reserve")),
        },
        _ => Err(unknown("reserve")),
    }
}

/// A completed record, as `reserve` tells it.
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

/// What `renew.lua` answers.
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

/// What `complete.lua` answers.
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

/// What `release.lua` answers.
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

/// What `abandon.lua` answers.
pub(crate) fn abandon(reply: Value, owner: OwnerToken) -> Result<AbandonOutcome, Cause> {
    match found(reply, owner, "abandon")? {
        Found::Code(1) => Ok(AbandonOutcome::Abandoned),
        Found::OwnAnswer => Ok(AbandonOutcome::AlreadyCompleted),
        Found::OthersAnswer | Found::Code(3) => Ok(AbandonOutcome::Lost),
        Found::Code(_) => Err(unknown("abandon")),
    }
}

/// What `get.lua` answers: the record, and its key's time to live, if it has one.
pub(crate) fn get(reply: Value) -> Result<Option<(Frame, Option<TimeToLive>)>, Cause> {
    let Value::Array(mut parts) = reply else {
        return if reply == Value::Nil { Ok(None) } else { Err(unknown("get")) };
    };
    let (Some(Value::Int(over_at)), Some(Value::Int(left)), Some(Value::BulkString(record)), None) =
        (parts.pop(), parts.pop(), parts.pop(), parts.pop())
    else {
        return Err(unknown("get"));
    };
    let ttl = match (u64::try_from(left), u64::try_from(over_at)) {
        (Ok(left), Ok(over_at)) => Some(TimeToLive { left, over_at }),
        _ => None,
    };
    Ok(Some((frame::decode(record)?, ttl)))
}

/// What a script found.
enum Found {
    /// The number of its outcome.
    Code(i64),
    /// A completed record of this owner.
    OwnAnswer,
    /// A completed record of another.
    OthersAnswer,
}

/// Reads the number of an outcome, or the beginning of the record that was shown in its place.
fn found(reply: Value, owner: OwnerToken, script: &'static str) -> Result<Found, Cause> {
    match reply {
        Value::Int(code) => Ok(Found::Code(code)),
        Value::BulkString(record) => {
            let Frame { owner: found, state, .. } = frame::decode(record)?;
            match state {
                FrameState::Completed { .. } if found == owner => Ok(Found::OwnAnswer),
                FrameState::Completed { .. } => Ok(Found::OthersAnswer),
                _ => Err(unknown(script)),
            }
        }
        _ => Err(unknown(script)),
    }
}

fn attempt_of(number: i64) -> Result<u32, Cause> {
    u32::try_from(number).map_err(|_| unknown("an attempt"))
}

fn fence_of(number: i64) -> Result<FencingToken, Cause> {
    u64::try_from(number).ok().and_then(FencingToken::new).ok_or(Cause::NoFenceLeft)
}

fn millis(number: i64) -> Result<Duration, Cause> {
    u64::try_from(number).map(Duration::from_millis).map_err(|_| unknown("a duration"))
}

fn unknown(reply: &'static str) -> Cause {
    Cause::Reply { reply }
}
