//! What the scripts answer, read into outcomes.

use std::time::Duration;

use idem_core::{
    AbandonOutcome, CompleteOutcome, FencingToken, ReleaseOutcome, RenewOutcome, Reserve, ReserveOutcome,
};
use redis::Value;

use crate::error::Cause;
use crate::frame::{self, Frame, FrameState, TimeToLive};

/// What `reserve.lua` answers.
pub(crate) fn reserve(reply: Value, request: &Reserve) -> Result<ReserveOutcome, Cause> {
    match reply {
        Value::Int(left) if left < 0 => {
            Ok(ReserveOutcome::InFlight { attempt: 1, lease_left: millis(left.saturating_neg())? })
        }
        Value::Int(fence) => Ok(ReserveOutcome::Reserved {
            attempt: 1,
            fence: fence_of(fence)?,
            // By the look that wrote it, nothing of it has passed.
            lease_left: request.lease,
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
fn completed(found: Frame, request: &Reserve) -> Result<ReserveOutcome, Cause> {
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
pub(crate) fn renew(reply: Value) -> Result<RenewOutcome, Cause> {
    match code(reply, "renew")? {
        -1 => Ok(RenewOutcome::AlreadyCompleted),
        -2 => Ok(RenewOutcome::Lost),
        lease_left if lease_left > 0 => Ok(RenewOutcome::Renewed { lease_left: millis(lease_left)? }),
        _ => Err(unknown("renew")),
    }
}

/// What `complete.lua` answers.
pub(crate) fn complete(reply: Value) -> Result<CompleteOutcome, Cause> {
    match code(reply, "complete")? {
        1 => Ok(CompleteOutcome::Completed),
        2 => Ok(CompleteOutcome::AlreadyCompleted),
        3 => Ok(CompleteOutcome::ResponseConflict),
        4 => Ok(CompleteOutcome::Lost),
        _ => Err(unknown("complete")),
    }
}

/// What `release.lua` answers.
pub(crate) fn release(reply: Value) -> Result<ReleaseOutcome, Cause> {
    match code(reply, "release")? {
        1 => Ok(ReleaseOutcome::Released),
        2 => Ok(ReleaseOutcome::AlreadyReleased),
        3 => Ok(ReleaseOutcome::AlreadyCompleted),
        4 => Ok(ReleaseOutcome::Lost),
        5 => Err(Cause::NoFenceLeft),
        _ => Err(unknown("release")),
    }
}

/// What `abandon.lua` answers.
pub(crate) fn abandon(reply: Value) -> Result<AbandonOutcome, Cause> {
    match code(reply, "abandon")? {
        1 => Ok(AbandonOutcome::Abandoned),
        2 => Ok(AbandonOutcome::AlreadyCompleted),
        3 => Ok(AbandonOutcome::Lost),
        _ => Err(unknown("abandon")),
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

/// The number that an outcome is; or what is wrong with the record that was shown in its place.
fn code(reply: Value, script: &'static str) -> Result<i64, Cause> {
    match reply {
        Value::Int(code) => Ok(code),
        Value::BulkString(record) => match frame::decode(record) {
            Err(error) => Err(error.into()),
            Ok(_) => Err(unknown(script)),
        },
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
