//! [`Attempt`]: what a handler is told about its run, and [`Lease`], the local view of its lease.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::store::OwnerToken;
use crate::store::Span;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::{FencingToken, Key};

/// One run of a handler. Cheap to clone, and free to outlive the handler.
///
/// ```
/// # use idem_core::Attempt;
/// async fn create_database(attempt: Attempt) -> Result<String, std::io::Error> {
///     if attempt.number > 1 {
///         // An earlier attempt crashed or lost its lease. It may have created the database: look before creating.
///     }
///     // Hand the fence to what is changed, so that an older owner's late write can be refused, and the downstream
///     // key to services that have idempotency keys of their own, so that they recognise the request too.
///     Ok(format!("created under fence {} and key {}", attempt.fence, attempt.downstream_key()))
/// }
/// ```
#[derive(Clone)]
pub struct Attempt {
    /// 1 for the first attempt. Above 1, an earlier attempt may have had its effect.
    pub number: u32,
    /// Greater than every earlier owner's. Of an [unprotected](Self::is_unprotected) run it is
    /// [`FencingToken::MIN`], so that whatever compares fences refuses it once anyone else has been there.
    pub fence: FencingToken,
    ownership: Arc<Ownership>,
}

impl Attempt {
    pub(crate) fn new(ownership: Arc<Ownership>) -> Self {
        Self { number: ownership.number, fence: ownership.fence, ownership }
    }

