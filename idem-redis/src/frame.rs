//! How a record becomes a string on the server.
//!
//! The first byte says which state it is in, and with that which version of the format it has: these four letters are
//! version 1, and a later version takes others. It can be read with `redis-cli`; the README shows how. What a script looks
//! at stands at fixed offsets, with the highest byte first; the rest of a completed record is postcard's.
//!
//! | state | bytes |
//! |---|---|
//! | in flight | `I`, token (16), fingerprint (32), lease in ms (5), `record_ttl` in ms (5), attempt (4), fence (7) |
//! | abandoned | the same with `A`, and the end of the lease in ms since the epoch (6) |
//! | completed | `C`, token (16), fingerprint (32), fence (7), [`TailV1`] in postcard's format, the answer's bytes |
//! | released | `R`, token (16), attempt (4), fence (7) |
//!
//! The key's time to live is the record's. While a record is in flight it is what is left of the lease and `record_ttl`, so
//! that the end of the lease is not written down: it follows from the time to live, and moves with it when the server's
//! clock steps or a Cluster hands the key to another node.
//!
//! Milliseconds, since that is what the server counts expiry in. A record is there up to and including the last millisecond
//! of its time to live, and a lease runs up to and including its last: both are never shorter than was asked, and at most
//! a millisecond longer.
//!
//! A completed record with an answer of 64 bytes is to fit into 124, since the allocator's next class after 128 is 160: hence
//! `kept_for` in its largest whole unit and the format in one number.
//!
//! # Why fences increase
//!
//! Every fence is `max(the record's fence + 1, the server's time in microseconds)`, made in the script that writes it, and is
//! written into the record. While the key has a record of any state, the first term orders two owners, however the clock
//! steps. Once the record is forgotten only the clock is left, and it has moved on: a record lives for a millisecond at the
//! least, a server does not make as many takeovers in that time as it has microseconds, and so the clock is past every fence
//! that was ever made from it. What breaks this is a clock that steps back by more than it took the record to be forgotten,
//! an eviction, or a `DEL`; the README says so. A fence above 2^53 - 1 is refused, and never wraps.
//!
//! INV-1: what does not decode to its last byte is an error, never a record and never absent.
//! Scripts tell by letter and length. That is all there is to decide but for two things: the numbers of a completed record,
//! for which they show it to `decode`; and a fence that no script makes (zero, or above 2^53 - 1), which in the other three
//! states they do not look at. With such a one `get` says what is wrong, and an answer that is stored over it is `Corrupt`
//! for whoever asks for it: nothing runs again.

use bytes::Bytes;
use idem_core::store::{OwnerToken, Record, ReserveRequest, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Format, StoredValue};
use serde::{Deserialize, Serialize};

/// What a completed record says between its fence and its answer. postcard has no optional fields, so this never changes.
#[derive(Serialize, Deserialize)]
struct TailV1 {
    attempt: u32,
    kept_for: u64,
    format: u64,
}

/// Where a completed record's tail begins.
const TAIL: usize = 56;

/// The units of `kept_for`, in milliseconds: milliseconds, seconds, minutes, hours.
const UNITS: [u64; 4] = [1, 1_000, 60_000, 3_600_000];

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the record begins with {0:#04x}, which is a later version's; this release reads version 1")]
    LaterVersion(u8),
    #[error("the value at the record's key does not follow the format of a record")]
    Malformed,
}

/// What a record says of itself, without its key's time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) owner: OwnerToken,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) fence: FencingToken,
    pub(crate) attempt: u32,
    pub(crate) state: FrameState,
}

/// Which state a [`Frame`] is in. Everything that has to do with time is milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FrameState {
    InFlight { lease: u64, record_ttl: u64 },
    Abandoned { lease: u64, record_ttl: u64, lease_until: u64 },
    Completed { kept_for: u64, answer: Answer },
    Released,
}

/// The time to live of a key, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeToLive {
    /// What is left of it.
    pub(crate) left: u64,
    /// When it is over, since the epoch.
    pub(crate) over_at: u64,
}

/// A duration in the server's milliseconds; no duration above zero becomes zero.
pub(crate) fn millis(span: Span) -> u64 {
    span.as_micros().div_ceil(1000)
}

/// A new record in flight, without the fence, which is the server's to give.
pub(crate) fn new_in_flight(request: &ReserveRequest) -> [u8; 63] {
    let mut bytes = [0; 63];
    bytes[0] = b'I';
    bytes[1..17].copy_from_slice(request.owner.as_bytes());
    bytes[17..49].copy_from_slice(request.fingerprint.as_bytes());
    // Ten years are below 2^39.
    bytes[49..54].copy_from_slice(&millis(request.lease).to_be_bytes()[3..]);
    bytes[54..59].copy_from_slice(&millis(request.record_ttl).to_be_bytes()[3..]);
    bytes[62] = 1;
    bytes
}

