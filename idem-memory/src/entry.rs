//! [`Entry`]: a key and what is remembered of it, in two lines of a processor's cache.
//!
//! A [`Record`] beside its key would take 144 bytes; an entry holds the same in 128. The states share their space to
//! the last byte, and the codec's number stands in bits that no fencing token has. The state machine reads records,
//! so for each transition one is put together.
//!
//! INV-1: between the operations of a store an entry holds its answer. An operation moves it out and back, since a
//! clone would count references up and down and might allocate.

use std::mem;

use bytes::Bytes;
use idem_core::store::{OwnerToken, Record, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Format, Key, StoredValue};

use crate::Options;

/// A key and its record. Aligned so that it never lies across three lines.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Entry {
    key: Key,
    owner: OwnerToken,
    fingerprint: Fingerprint,
    expires_at: Timestamp,
    fence: FenceAndCodec,
    state: Packed,
}

/// The state of a record, and what has no better place.
///
/// `Bytes` has a pointer in it that is never null. By that the compiler tells the two variants apart, without a tag
/// that would take 8 bytes; it could not tell more than two.
#[derive(Debug)]
enum Packed {
    Kept { body: Bytes, completed_at: Timestamp, attempt: u32, schema: u32 },
    Other { attempt: u32, state: Other },
}

/// A state that holds no bytes.
#[derive(Clone, Copy, Debug)]
enum Other {
    InFlight { lease_until: Timestamp, lease: Span, record_ttl: Span, abandoned: bool },
    NotKept { completed_at: Timestamp },
    Released,
}

/// A fencing token, which has 53 bits, and below it the number of the codec that wrote the answer (0 if there is none).
#[derive(Clone, Copy, Debug)]
struct FenceAndCodec(u64);

impl FenceAndCodec {
    fn new(fence: FencingToken, codec: u8) -> Self {
        Self(fence.get() << 8 | u64::from(codec))
    }

    fn fence(self) -> FencingToken {
        // It was a token before it was shifted, so there is always one.
        FencingToken::new(self.0 >> 8).unwrap_or(FencingToken::MAX)
    }

