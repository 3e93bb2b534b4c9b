//! The bytes of a record: a version byte, then one struct in postcard's format.
//!
//! A version never changes, because postcard has no optional fields and would read one struct as another. A new version
//! gets the next number and its own struct; `tests/golden` keeps records of every version. Instants and spans are
//! microseconds.
//!
//! The record's `expires_at` is a column of its own, because the sweep searches for it.
//!
//! INV-1: bytes that do not decode completely are an error, never a record and never an absent record.

use bytes::Bytes;
use idem_core::store::{OwnerToken, Record, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Format, StoredValue};
use serde::{Deserialize, Serialize};

/// The version that this release writes.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct RecordV1<'a> {
    owner: [u8; 16],
    fence: u64,
    attempt: u32,
    fingerprint: [u8; 32],
    #[serde(borrow)]
    state: StateV1<'a>,
}

#[derive(Serialize, Deserialize)]
enum StateV1<'a> {
    InFlight {
        lease_until: u64,
        lease: u64,
        record_ttl: u64,
        abandoned: bool,
    },
    Completed {
        /// How long before `expires_at`: a span takes fewer bytes than an instant.
        completed_before: u64,
        #[serde(borrow)]
        answer: AnswerV1<'a>,
    },
    Released,
}

#[derive(Serialize, Deserialize)]
enum AnswerV1<'a> {
    Response {
        codec: u8,
        schema: u32,
        #[serde(borrow, with = "serde_bytes")]
        body: &'a [u8],
    },
    NotKept,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the record has format version {0}; this release reads versions up to {VERSION}")]
    LaterVersion(u8),
    #[error("the record's bytes are not in its format")]
    Malformed,
}

/// The bytes of a record, without its `expires_at`.
pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let frame = RecordV1 {
        owner: *record.owner.as_bytes(),
        fence: record.fence.get(),
        attempt: record.attempt,
        fingerprint: *record.fingerprint.as_bytes(),
        state: match &record.state {
            State::InFlight { lease_until, lease, record_ttl, abandoned } => StateV1::InFlight {
                lease_until: lease_until.as_micros(),
                lease: lease.as_micros(),
                record_ttl: record_ttl.as_micros(),
                abandoned: *abandoned,
            },
            State::Completed { answer, completed_at } => StateV1::Completed {
                completed_before: record.expires_at.as_micros().wrapping_sub(completed_at.as_micros()),
                answer: match answer {
                    Answer::Value(value) => AnswerV1::Response {
                        codec: value.format.codec,
                        schema: value.format.schema,
                        body: &value.body,
                    },
                    Answer::NotKept => AnswerV1::NotKept,
                },
            },
            State::Released => StateV1::Released,
        },
    };
    let body_len = if let State::Completed { answer, .. } = &record.state { answer.len() } else { 0 };
    let mut bytes = Vec::with_capacity(96 + body_len);
    bytes.push(VERSION);
    // Writing to a vector cannot fail, and every field of the struct can be serialised.
    postcard::to_extend(&frame, bytes).unwrap_or_default()
}

/// The record with these bytes.
pub(crate) fn decode(bytes: &[u8], expires_at: Timestamp) -> Result<Record, FrameError> {
    let (&version, rest) = bytes.split_first().ok_or(FrameError::Malformed)?;
    match version {
        VERSION => {}
        0 => return Err(FrameError::Malformed),
        later => return Err(FrameError::LaterVersion(later)),
    }
    let (frame, left) = postcard::take_from_bytes::<RecordV1<'_>>(rest).map_err(|_| FrameError::Malformed)?;
    if !left.is_empty() {
        return Err(FrameError::Malformed);
    }
    let fence = FencingToken::new(frame.fence).ok_or(FrameError::Malformed)?;
    Ok(Record {
        owner: OwnerToken::from_bytes(frame.owner),
        fence,
        attempt: frame.attempt,
        fingerprint: Fingerprint::from_bytes(frame.fingerprint),
        state: match frame.state {
            StateV1::InFlight { lease_until, lease, record_ttl, abandoned } => State::InFlight {
                lease_until: Timestamp::from_micros(lease_until),
                lease: span(lease)?,
                record_ttl: span(record_ttl)?,
                abandoned,
            },
            StateV1::Completed { completed_before, answer } => State::Completed {
                completed_at: Timestamp::from_micros(expires_at.as_micros().wrapping_sub(completed_before)),
                answer: match answer {
                    AnswerV1::Response { codec, schema, body } => Answer::Value(StoredValue {
                        format: Format { codec, schema },
                        body: Bytes::copy_from_slice(body),
                    }),
                    AnswerV1::NotKept => Answer::NotKept,
                },
            },
            StateV1::Released => State::Released,
        },
        expires_at,
    })
}

