//! Records of every version, byte for byte, and what they mean. The bytes were written by hand from postcard's wire
//! format (<https://postcard.jamesmunns.com/wire-format>), not by this crate. They never change.

use idem_core::store::{OwnerToken, Record, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Format, StoredValue};

/// The year 2100, so that no record expires during a test.
const FAR: Timestamp = Timestamp::from_micros(4_102_444_800_000_000);
const FENCE: u64 = 1_767_268_800_000_001;
const DAY: u64 = 86_400_000_000;

pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) record: Record,
}

pub(crate) fn records() -> Vec<Golden> {
    let completed_at = Timestamp::from_micros(FENCE + 5);
    let json = StoredValue { format: Format { codec: 1, schema: 70_000 }, body: b"\0\xff{}"[..].into() };
    let in_flight = |lease, record_ttl, abandoned| State::InFlight {
        lease_until: FAR,
        lease: Span::from_micros(lease).unwrap(),
        record_ttl: Span::from_micros(record_ttl).unwrap(),
        abandoned,
    };
    let completed = |answer: Answer| State::Completed { answer, completed_at };
    vec![
        golden("in flight", include_str!("v1_in_flight.hex"), 1, in_flight(60_000_000, DAY, false)),
        golden("abandoned", include_str!("v1_abandoned.hex"), 2, in_flight(1, 10 * 365 * DAY, true)),
        golden("completed", include_str!("v1_completed.hex"), 300, completed(json.into())),
        golden("empty", include_str!("v1_empty.hex"), 1, completed(StoredValue::bytes("").into())),
        golden("not kept", include_str!("v1_not_kept.hex"), 1, completed(Answer::NotKept)),
        golden("released", include_str!("v1_released.hex"), u32::MAX, State::Released),
    ]
}

fn golden(name: &'static str, hex: &str, attempt: u32, state: State) -> Golden {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let record = Record {
        owner: OwnerToken::from_bytes(std::array::from_fn(|index| u8::try_from(index).unwrap())),
        fence: FencingToken::new(FENCE).unwrap(),
        attempt,
        fingerprint: Fingerprint::from_bytes(std::array::from_fn(|index| u8::try_from(100 + index).unwrap())),
        state,
        expires_at: FAR,
    };
    Golden { name, bytes: digits.chunks(2).map(byte).collect(), record }
}
