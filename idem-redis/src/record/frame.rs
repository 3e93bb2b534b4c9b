//! [`Frame`]: what a record's bytes say, and the [`Record`] that they are together with the key's time to live.

use idem_core::store::{OwnerToken, Record, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint};
use serde::{Deserialize, Serialize};

/// Where a completed record's tail begins.
pub(super) const TAIL: usize = 56;

/// The units of `kept_for`, in milliseconds: a millisecond, a second, a minute, an hour.
pub(super) const UNITS: [u64; 4] = [1, 1_000, 60_000, 3_600_000];

/// The numbers of a completed record between its fence and its answer. They never change, because postcard has no
/// optional fields.
#[derive(Serialize, Deserialize)]
pub(super) struct TailV1 {
    pub(super) attempt: u32,
    pub(super) kept_for: u64,
    pub(super) format: u64,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(
        "the record begins with {0:#04x}, which belongs to a later version; this release reads version 1"
    )]
    LaterVersion(u8),
    #[error("the value at the record's key does not follow the format of a record")]
    Malformed,
}

/// A record's bytes, without its key's time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) owner: OwnerToken,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) fence: FencingToken,
    pub(crate) attempt: u32,
    pub(crate) state: FrameState,
}

/// The state of a [`Frame`]. Numbers are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FrameState {
    InFlight { lease: Span, record_ttl: Span },
    Abandoned { lease: Span, record_ttl: Span, lease_until: u64 },
    Completed { kept_for: u64, answer: Answer },
    Released,
}

/// The time to live of a key, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeToLive {
    /// What is left of it.
    pub(crate) left: u64,
    /// When it ends, since the epoch.
    pub(crate) ends_at: u64,
}

impl Frame {
    /// The record of a key with this time to live, and the server's time.
    pub(crate) fn with_ttl(self, ttl: Option<TimeToLive>) -> (Record, Timestamp) {
        // An operator has made the key persistent: nothing is left of a lease, and the record stays.
        let TimeToLive { left, ends_at } = ttl.unwrap_or(TimeToLive { left: 0, ends_at: u64::MAX });
        let now = if ttl.is_some() { ends_at.saturating_sub(left) } else { 0 };
        let state = match self.state {
            FrameState::InFlight { lease, record_ttl } => {
                // The last millisecond belongs to the lease.
                let lease_left = (left + 1).saturating_sub(record_ttl.as_micros() / 1000);
                let lease_until = timestamp(now + lease_left);
                State::InFlight { lease_until, lease, record_ttl, abandoned: false }
            }
            FrameState::Abandoned { lease, record_ttl, lease_until } => {
                let lease_until = timestamp(lease_until);
                State::InFlight { lease_until, lease, record_ttl, abandoned: true }
            }
            FrameState::Completed { kept_for, answer } => {
                let completed_at = timestamp((now + left).saturating_sub(kept_for).min(now));
                State::Completed { answer, completed_at }
            }
            FrameState::Released => State::Released,
        };
        let Self { owner, fingerprint, fence, attempt, .. } = self;
        // The last millisecond belongs to the record.
        let expires_at = timestamp(ends_at.max(now + 1));
        let mut record = Record { owner, fence, attempt, fingerprint, state, expires_at };
        // More is left than was granted if the clock stepped back.
        record.clamp_lease(timestamp(now));
        (record, timestamp(now))
    }
}

/// The instant so many milliseconds after the epoch.
pub(super) fn timestamp(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis.saturating_mul(1000))
}
