//! [`Attempt`]: what a handler knows about its run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::run::{Lease, Run};
use crate::key::Key;
use crate::store::{FencingToken, OwnerToken};

/// One run of a handler. Cheap to clone; a clone may outlive the handler.
///
/// ```
/// # use idem_core::Attempt;
/// async fn create_database(attempt: Attempt) -> Result<String, std::io::Error> {
///     if attempt.number > 1 {
///         // An earlier attempt crashed or lost its lease. It may have created the database: check before creating.
///     }
///     // Pass the fence to the system that is changed, so that it can refuse late writes of older owners. Pass the
///     // downstream key to services that have idempotency keys, so that they recognise the request too.
///     Ok(format!("created under fence {} and key {}", attempt.fence, attempt.downstream_key()))
/// }
/// ```
#[derive(Clone)]
pub struct Attempt {
    /// 1 for the first attempt. Above 1, an earlier attempt may have had its effect.
    pub number: u32,
    /// Greater than the fence of every earlier owner of the key. An [unprotected](Self::is_unprotected) run has
    /// [`FencingToken::MIN`], so a system that compares fences refuses it once another owner was there.
    pub fence: FencingToken,
    run: Arc<Run>,
}

impl Attempt {
    pub(crate) fn new(run: Arc<Run>) -> Self {
        Self { number: run.attempt, fence: run.fence, run }
    }

    /// An attempt for unit tests of a handler: no engine and no store is behind it.
    ///
    /// Its lease lasts 60 seconds and is never renewed. To test what a handler does when it loses its lease, advance
    /// tokio's paused clock beyond them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use idem_core::{Attempt, FencingToken, Key};
    ///
    /// async fn create_database(attempt: Attempt) -> &'static str {
    ///     if attempt.number > 1 { "looked for the database of an earlier attempt" } else { "created" }
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
    /// let key = Key::new("tenant-7", "message-1187")?;
    /// let second = Attempt::for_test(&key, 2, FencingToken::MIN);
    /// assert_eq!(create_database(second.clone()).await, "looked for the database of an earlier attempt");
    ///
    /// tokio::time::advance(Duration::from_secs(60)).await;
    /// assert!(second.is_lost());
    /// # Ok::<(), idem_core::InvalidKey>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_test(key: &Key, number: u32, fence: FencingToken) -> Self {
        let lease = Lease::granted(Instant::now(), Duration::from_secs(60));
        Self::new(Arc::new(Run::granted(key, OwnerToken::from_bytes([0; 16]), fence, number, lease)))
    }

    /// Waits until the lease is lost, and forever if it never is. From then on another attempt may be running: stop
    /// making effects.
    ///
    /// A lease is lost when:
    ///
    /// - another owner took the key over;
    /// - the store could not be reached to renew the lease before it ended. This is decided by the process's monotonic
    ///   clock, counted from the sending of the last successful renewal;
    /// - this engine gave the key up, because the run was dropped, failed, or did not end before a shutdown.
    ///
    /// On most systems the monotonic clock stands still while the machine is suspended. A machine that was suspended
    /// learns of the loss from the store.
    pub async fn lost(&self) {
        match &self.run.lease {
            Some(lease) => lease.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the lease is lost: [`lost`](Self::lost) would return at once. Once true, it stays true.
    pub fn is_lost(&self) -> bool {
        self.run.lease.as_ref().is_some_and(Lease::is_lost)
    }

    /// Whether this run has no protection: the store could not be reached, and the engine is set to
    /// [`FailOpen`](crate::StoreFailurePolicy::FailOpen). Other runs of the same request may be running or done.
    pub fn is_unprotected(&self) -> bool {
        self.run.lease.is_none()
    }

    /// An idempotency key for other services: 32 hexadecimal digits, the same for every attempt under this [`Key`] and
    /// different for every other key. It is derived with BLAKE3 and does not reveal the key.
    ///
    /// It depends on the key alone. If a client uses its key again for another payload, after the first record was
    /// released or has expired, the downstream key is the same again, and the other service may reply with what it
    /// remembers.
    pub fn downstream_key(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("idem 2026-11-23 downstream key v1");
        hasher.update(self.run.key.as_bytes());
        let mut hex = hasher.finalize().to_hex().to_string();
        hex.truncate(32);
        hex
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
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

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("scope", "name").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn every_waiter_learns_of_a_takeover_at_once() {
        let start = Instant::now();
        let attempt = Attempt::for_test(&key(), 1, FencingToken::MIN);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let attempt = attempt.clone();
                tokio::spawn(async move { attempt.lost().await })
            })
            .collect();
        tokio::task::yield_now().await;
        attempt.run.lose();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_for_tests_is_protected_and_is_lost_after_a_minute() {
        let start = Instant::now();
        let attempt = Attempt::for_test(&key(), 2, FencingToken::MAX);
        assert_eq!((attempt.number, attempt.fence), (2, FencingToken::MAX));
        assert!(!attempt.is_unprotected() && !attempt.is_lost());
        attempt.lost().await;
        assert_eq!(start.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unprotected_run_has_no_lease_to_lose() {
        let attempt = Attempt::new(Arc::new(Run::unprotected(&key())));
        assert!(attempt.is_unprotected() && !attempt.is_lost());
        let lost = tokio::time::timeout(Duration::from_secs(1_000_000), attempt.lost()).await;
        assert!(lost.is_err());
    }

    #[test]
    fn the_downstream_key_never_changes_between_releases() {
        // Other services remember it: this value is part of what the crate promises.
        let attempt = Attempt::new(Arc::new(Run::unprotected(&key())));
        assert_eq!(attempt.downstream_key(), "7f9a9fa8222f2572f5ab99e93f1a871b");
    }
}