/// How long an answer is kept, as its record shows it.
pub(crate) fn kept_for(millis: u64) -> Vec<u8> {
    let unit = UNITS.iter().rposition(|unit| millis.is_multiple_of(*unit)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(8);
    push_varint(&mut bytes, (millis / UNITS[unit]) << 2 | unit as u64);
    bytes
}

/// An answer, as its record ends with it: its format in one number, and its bytes.
pub(crate) fn answer(answer: &Answer) -> Vec<u8> {
    let (format, body) = match answer {
        Answer::NotKept => (0, &[][..]),
        Answer::Value(StoredValue { format: Format { codec, schema }, body }) => {
            ((u64::from(*schema) << 8 | u64::from(*codec)) + 1, &body[..])
        }
    };
    let mut bytes = Vec::with_capacity(6 + body.len());
    push_varint(&mut bytes, format);
    bytes.extend_from_slice(body);
    bytes
}

/// The record of these bytes.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<Frame, FrameError> {
    let (Some(&letter), len) = (bytes.first(), bytes.len()) else { return Err(FrameError::Malformed) };
    match (letter, len) {
        (b'I', 70) | (b'A', 76) => {
            let (lease, record_ttl) = (number(&bytes[49..54]), number(&bytes[54..59]));
            Ok(Frame {
                owner: owner(&bytes),
                fingerprint: fingerprint(&bytes),
                attempt: u32::try_from(number(&bytes[59..63])).map_err(|_| FrameError::Malformed)?,
                fence: fence(&bytes[63..70])?,
                state: if letter == b'I' {
                    FrameState::InFlight { lease, record_ttl }
                } else {
                    FrameState::Abandoned { lease, record_ttl, lease_until: number(&bytes[70..]) }
                },
            })
        }
        (b'R', 28) => Ok(Frame {
            owner: owner(&bytes),
            fingerprint: Record::NO_FINGERPRINT,
            attempt: u32::try_from(number(&bytes[17..21])).map_err(|_| FrameError::Malformed)?,
            fence: fence(&bytes[21..])?,
            state: FrameState::Released,
        }),
        (b'C', TAIL..) => completed(bytes),
        (b'I' | b'A' | b'R' | b'C', _) => Err(FrameError::Malformed),
        // Versions to come begin with another letter of the same kind.
        (b'A'..=b'Z' | b'a'..=b'z', _) => Err(FrameError::LaterVersion(letter)),
        _ => Err(FrameError::Malformed),
    }
}

fn completed(bytes: Vec<u8>) -> Result<Frame, FrameError> {
    let (tail, rest) =
        postcard::take_from_bytes::<TailV1>(&bytes[TAIL..]).map_err(|_| FrameError::Malformed)?;
    let body_len = rest.len();
    let (owner, fingerprint, fence) = (owner(&bytes), fingerprint(&bytes), fence(&bytes[49..TAIL])?);
    let unit = UNITS[(tail.kept_for & 3) as usize];
    let kept_for = (tail.kept_for >> 2).checked_mul(unit).ok_or(FrameError::Malformed)?;
    let answer = match tail.format.checked_sub(1) {
        None if body_len == 0 => Answer::NotKept,
        None => return Err(FrameError::Malformed),
        Some(format) => Answer::Value(StoredValue {
            format: Format {
                codec: (format & 0xff) as u8,
                schema: u32::try_from(format >> 8).map_err(|_| FrameError::Malformed)?,
            },
            // The answer stays where it was received.
            body: {
                let begins = bytes.len() - body_len;
                Bytes::from(bytes).slice(begins..)
            },
        }),
    };
    let state = FrameState::Completed { kept_for, answer };
    Ok(Frame { owner, fingerprint, fence, attempt: tail.attempt, state })
}

impl Frame {
    /// The record, of a key with this time to live; and the server's time.
    pub(crate) fn with(self, ttl: Option<TimeToLive>) -> (Record, Timestamp) {
        // Somebody has made the key persistent: nothing is left of a lease, and the record stays.
        let TimeToLive { left, over_at } = ttl.unwrap_or(TimeToLive { left: 0, over_at: u64::MAX });
        let now = if ttl.is_some() { over_at.saturating_sub(left) } else { 0 };
        let in_flight = |lease, record_ttl, lease_until, abandoned| State::InFlight {
            lease_until: timestamp(lease_until),
            lease: span(lease),
            record_ttl: span(record_ttl),
            abandoned,
        };
        let state = match self.state {
            FrameState::InFlight { lease, record_ttl } => {
                // The last millisecond belongs to the lease. More than the lease is left if the clock stepped back.
                let lease_left = (left + 1).saturating_sub(record_ttl).min(lease);
                in_flight(lease, record_ttl, now + lease_left, false)
            }
            FrameState::Abandoned { lease, record_ttl, lease_until } => {
                in_flight(lease, record_ttl, lease_until.min(now + lease), true)
            }
            FrameState::Completed { kept_for, answer } => State::Completed {
                answer,
                completed_at: timestamp((now + left).saturating_sub(kept_for).min(now)),
            },
            FrameState::Released => State::Released,
        };
        let Self { owner, fingerprint, fence, attempt, .. } = self;
        // The last millisecond belongs to the record.
        let expires_at = timestamp(over_at.max(now + 1));
        (Record { owner, fence, attempt, fingerprint, state, expires_at }, timestamp(now))
    }
}

