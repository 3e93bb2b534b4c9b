//! The parts of a record that the store sends. Scripts add the rest: the fence above all.

use idem_core::store::{ReserveRequest, Span};
use idem_core::{Answer, Format, StoredValue};

use super::frame::UNITS;

/// A span in the server's milliseconds, rounded up, so that none becomes zero.
pub(crate) fn millis(span: Span) -> u64 {
    span.as_micros().div_ceil(1000)
}

/// A new record in flight as attempt 1, without its fence.
pub(crate) fn new_in_flight(request: &ReserveRequest) -> [u8; 63] {
    let mut bytes = [0; 63];
    bytes[0] = b'I';
    bytes[1..17].copy_from_slice(request.owner.as_bytes());
    bytes[17..49].copy_from_slice(request.fingerprint.as_bytes());
    // A span is at most ten years, which is below 2^39 milliseconds.
    bytes[49..54].copy_from_slice(&millis(request.lease).to_be_bytes()[3..]);
    bytes[54..59].copy_from_slice(&millis(request.record_ttl).to_be_bytes()[3..]);
    bytes[62] = 1;
    bytes
}

/// How long an answer is kept, as its record stores it.
pub(crate) fn kept_for(millis: u64) -> Vec<u8> {
    let unit = UNITS.iter().rposition(|unit| millis.is_multiple_of(*unit)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(8);
    push_varint(&mut bytes, (millis / UNITS[unit]) << 2 | unit as u64);
    bytes
}

/// An answer as its record stores it: its format in one number, then its bytes.
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

/// Seven bits a byte, lowest first, as postcard writes numbers.
fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}