    /// Resolves when the lease is lost, and never if it is not: another owner took the key over, or the store could
    /// not be reached to renew the lease until, by this process's own monotonic clock counted from the sending of the
    /// last successful renewal, it must have ended; or this engine itself has given the key up, because the run was
    /// dropped, failed, or did not end before a shutdown. From then on another attempt may be running: stop making
    /// effects.
    ///
    /// On most systems the monotonic clock stands still while the machine is suspended; a machine that slept learns of
    /// the loss from the store.
    pub async fn lost(&self) {
        match &self.ownership.lease {
            Some(lease) => lease.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Whether [`lost`](Self::lost) would resolve at once. Once true it stays true.
    pub fn is_lost(&self) -> bool {
        self.ownership.lease.as_ref().is_some_and(Lease::is_lost)
    }

    /// Whether this run is not protected: the store could not be reached and the engine is set to
    /// [`FailOpen`](crate::StoreFailurePolicy::FailOpen). Other runs of the same request may be under way or done.
    pub fn is_unprotected(&self) -> bool {
        self.ownership.lease.is_none()
    }

    /// A key for systems that have idempotency of their own: 32 hexadecimal digits, the same for every attempt under
    /// this [`Key`] and for no other key. Derived by BLAKE3, so that it does not reveal the key.
    ///
    /// It depends on the key alone. If your client uses a key again, for another payload once the first record was
    /// released or has expired, this one comes again too, and the other system may answer with what it remembers.
    pub fn downstream_key(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("idem 2026-11-23 downstream key v1");
        hasher.update(self.ownership.key.as_bytes());
        let mut hex = hasher.finalize().to_hex().to_string();
        hex.truncate(32);
        hex
    }

    pub(crate) fn ownership(&self) -> &Arc<Ownership> {
        &self.ownership
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("number", &self.number)
            .field("fence", &self.fence)
            .field("lost", &self.is_lost())
            .field("unprotected", &self.is_unprotected())
            .finish_non_exhaustive()
    }
}

/// What the guard, the heartbeat and the handler share of one run.
pub(crate) struct Ownership {
    pub(crate) key: Key,
    pub(crate) owner: OwnerToken,
    pub(crate) fence: FencingToken,
    pub(crate) number: u32,
    /// `None` for a run without protection.
    pub(crate) lease: Option<Lease>,
    /// Somebody has decided how the run ends: its guard, or a shutdown that could not wait.
    decided: AtomicBool,
}

impl Ownership {
    /// A run that the store granted.
    pub(crate) fn granted(
        key: &Key,
        owner: OwnerToken,
        fence: FencingToken,
        number: u32,
        lease: Lease,
    ) -> Self {
        let decided = AtomicBool::new(false);
        Self { key: key.clone(), owner, fence, number, lease: Some(lease), decided }
    }

    /// A run that the store knows nothing of.
    pub(crate) fn unprotected(key: &Key) -> Self {
        Self::given_up(key, OwnerToken::from_bytes([0; 16]))
    }

    /// A run that never was: what is left of a reservation that was given up.
    pub(crate) fn given_up(key: &Key, owner: OwnerToken) -> Self {
        let decided = AtomicBool::new(false);
        Self { key: key.clone(), owner, fence: FencingToken::MIN, number: 1, lease: None, decided }
    }

    /// Decides how the run ends. False if that was decided before.
    pub(crate) fn decide(&self) -> bool {
        !self.decided.swap(true, Ordering::AcqRel)
    }

    /// The key is no longer this run's, or will not be from now on.
    pub(crate) fn lose(&self) {
        if let Some(lease) = &self.lease {
            lease.lose();
        }
    }
}

/// How long a lease is known to hold, by this process's monotonic clock.
///
/// INV-1: it never ends later than the store's. The span is counted from the instant *before* the request was sent,
/// and the store counted it from a later one.
pub(crate) struct Lease {
    /// When the reservation was sent.
    pub(crate) since: Instant,
    /// Microseconds after `since` at which the lease ends unless it is renewed.
    micros: AtomicU64,
    /// Latched: a lease that once was lost is not believed in again.
    lost: AtomicBool,
    changed: Notify,
}

impl Lease {
    /// A lease that the store granted for `left`, in answer to a request sent at `sent`.
    pub(crate) fn granted(sent: Instant, left: Duration) -> Self {
        Self {
            since: sent,
            micros: AtomicU64::new(micros(left)),
            lost: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// The store renewed the lease for `left`, in answer to a request sent at `sent`.
    pub(crate) fn renewed(&self, sent: Instant, left: Duration) {
        let end = micros(sent.saturating_duration_since(self.since).saturating_add(left));
        self.micros.fetch_max(end, Ordering::AcqRel);
    }

    /// The store said that the lease is another's, or it was given up.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn ends(&self) -> Instant {
        self.since + Duration::from_micros(self.micros.load(Ordering::Acquire))
    }

    pub(crate) fn is_lost(&self) -> bool {
        if !self.lost.load(Ordering::Acquire) && Instant::now() >= self.ends() {
            self.lost.store(true, Ordering::Release);
        }
        self.lost.load(Ordering::Acquire)
    }

    pub(crate) async fn lost(&self) {
        loop {
            // Made before the check, so that a loss between the check and the wait is not missed.
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
    // No lease is longer than ten years, so that neither this nor the sum with an `Instant` overflows.
    u64::try_from(duration.min(2 * Span::MAX.as_duration()).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(lease: Option<Lease>) -> Attempt {
        let key = Key::new("scope", "name").unwrap();
        Attempt::new(Arc::new(Ownership { lease, ..Ownership::unprotected(&key) }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_is_lost_by_the_local_clock() {
        let start = Instant::now();
        let attempt = attempt(Some(Lease::granted(start, Duration::from_secs(60))));
        assert!(!attempt.is_lost());
        attempt.lost().await;
        assert_eq!(start.elapsed(), Duration::from_secs(60));
        assert!(attempt.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_counts_from_its_sending_and_never_shortens() {
        let start = Instant::now();
        let attempt = attempt(Some(Lease::granted(start, Duration::from_secs(60))));
        let lease = attempt.ownership.lease.as_ref().unwrap();
        lease.renewed(start + Duration::from_secs(20), Duration::from_secs(60));
        assert_eq!(lease.ends(), start + Duration::from_secs(80));
        lease.renewed(start + Duration::from_secs(20), Duration::from_secs(1));
        assert_eq!(lease.ends(), start + Duration::from_secs(80));
        attempt.lost().await;
        assert_eq!(start.elapsed(), Duration::from_secs(80));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_lost_once_is_not_believed_in_again() {
        let start = Instant::now();
        let attempt = attempt(Some(Lease::granted(start, Duration::from_secs(60))));
        attempt.lost().await;
        let lease = attempt.ownership.lease.as_ref().unwrap();
        lease.renewed(start + Duration::from_secs(60), Duration::from_secs(60));
        assert!(attempt.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn a_takeover_is_told_at_once_to_everyone_who_waits() {
        let start = Instant::now();
        let attempt = attempt(Some(Lease::granted(start, Duration::from_secs(60))));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let attempt = attempt.clone();
                tokio::spawn(async move { attempt.lost().await })
            })
            .collect();
        tokio::task::yield_now().await;
        attempt.ownership.lose();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unprotected_run_has_no_lease_to_lose() {
        let attempt = attempt(None);
        assert!(attempt.is_unprotected() && !attempt.is_lost());
        let lost = tokio::time::timeout(Duration::from_secs(1_000_000), attempt.lost()).await;
        assert!(lost.is_err());
    }

    #[test]
    fn the_downstream_key_never_changes_between_releases() {
        // Other systems remember it: this value is part of what we promise.
        assert_eq!(attempt(None).downstream_key(), "7f9a9fa8222f2572f5ab99e93f1a871b");
    }
}
