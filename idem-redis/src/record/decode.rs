//! Reads the bytes of a record.

use bytes::Bytes;
use idem_core::store::{OwnerToken, Record, Span};
use idem_core::{Answer, FencingToken, Fingerprint, Format, StoredValue};

use super::frame::{Frame, FrameError, FrameState, TAIL, TailV1, UNITS};

/// The record of these bytes.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<Frame, FrameError> {
    let (Some(&letter), len) = (bytes.first(), bytes.len()) else { return Err(FrameError::Malformed) };
    match (letter, len) {
        (b'I', 70) | (b'A', 76) => {
            let (lease, record_ttl) = (span(&bytes[49..54])?, span(&bytes[54..59])?);
            Ok(Frame {
                owner: owner(&bytes),
                fingerprint: fingerprint(&bytes),
                attempt: attempt(&bytes[59..63])?,
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
            attempt: attempt(&bytes[17..21])?,
            fence: fence(&bytes[21..])?,
            state: FrameState::Released,
        }),
        (b'C', TAIL..) => completed(bytes),
        (b'I' | b'A' | b'R' | b'C', _) => Err(FrameError::Malformed),
        // Later versions use other letters.
        (b'A'..=b'Z' | b'a'..=b'z', _) => Err(FrameError::LaterVersion(letter)),
        _ => Err(FrameError::Malformed),
    }
}

fn completed(bytes: Vec<u8>) -> Result<Frame, FrameError> {
    let (tail, body) =
        postcard::take_from_bytes::<TailV1>(&bytes[TAIL..]).map_err(|_| FrameError::Malformed)?;
    let body_begins = bytes.len() - body.len();
    let (owner, fingerprint, fence) = (owner(&bytes), fingerprint(&bytes), fence(&bytes[49..TAIL])?);
    let unit = UNITS[(tail.kept_for & 3) as usize];
    let kept_for = (tail.kept_for >> 2).checked_mul(unit).ok_or(FrameError::Malformed)?;
    let answer = match tail.format.checked_sub(1) {
        None if body.is_empty() => Answer::NotKept,
        None => return Err(FrameError::Malformed),
        Some(format) => Answer::Value(StoredValue {
            format: Format {
                codec: (format & 0xff) as u8,
                schema: u32::try_from(format >> 8).map_err(|_| FrameError::Malformed)?,
            },
            // Not copied: the answer stays in the buffer that it was received in.
            body: Bytes::from(bytes).slice(body_begins..),
        }),
    };
    let state = FrameState::Completed { kept_for, answer };
    Ok(Frame { owner, fingerprint, fence, attempt: tail.attempt, state })
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

fn attempt(bytes: &[u8]) -> Result<u32, FrameError> {
    u32::try_from(number(bytes)).map_err(|_| FrameError::Malformed)
}

/// Milliseconds. Five bytes cannot overflow.
fn span(bytes: &[u8]) -> Result<Span, FrameError> {
    Span::from_micros(number(bytes) * 1000).map_err(|_| FrameError::Malformed)
}

/// At most eight bytes, highest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
