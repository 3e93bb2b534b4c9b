//! Records of every released version, byte for byte, and what they mean. The bytes were written by hand from the layouts in
//! `src/record/mod.rs`, not by this crate. They never change.

use idem_core::store::{OwnerToken, Record, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Format, StoredValue};

const FENCE: u64 = 1_767_268_800_000_001;
const DAY: u64 = 86_400_000;
/// When the keys' time to live ends, in milliseconds: the year 2100.
pub(crate) const ENDS_AT: u64 = 4_102_444_800_000;

pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// How many milliseconds the key has left.
    #[allow(dead_code, reason = "the store's own tests only write records")]
    pub(crate) left: u64,
    /// The record with that time to live.
    pub(crate) record: Record,
}

pub(crate) fn records() -> Vec<Golden> {
    let json = StoredValue { format: Format { codec: 1, schema: 70_000 }, body: b"\0\xff{}"[..].into() };
    let in_flight = |lease: u64, record_ttl: u64, lease_until, abandoned| State::InFlight {
        lease_until: at(lease_until),
        lease: Span::from_micros(lease * 1000).unwrap(),
        record_ttl: Span::from_micros(record_ttl * 1000).unwrap(),
        abandoned,
    };
    let completed =
        |answer: Answer, completed_at| State::Completed { answer, completed_at: at(completed_at) };
    vec![
        golden(
            "in flight",
            include_str!("v1_in_flight.hex"),
            1,
            DAY + 30_000,
            // Its last millisecond belongs to the lease.
            in_flight(60_000, DAY, ENDS_AT - DAY + 1, false),
        ),
        golden(
            "abandoned",
            include_str!("v1_abandoned.hex"),
            2,
            DAY,
            in_flight(1, 10 * 365 * DAY, ENDS_AT - DAY - 1000, true),
        ),
        golden(
            "completed",
            include_str!("v1_completed.hex"),
            300,
            DAY / 2,
            completed(json.into(), ENDS_AT - DAY),
        ),
        golden(
            "empty",
            include_str!("v1_empty.hex"),
            1,
            90_000,
            completed(StoredValue::bytes("").into(), ENDS_AT - 90_001),
        ),
        golden(
            "not kept",
            include_str!("v1_not_kept.hex"),
            1,
            45_000,
            completed(Answer::NotKept, ENDS_AT - 45_000),
        ),
        golden("released", include_str!("v1_released.hex"), u32::MAX, DAY, State::Released),
    ]
}

fn golden(name: &'static str, hex: &str, attempt: u32, left: u64, state: State) -> Golden {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let fingerprint = match state {
        State::Released => Record::NO_FINGERPRINT,
        _ => Fingerprint::from_bytes(std::array::from_fn(|index| u8::try_from(100 + index).unwrap())),
    };
    let record = Record {
        owner: OwnerToken::from_bytes(std::array::from_fn(|index| u8::try_from(index).unwrap())),
        fence: FencingToken::new(FENCE).unwrap(),
        attempt,
        fingerprint,
        state,
        expires_at: at(ENDS_AT),
    };
    Golden { name, bytes: digits.chunks(2).map(byte).collect(), left, record }
}

/// An instant, from milliseconds.
fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1000)
}
