//! The keys, payloads, answers and spans that the cases use.

use std::time::Duration;

use bytes::Bytes;
use idem_core::store::Span;
use idem_core::{Answer, Fingerprint, Key, StoredValue};

pub(crate) const MILLI: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The key that most cases use.
pub(crate) fn usual_key() -> Key {
    key("tenant", "request")
}

pub(crate) fn key(scope: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Key {
    Key::new(scope, name).expect("the cases' keys have 1 to 255 bytes each")
}

pub(crate) fn fingerprint(payload: &str) -> Fingerprint {
    Fingerprint::from_parts([payload])
}

/// An answer of plain bytes.
pub(crate) fn bytes(body: impl Into<Bytes>) -> Answer {
    StoredValue::bytes(body).into()
}

/// A [`Span`], for tests.
///
/// # Panics
///
/// If the duration is zero or above ten years.
#[track_caller]
pub fn span(duration: Duration) -> Span {
    duration.try_into().unwrap_or_else(|error| panic!("{error}"))
}