fn span(micros: u64) -> Result<Span, FrameError> {
    Span::from_micros(micros).map_err(|_| FrameError::Malformed)
}

#[cfg(test)]
#[path = "../../tests/golden/mod.rs"]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_version_are_read_and_those_of_this_version_are_written_the_same() {
        for golden in golden::records() {
            let record = decode(&golden.bytes, golden.record.expires_at);
            assert_eq!(record.as_ref(), Ok(&golden.record), "{}", golden.name);
            assert_eq!(encode(&golden.record), golden.bytes, "{}", golden.name);
        }
    }

    fn record(state: State) -> Record {
        Record {
            owner: OwnerToken::from_bytes([7; 16]),
            fence: FencingToken::new(1_767_268_800_000_000).unwrap(),
            attempt: 3,
            fingerprint: Fingerprint::from_bytes([9; 32]),
            state,
            expires_at: Timestamp::from_micros(1_767_355_200_000_000),
        }
    }

    fn states() -> Vec<State> {
        let completed_at = Timestamp::from_micros(1_767_268_799_000_000);
        let value =
            StoredValue { format: Format { codec: 1, schema: 70_000 }, body: Bytes::from_static(b"\0\xff") };
        vec![
            State::InFlight {
                lease_until: Timestamp::from_micros(1_767_268_860_000_000),
                lease: Span::MAX,
                record_ttl: Span::MIN,
                abandoned: true,
            },
            State::Completed { answer: Answer::Value(value), completed_at },
            State::Completed { answer: Answer::Value(StoredValue::bytes("")), completed_at },
            State::Completed { answer: Answer::NotKept, completed_at },
            State::Released,
        ]
    }

    #[test]
    fn every_state_comes_back_as_it_was() {
        for state in states() {
            let record = record(state);
            assert_eq!(decode(&encode(&record), record.expires_at).unwrap(), record);
        }
    }

    #[test]
    fn a_fence_and_an_instant_at_the_end_of_their_range_come_back() {
        for (fence, at) in [(FencingToken::MAX, 0), (FencingToken::MIN, u64::MAX)] {
            let state =
                State::Completed { answer: Answer::NotKept, completed_at: Timestamp::from_micros(at) };
            let record = Record { fence, ..record(state) };
            assert_eq!(decode(&encode(&record), record.expires_at).unwrap(), record);
        }
    }

    #[test]
    fn a_later_version_is_distinguished_from_garbage() {
        let mut bytes = encode(&record(State::Released));
        bytes[0] = VERSION + 1;
        assert_eq!(decode(&bytes, Timestamp::from_micros(0)).unwrap_err(), FrameError::LaterVersion(2));
        bytes[0] = 0;
        assert_eq!(decode(&bytes, Timestamp::from_micros(0)).unwrap_err(), FrameError::Malformed);
        assert_eq!(decode(&[], Timestamp::from_micros(0)).unwrap_err(), FrameError::Malformed);
    }

    #[test]
    fn a_record_with_missing_or_extra_bytes_is_refused() {
        for state in states() {
            let bytes = encode(&record(state));
            let longer = [&bytes[..], &[0]].concat();
            let prefixes = (0..bytes.len()).map(|len| &bytes[..len]);
            for broken in prefixes.chain([&longer[..]]) {
                assert_eq!(decode(broken, Timestamp::from_micros(0)).unwrap_err(), FrameError::Malformed);
            }
        }
    }
}
