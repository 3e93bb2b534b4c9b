//! [`Walk`]: one search for expired records through all shards, in steps that each hold one lock for a short while.

use idem_core::store::Timestamp;

use crate::MemoryStore;
use crate::shard::Shard;
use crate::sync::Ordering;

/// How many places a step looks at before it lets go of the lock.
pub(crate) const PLACES_PER_STEP: usize = 256;

/// Visits each shard that may hold something expired, for one cycle of its hand, beginning where the last walk ended.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    store: &'a MemoryStore,
    /// When the walk began: what expires later is the next walk's.
    began: Timestamp,
    shard: usize,
    shards_left: usize,
    /// What is left of the present shard's cycle; `None` before its first step.
    places_left: Option<usize>,
}

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) looked_at: usize,
    pub(crate) removed: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(store: &'a MemoryStore) -> Self {
        let shard = store.next_shard.load(Ordering::Relaxed);
        let shards_left = store.shards.len();
        Self { store, began: store.clock.now(), shard, shards_left, places_left: None }
    }

    /// Removes at most `limit` expired records, at least one being allowed. `None` at the end of the walk.
    pub(crate) fn step(&mut self, limit: usize) -> Option<Step> {
        while self.shards_left > 0 {
            let shard = &self.store.shards[self.shard];
            if shard.may_hold_expired(self.began) && self.places_left != Some(0) {
                self.store.next_shard.store(self.shard, Ordering::Relaxed);
                return Some(self.step_in(shard, limit));
            }
            self.shard = (self.shard + 1) % self.store.shards.len();
            self.shards_left -= 1;
            self.places_left = None;
        }
        None
    }

    fn step_in(&mut self, shard: &Shard, limit: usize) -> Step {
        // Declared before the lock is taken, so that the answers in it are dropped after it is let go.
        let mut removed = Vec::new();
        let mut shard = shard.lock();
        let now = self.store.clock.now();
        let places_left = self.places_left.unwrap_or_else(|| shard.places());
        let looked_at =
            shard.sweep(now, places_left.min(PLACES_PER_STEP), limit, &self.store.hasher, &mut removed);
        // A sweep that stopped early, though not for the limit, has found that nothing else can be expired.
        self.places_left = Some(places_left - looked_at);
        self.store.forget(&removed);
        Step { looked_at, removed: removed.len() }
    }
}

#[cfg(test)]
mod tests {
    use idem_conformance::span;
    use std::time::Duration;

    use idem_core::store::{OwnerToken, ReserveOutcome, ReserveRequest};
    use idem_core::{Fingerprint, Key, RenewOutcome, ReservationStore};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn reserve(store: &MemoryStore, name: u32, lease: Duration) {
        let key = Key::new("scope", name.to_be_bytes()).unwrap();
        let request = ReserveRequest::new(OwnerToken::random(), Fingerprint::from_parts(["f"]), span(lease))
            .record_ttl(span(lease));
        let outcome = store.reserve(&key, request).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::Reserved { .. }), "{outcome:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_honours_its_limit_and_leaves_what_lives() {
        let store = MemoryStore::new();
        for name in 0..3000 {
            reserve(&store, name, if name % 3 == 0 { 100 * MINUTE } else { MINUTE }).await;
        }
        assert_eq!(store.sweep(usize::MAX).await.unwrap(), 0, "nothing is expired");
        tokio::time::advance(2 * MINUTE).await;
        assert_eq!(store.sweep(0).await.unwrap(), 0);
        assert_eq!(store.sweep(1).await.unwrap(), 1);
        assert_eq!(store.sweep(700).await.unwrap(), 700);
        assert_eq!(store.sweep(usize::MAX).await.unwrap(), 1299);
        assert_eq!((store.sweep(usize::MAX).await.unwrap(), store.records()), (0, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_is_not_looked_at_before_something_in_it_can_be_expired() {
        let store = MemoryStore::new();
        for name in 0..1000 {
            reserve(&store, name, MINUTE).await;
        }
        assert!(Walk::new(&store).step(1).is_none());
        tokio::time::advance(2 * MINUTE).await;
        assert_eq!(Walk::new(&store).step(1).map(|step| step.removed), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cycle_learns_what_expires_next() {
        // Renewed, the records expire later than their shards were told; one fruitless walk puts that right.
        let store = MemoryStore::new();
        let (key, owner) = (Key::new("scope", "name").unwrap(), OwnerToken::random());
        let request =
            ReserveRequest::new(owner, Fingerprint::from_parts(["f"]), span(MINUTE)).record_ttl(span(MINUTE));
        let reserved = store.reserve(&key, request).await.unwrap();
        assert!(matches!(reserved, ReserveOutcome::Reserved { .. }), "{reserved:?}");
        let renewed = store.renew(&key, owner, span(10 * MINUTE)).await.unwrap();
        assert!(matches!(renewed, RenewOutcome::Renewed { .. }), "{renewed:?}");
        tokio::time::advance(3 * MINUTE).await;
        assert_eq!(Walk::new(&store).step(1).map(|step| (step.looked_at, step.removed)), Some((1, 0)));
        assert!(Walk::new(&store).step(1).is_none());
        tokio::time::advance(8 * MINUTE).await;
        assert_eq!(store.sweep(1).await.unwrap(), 1);
    }
}