    fn codec(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

impl Entry {
    pub(crate) fn new(key: Key, record: Record) -> Self {
        let Record { owner, fence, attempt, fingerprint, state, expires_at } = record;
        let (state, codec) = Packed::new(attempt, state);
        Self { key, owner, fingerprint, expires_at, fence: FenceAndCodec::new(fence, codec), state }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    pub(crate) fn fence(&self) -> FencingToken {
        self.fence.fence()
    }

    /// What the entry counts for against the store's bound on bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let answer = match &self.state {
            Packed::Kept { body, .. } => body.len(),
            Packed::Other { .. } => 0,
        };
        bytes_in_flight(&self.key) + answer as u64
    }

    /// Takes the record out. It is to be [given back](Self::give_back), unless another is [put](Self::put) in its place.
    #[inline]
    pub(crate) fn take(&mut self) -> Record {
        let (attempt, state) = match &mut self.state {
            Packed::Kept { body, completed_at, attempt, schema } => {
                let format = Format { codec: self.fence.codec(), schema: *schema };
                let answer = Answer::Value(StoredValue { format, body: mem::take(body) });
                (*attempt, State::Completed { answer, completed_at: *completed_at })
            }
            Packed::Other { attempt, state } => (*attempt, state.unpacked()),
        };
        Record {
            owner: self.owner,
            fence: self.fence.fence(),
            attempt,
            fingerprint: self.fingerprint,
            state,
            expires_at: self.expires_at,
        }
    }

    /// Takes back a record that stays as it was. All but the answer never left.
    #[inline]
    pub(crate) fn give_back(&mut self, record: Record) {
        let Packed::Kept { body, .. } = &mut self.state else { return };
        if let State::Completed { answer: Answer::Value(response), .. } = record.state {
            *body = response.body;
        }
    }

    /// Puts another record in the place of the one that was taken.
    #[inline]
    pub(crate) fn put(&mut self, record: Record) {
        let Record { owner, fence, attempt, fingerprint, state, expires_at } = record;
        let (state, codec) = Packed::new(attempt, state);
        (self.owner, self.fingerprint, self.expires_at) = (owner, fingerprint, expires_at);
        (self.fence, self.state) = (FenceAndCodec::new(fence, codec), state);
    }
}

impl Packed {
    /// The state with its attempt, and the number of the codec that wrote its answer.
    #[inline]
    fn new(attempt: u32, state: State) -> (Self, u8) {
        let other = match state {
            State::Completed { answer: Answer::Value(StoredValue { format, body }), completed_at } => {
                return (Self::Kept { body, completed_at, attempt, schema: format.schema }, format.codec);
            }
            State::Completed { answer: Answer::NotKept, completed_at } => Other::NotKept { completed_at },
            State::InFlight { lease_until, lease, record_ttl, abandoned } => {
                Other::InFlight { lease_until, lease, record_ttl, abandoned }
            }
            State::Released => Other::Released,
        };
        (Self::Other { attempt, state: other }, 0)
    }
}

impl Other {
    #[inline]
    fn unpacked(self) -> State {
        match self {
            Self::InFlight { lease_until, lease, record_ttl, abandoned } => {
                State::InFlight { lease_until, lease, record_ttl, abandoned }
            }
            Self::NotKept { completed_at } => State::Completed { answer: Answer::NotKept, completed_at },
            Self::Released => State::Released,
        }
    }
}

/// What a record of this key counts for against the store's bound on bytes.
pub(crate) fn bytes(key: &Key, record: &Record) -> u64 {
    let answer = match &record.state {
        State::Completed { answer, .. } => answer.len(),
        State::InFlight { .. } | State::Released => 0,
    };
    bytes_in_flight(key) + answer as u64
}

/// The same for a record that has no answer.
pub(crate) fn bytes_in_flight(key: &Key) -> u64 {
    Options::RECORD_BYTES + key.as_bytes().len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of every state, with the greatest numbers that each field can have.
    fn records() -> Vec<Record> {
        let (end, longest) = (Timestamp::from_micros(u64::MAX), Span::MAX);
        let response = StoredValue {
            format: Format { codec: 255, schema: u32::MAX },
            body: Bytes::from("body".repeat(9)),
        };
        let in_flight =
            |abandoned| State::InFlight { lease_until: end, lease: longest, record_ttl: longest, abandoned };
        let states = [
            in_flight(false),
            in_flight(true),
            State::Completed { answer: Answer::Value(response), completed_at: end },
            State::Completed { answer: Answer::Value(StoredValue::bytes("")), completed_at: end },
            State::Completed { answer: Answer::NotKept, completed_at: end },
            State::Released,
        ];
        states
            .map(|state| Record {
                owner: OwnerToken::from_bytes([255; 16]),
                fence: FencingToken::MAX,
                attempt: u32::MAX,
                fingerprint: Fingerprint::from_bytes([255; 32]),
                state,
                expires_at: end,
            })
            .into()
    }

    #[test]
    fn every_record_comes_out_as_it_was_put_in() {
        let key = Key::new("scope", "name").unwrap();
        for first in records() {
            for second in records() {
                let mut entry = Entry::new(key.clone(), first.clone());
                for _ in 0..2 {
                    let taken = entry.take();
                    assert_eq!(taken, first);
                    entry.give_back(taken);
                    assert_eq!(entry.bytes(), bytes(&key, &first));
                }
                assert_eq!(entry.take(), first);
                entry.put(second.clone());
                assert_eq!(entry.bytes(), bytes(&key, &second));
                assert_eq!((entry.expires_at(), entry.fence()), (second.expires_at, second.fence));
                assert_eq!((entry.take(), entry.key()), (second, &key));
            }
        }
    }

    #[test]
    fn an_answer_is_moved_and_never_cloned() {
        let answer = StoredValue::bytes("body".repeat(9)).into();
        let state = State::Completed { answer, completed_at: Timestamp::from_micros(1) };
        let record = Record { state, ..records().remove(0) };
        let mut entry = Entry::new(Key::new("scope", "name").unwrap(), record);
        let taken = entry.take();
        let State::Completed { answer: Answer::Value(response), .. } = &taken.state else { panic!() };
        assert!(response.body.is_unique());
        entry.give_back(taken);
        assert_eq!(entry.bytes(), bytes_in_flight(entry.key()) + 36);
    }

    #[test]
    fn an_entry_is_two_lines_of_64_bytes() {
        assert_eq!(size_of::<Entry>(), 128);
    }
}
