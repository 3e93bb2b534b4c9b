#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

#[path = "../../tests/golden/mod.rs"]
mod golden;

use std::time::Duration;

use idem_core::store::{Span, State};
use idem_core::{Answer, Format, StoredValue};

use super::frame::{TAIL, timestamp};
use super::{FrameError, FrameState, TimeToLive, answer, decode, kept_for, millis};

#[test]
fn records_of_every_released_version_are_read() {
    for golden in golden::records() {
        let ttl = TimeToLive { left: golden.left, ends_at: golden::ENDS_AT };
        let (record, now) = decode(golden.bytes).unwrap().with_ttl(Some(ttl));
        assert_eq!(record, golden.record, "{}", golden.name);
        assert_eq!(now, timestamp(golden::ENDS_AT - golden.left));
    }
}

#[test]
fn no_prefix_and_nothing_longer_is_another_record() {
    for golden in golden::records() {
        for len in 0..golden.bytes.len() {
            let cuts_only_the_answer = golden.name == "completed" && len >= golden.bytes.len() - 4;
            if !cuts_only_the_answer {
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
fn a_lease_or_a_record_ttl_that_is_no_span_is_malformed() {
    for golden in golden::records().into_iter().take(2) {
        for field in [49..54, 54..59] {
            for byte in [0, 0xff] {
                let mut bytes = golden.bytes.clone();
                bytes[field.clone()].fill(byte);
                assert_eq!(decode(bytes).unwrap_err(), FrameError::Malformed, "{}", golden.name);
            }
        }
    }
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
    let ttl = TimeToLive { left: 90_000_000, ends_at: golden::ENDS_AT };
    let (record, now) = frame.with_ttl(Some(ttl));
    let State::InFlight { lease_until, .. } = record.state else { panic!() };
    assert_eq!(lease_until.since(now), Duration::from_secs(60));
}

#[test]
fn durations_are_rounded_up_to_milliseconds() {
    let rounded = |nanos| millis(Span::new(Duration::from_nanos(nanos)).unwrap());
    assert_eq!(rounded(1), 1);
    assert_eq!(rounded(1_000_001), 2);
    assert_eq!(millis(Span::MAX), 315_360_000_000);
}
