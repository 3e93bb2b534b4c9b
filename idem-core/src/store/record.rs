//! [`Record`]: what a store keeps of one key, and the tokens in it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Span, Timestamp};
use crate::{Answer, Fingerprint};

/// Identifies one owner of a key: 128 random bits that the *caller* draws before it sends its reservation.
///
/// Since the caller makes the token, it can send an operation whose reply was lost again, with the same token and without a
/// second effect. Only the owner's token can complete, renew, abandon or release a record. So it is never shown:
/// [`get`](crate::ReservationStore::get) leaves it out and `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerToken([u8; 16]);

impl OwnerToken {
    /// Draws a new token from the operating system.
    ///
    /// Nothing is buffered: a buffer would give the same tokens twice after a fork, or in two virtual machines that were
    /// resumed from one snapshot.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness. There is no safe way to continue: with a token that can be guessed,
    /// others could complete the key.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            panic!("the operating system gave no random bytes: {error}");
        }
        Self(bytes)
    }

    /// The token with these bytes: for backends that read one from storage, and for tests.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerToken(..)")
    }
}

/// A number that grows with every new owner of a key.
///
/// Pass it to the systems that the handler changes. A system that remembers the greatest fence it has seen can refuse the
/// late writes of an owner whose key was taken over (Kleppmann, "How to do distributed locking", 2016).
///
/// In `1..=2^53-1`, so that it survives JSON and Lua, where numbers are 64-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct FencingToken(u64);

impl FencingToken {
    /// The lowest token.
    pub const MIN: Self = Self(1);
    /// The greatest token: 2^53 - 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The token with this number, or `None` if it is 0 or above [`MAX`](Self::MAX).
    pub const fn new(number: u64) -> Option<Self> {
        if number >= Self::MIN.0 && number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The token of the next owner: `max(previous + 1, now in microseconds)`, or `None` beyond [`MAX`](Self::MAX).
    ///
    /// The clock makes tokens grow after a record was removed. The increment makes them grow when the clock stands still
    /// or steps back.
    pub fn next(previous: Option<Self>, now: Timestamp) -> Option<Self> {
        let after_previous = previous.map_or(Self::MIN.0, |token| token.0 + 1);
        Self::new(after_previous.max(now.as_micros()))
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> Self {
        token.0
    }
}

impl TryFrom<u64> for FencingToken {
    type Error = InvalidFencingToken;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        Self::new(number).ok_or(InvalidFencingToken(number))
    }
}

/// A number that is not a [`FencingToken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a fencing token; use a number from 1 to 2^53 - 1")]
pub struct InvalidFencingToken(u64);

/// Everything that a store keeps of one key. [`transition`](crate::store::transition) makes and reads records; backends
/// store them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The token that may change the record.
    pub owner: OwnerToken,
    /// The owner's fencing token.
    pub fence: FencingToken,
    /// 1 for the first owner, and one more for each takeover.
    pub attempt: u32,
    /// The fingerprint of the request. A tombstone has [`Record::NO_FINGERPRINT`], which is never compared.
    pub fingerprint: Fingerprint,
    /// In flight, completed or released.
    pub state: State,
    /// From this instant on, the record counts as absent, whether or not it was swept.
    pub expires_at: Timestamp,
}

/// The state of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The key has an owner that has not finished.
    InFlight {
        /// The owner is live before this instant. From it on, others may take over.
        lease_until: Timestamp,
        /// The length of the lease when `lease_until` was set. If `lease_until` is later than now plus this length, the
        /// clock stepped back.
        lease: Span,
        /// How long an unfinished record is kept after its lease ends.
        record_ttl: Span,
        /// The owner gave up, and it is not known what happened. Others may take over at once.
        abandoned: bool,
    },
    /// The run finished, and this is its answer.
    Completed {
        /// The answer that duplicates get.
        answer: Answer,
        /// When the completion was accepted.
        completed_at: Timestamp,
    },
    /// A tombstone: the owner said that nothing happened. It stays for a while, so that a late reservation with the
    /// owner's token cannot start the run again.
    Released,
}

impl Record {
    /// The fingerprint of a tombstone.
    pub const NO_FINGERPRINT: Fingerprint = Fingerprint::from_bytes([0; 32]);