fn owner(bytes: &[u8]) -> OwnerToken {
    let mut token = [0; 16];
    token.copy_from_slice(&bytes[1..17]);
    OwnerToken::from_bytes(token)
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(&bytes[17..49]);
    Fingerprint::from_bytes(fingerprint)
}

fn fence(bytes: &[u8]) -> Result<FencingToken, FrameError> {
    FencingToken::new(number(bytes)).ok_or(FrameError::Malformed)
}

/// At most eight bytes, the highest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Seven bits a byte, the lowest first, as postcard has them.
fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn timestamp(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis.saturating_mul(1000))
}

fn span(millis: u64) -> Span {
    Span::from_micros(millis.saturating_mul(1000)).unwrap_or(Span::MAX)
}

#[cfg(test)]
#[path = "../tests/golden/mod.rs"]
#[allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]
mod golden;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use std::time::Duration;

    use super::*;

    #[test]
    fn records_of_every_released_version_are_read() {
        for golden in golden::records() {
            let ttl = TimeToLive { left: golden.left, over_at: golden::OVER_AT };
            let (record, now) = decode(golden.bytes).unwrap().with(Some(ttl));
            assert_eq!(record, golden.record, "{}", golden.name);
            assert_eq!(now, timestamp(golden::OVER_AT - golden.left));
        }
    }

    #[test]
    fn no_prefix_and_nothing_longer_is_another_record() {
        for golden in golden::records() {
            for len in 0..golden.bytes.len() {
                let is_part_of_an_answer = golden.name == "completed" && len >= golden.bytes.len() - 4;
                if !is_part_of_an_answer {
                    let prefix = golden.bytes[..len].to_vec();
                    assert_eq!(decode(prefix).unwrap_err(), FrameError::Malformed, "{}, {len}", golden.name);
                }
            }
            if !matches!(golden.name, "completed" | "empty") {
                let longer = [&golden.bytes[..], &[0]].concat();
                assert_eq!(decode(longer).unwrap_err(), FrameError::Malformed, "{}", golden.name);
            }
        }
    }

    #[test]
    fn a_later_version_is_told_from_garbage() {
        assert_eq!(decode(b"i..".to_vec()).unwrap_err(), FrameError::LaterVersion(b'i'));
        assert_eq!(decode(b"Z".to_vec()).unwrap_err(), FrameError::LaterVersion(b'Z'));
        assert_eq!(decode(b"{\"json\": 1}".to_vec()).unwrap_err(), FrameError::Malformed);
        assert_eq!(decode(Vec::new()).unwrap_err(), FrameError::Malformed);
        let mut without_fence = golden::records().swap_remove(5).bytes;
        without_fence[21..].fill(0);
        assert_eq!(decode(without_fence).unwrap_err(), FrameError::Malformed);
    }

    #[test]
    fn a_completed_record_with_an_answer_of_64_bytes_fits_into_the_allocators_128() {
        let day = kept_for(86_400_000);
        let json = StoredValue { format: Format { codec: 1, schema: 0 }, body: vec![b'x'; 64].into() };
        let len = TAIL + 1 + day.len() + answer(&json.into()).len();
        assert!(len + 4 <= 128, "{len} and the 4 bytes around a string of the server");
    }

    #[test]
    fn how_long_an_answer_is_kept_comes_back_from_its_largest_unit() {
        for millis in
            [1, 999, 1000, 1001, 60_000, 61_000, 3_600_000, 86_400_000, 315_360_000_000, 315_359_999_999]
        {
            let mut bytes = golden::records().swap_remove(2).bytes[..TAIL].to_vec();
            bytes.push(1);
            bytes.extend(kept_for(millis));
            bytes.extend(answer(&Answer::NotKept));
            let state = FrameState::Completed { kept_for: millis, answer: Answer::NotKept };
            assert_eq!(decode(bytes).unwrap().state, state);
        }
    }

    #[test]
    fn after_a_clock_that_stepped_back_no_more_than_the_lease_is_left() {
        let frame = decode(golden::records().swap_remove(0).bytes).unwrap();
        let ttl = TimeToLive { left: 90_000_000, over_at: golden::OVER_AT };
        let (record, now) = frame.with(Some(ttl));
        let State::InFlight { lease_until, .. } = record.state else { panic!() };
        assert_eq!(lease_until.since(now), Duration::from_secs(60));
    }

    #[test]
    fn durations_are_rounded_up_to_milliseconds() {
        assert_eq!(millis(Span::MIN), 1);
        assert_eq!(Span::from_micros(1001).map(millis), Ok(2));
        assert_eq!(millis(Span::MAX), 315_360_000_000);
    }
}
