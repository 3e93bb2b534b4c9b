//! [`Run`]: one run of a request; and [`Lease`], what this process knows of the run's lease.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::FencingToken;
use crate::key::Key;
use crate::store::{OwnerToken, Span};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// What the guard of a run, its handler, the heartbeat and the waiters share.
pub(crate) struct Run {
    pub(crate) key: Key,
    pub(crate) owner: OwnerToken,
    pub(crate) fence: FencingToken,
    /// The number of the attempt.
    pub(crate) attempt: u32,
    /// `None` for a run without protection.
    pub(crate) lease: Option<Lease>,
    /// Whether the end of the run is decided: by its guard, or by a shutdown that could not wait.
    is_decided: AtomicBool,
}

impl Run {
    /// A run that the store granted.
    pub(crate) fn granted(
        key: &Key,
        owner: OwnerToken,
        fence: FencingToken,
        attempt: u32,
        lease: Lease,
    ) -> Self {
        Self {
            key: key.clone(),
            owner,
            fence,
            attempt,
            lease: Some(lease),
            is_decided: AtomicBool::new(false),
        }
    }

    /// A run that the store does not know.
    pub(crate) fn unprotected(key: &Key) -> Self {
        Self::unconfirmed(key, OwnerToken::from_bytes([0; 16]))
    }

    /// A reservation that was sent, and whose outcome is unknown.
    pub(crate) fn unconfirmed(key: &Key, owner: OwnerToken) -> Self {
        let is_decided = AtomicBool::new(false);
        Self { key: key.clone(), owner, fence: FencingToken::MIN, attempt: 1, lease: None, is_decided }
    }

    /// Decides how the run ends. False if that was decided before.
    pub(crate) fn decide(&self) -> bool {
        !self.is_decided.swap(true, Ordering::AcqRel)
    }

    /// Marks the lease as lost: the key is not this run's any more, or is about to be given up.
    pub(crate) fn lose(&self) {
        if let Some(lease) = &self.lease {
            lease.lose();
        }
    }
}

/// How long a lease is known to hold, by this process's monotonic clock.
///
/// INV-1: the local lease never ends later than the store's. It is counted from the instant *before* the request was
/// sent, and the store counts from a later one.
pub(crate) struct Lease {
    /// When the reservation was sent.
    pub(crate) since: Instant,
    /// Microseconds after `since` at which the lease ends unless it is renewed.
    micros: AtomicU64,
    /// Never goes back to false: a renewal that arrives late does not revive the lease.
    is_lost: AtomicBool,
    changed: Notify,
}

impl Lease {
    /// A lease that the store granted for `left`, in reply to a request sent at `sent`.
    pub(crate) fn granted(sent: Instant, left: Duration) -> Self {
        Self {
            since: sent,
            micros: AtomicU64::new(micros(left)),
            is_lost: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// The store renewed the lease for `left`, in reply to a request sent at `sent`.
    pub(crate) fn renewed(&self, sent: Instant, left: Duration) {
        let end = micros(sent.saturating_duration_since(self.since).saturating_add(left));
        self.micros.fetch_max(end, Ordering::AcqRel);
    }

    /// The store said that the lease is lost, or it was given up.
    pub(crate) fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn ends(&self) -> Instant {
        self.since + Duration::from_micros(self.micros.load(Ordering::Acquire))
    }

    pub(crate) fn is_lost(&self) -> bool {
        if !self.is_lost.load(Ordering::Acquire) && Instant::now() >= self.ends() {
            self.is_lost.store(true, Ordering::Release);
        }
        self.is_lost.load(Ordering::Acquire)
    }

    pub(crate) async fn lost(&self) {
        loop {
            // Created before the check, so that a loss between the check and the wait is not missed.
            let changed = self.changed.notified();
            if self.is_lost() {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(self.ends()) => {}
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    // No lease is longer than ten years, so neither this nor the sum with an `Instant` overflows.
    u64::try_from(duration.min(2 * Span::MAX.as_duration()).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_is_lost_by_the_local_clock() {
        let start = Instant::now();
        let lease = Lease::granted(start, MINUTE);
        assert!(!lease.is_lost());
        lease.lost().await;
        assert_eq!(start.elapsed(), MINUTE);
        assert!(lease.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_counts_from_its_sending_and_never_shortens() {
        let start = Instant::now();
        let lease = Lease::granted(start, MINUTE);
        lease.renewed(start + Duration::from_secs(20), MINUTE);
        assert_eq!(lease.ends(), start + Duration::from_secs(80));
        lease.renewed(start + Duration::from_secs(20), Duration::from_secs(1));
        assert_eq!(lease.ends(), start + Duration::from_secs(80));
        lease.lost().await;
        assert_eq!(start.elapsed(), Duration::from_secs(80));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_lease_stays_lost_after_a_late_renewal() {
        let start = Instant::now();
        let lease = Lease::granted(start, MINUTE);
        lease.lost().await;
        lease.renewed(start + MINUTE, MINUTE);
        assert!(lease.is_lost());
    }
}