    /// Whether the record counts as absent.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// Shortens a lease that is longer than the span it was granted for, and with it the life of the record. Returns
    /// whether it did.
    ///
    /// Such a lease shows that the store's clock stepped back after the grant. A backend on a wall clock calls this on each
    /// record in flight that it reads.
    pub fn clamp_lease(&mut self, now: Timestamp) -> bool {
        let State::InFlight { lease_until, lease, record_ttl, abandoned } = &mut self.state else {
            return false;
        };
        let longest = now.saturating_add(*lease);
        let kept_from = if *abandoned { now } else { longest };
        let kept = kept_from.saturating_add(*record_ttl);
        if *lease_until <= longest && (!*abandoned || self.expires_at <= kept) {
            return false;
        }
        *lease_until = longest.min(*lease_until);
        self.expires_at = self.expires_at.min(kept);
        true
    }

    /// The record as [`get`](crate::ReservationStore::get) shows it: without its owner token, and with durations instead
    /// of instants. `None` for an expired record and for a tombstone.
    pub fn view(&self, now: Timestamp) -> Option<RecordView> {
        if self.is_expired(now) {
            return None;
        }
        let state = match &self.state {
            State::InFlight { lease_until, abandoned, .. } => {
                StateView::InFlight { lease_left: lease_until.since(now), abandoned: *abandoned }
            }
            State::Completed { answer, completed_at } => {
                StateView::Completed { answer: answer.clone(), age: now.since(*completed_at) }
            }
            State::Released => return None,
        };
        Some(RecordView {
            fence: self.fence,
            attempt: self.attempt,
            fingerprint: self.fingerprint,
            state,
            expires_in: self.expires_at.since(now),
        })
    }
}

/// A [`Record`] as callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordView {
    /// The fencing token of the current or last owner.
    pub fence: FencingToken,
    /// The number of the current or last attempt.
    pub attempt: u32,
    /// The fingerprint of the request.
    pub fingerprint: Fingerprint,
    /// In flight or completed.
    pub state: StateView,
    /// How long until the record expires.
    pub expires_in: Duration,
}

impl RecordView {
    /// Makes a view, for backends that answer [`get`](crate::ReservationStore::get) without a [`Record`].
    pub fn new(
        fence: FencingToken,
        attempt: u32,
        fingerprint: Fingerprint,
        state: StateView,
        expires_in: Duration,
    ) -> Self {
        Self { fence, attempt, fingerprint, state, expires_in }
    }

    /// Whether a reservation with another token could take the key over now: the owner has not finished, and its lease is
    /// over or abandoned.
    pub fn can_be_taken_over(&self) -> bool {
        matches!(self.state, StateView::InFlight { lease_left, abandoned } if abandoned || lease_left.is_zero())
    }
}

/// The state of a [`RecordView`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateView {
    /// The key has an owner that has not finished.
    InFlight {
        /// How long the owner's lease still lasts; zero once it is over.
        lease_left: Duration,
        /// Whether the owner has given up.
        abandoned: bool,
    },
    /// The run finished.
    Completed {
        /// The answer that duplicates get.
        answer: Answer,
        /// How long ago the completion was accepted.
        age: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_follow_the_clock_and_never_go_back() {
        let at = Timestamp::from_micros;
        let fence = |number| FencingToken::new(number).unwrap();
        assert_eq!(FencingToken::next(None, at(0)), Some(FencingToken::MIN));
        assert_eq!(FencingToken::next(None, at(500)), Some(fence(500)));
        assert_eq!(FencingToken::next(Some(fence(500)), at(500)), Some(fence(501)));
        assert_eq!(FencingToken::next(Some(fence(900)), at(500)), Some(fence(901)));
        assert_eq!(FencingToken::next(Some(fence(500)), at(900)), Some(fence(900)));
    }

    #[test]
    fn a_fence_beyond_2_to_the_53_is_refused_and_never_wraps() {
        assert_eq!(FencingToken::next(Some(FencingToken::MAX), Timestamp::from_micros(1)), None);
        assert_eq!(FencingToken::next(None, Timestamp::from_micros(1 << 53)), None);
        assert_eq!(FencingToken::new(0), None);
        assert!(serde_json::from_str::<FencingToken>("9007199254740992").is_err());
    }

    #[test]
    fn a_fence_is_written_as_its_number_and_read_back_as_itself() {
        assert_eq!(FencingToken::MAX.to_string(), "9007199254740991");
        let json = serde_json::to_string(&FencingToken::MAX).unwrap();
        assert_eq!(json, "9007199254740991");
        assert_eq!(serde_json::from_str::<FencingToken>(&json).unwrap(), FencingToken::MAX);
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let token = OwnerToken::from_bytes(*b"0123456789abcdef");
        assert_eq!(format!("{token:?}"), "OwnerToken(..)");
    }
}
