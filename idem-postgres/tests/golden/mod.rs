//! Rows of every released version, and the records that they mean. They were written by hand, not by this crate, and they
//! never change.

use idem_core::store::{OwnerToken, Record, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Format, Key, StoredValue};

/// Rows for the tables of version 1 with the default names.
pub(crate) const V1: &str = include_str!("v1.sql");

/// The year 2100, so that no row expires during a test.
const FAR: Timestamp = Timestamp::from_micros(4_102_444_800_000_000);
/// A minute earlier.
const LEASE_UNTIL: Timestamp = Timestamp::from_micros(4_102_444_740_000_000);
const FENCE: u64 = 1_767_268_800_000_001;
const TEN_YEARS: u64 = 315_360_000_000_000;

/// `get` does not show tombstones.
pub(crate) fn is_shown(record: &Record) -> bool {
    record.state != State::Released
}

/// The records in `v1.sql`.
pub(crate) fn records() -> Vec<(Key, Record)> {
    let completed_at = Timestamp::from_micros(FENCE + 5);
    let json = StoredValue { format: Format { codec: 1, schema: 70_000 }, body: b"\0\xff{}"[..].into() };
    let in_flight = |lease, record_ttl, abandoned| State::InFlight {
        lease_until: LEASE_UNTIL,
        lease: Span::from_micros(lease).unwrap(),
        record_ttl: Span::from_micros(record_ttl).unwrap(),
        abandoned,
    };
    let completed = |answer: Answer| State::Completed { answer, completed_at };
    vec![
        golden("in flight", 1, in_flight(TEN_YEARS, 60_000_000, false)),
        golden("abandoned", 2, in_flight(TEN_YEARS, TEN_YEARS, true)),
        golden("completed", 300, completed(json.into())),
        golden("empty", 1, completed(StoredValue::bytes("").into())),
        golden("not kept", 1, completed(Answer::NotKept)),
        golden("released", u32::MAX, State::Released),
    ]
}

fn golden(name: &str, attempt: u32, state: State) -> (Key, Record) {
    let record = Record {
        owner: OwnerToken::from_bytes(std::array::from_fn(|index| u8::try_from(index).unwrap())),
        fence: FencingToken::new(FENCE).unwrap(),
        attempt,
        fingerprint: match state {
            State::Released => Record::NO_FINGERPRINT,
            _ => Fingerprint::from_bytes(std::array::from_fn(|index| u8::try_from(100 + index).unwrap())),
        },
        state,
        expires_at: FAR,
    };
    (Key::new("golden", name).unwrap(), record)
}
