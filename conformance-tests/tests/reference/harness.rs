//! The harness of the reference store, with any kind of clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_conformance::{Ability, Clock, Harness, Instance, Reference};
use idem_core::{FencingToken, Key, ReservationStore};

pub(crate) struct ReferenceHarness(pub(crate) Clock);

#[async_trait]
impl Harness for ReferenceHarness {
    async fn fresh(&self) -> Box<dyn Instance> {
        let store = Reference::new();
        let store = if self.0 == Clock::Manual { store.stopped() } else { store };
        Box::new(ReferenceInstance { store: Arc::new(store), clock: self.0 })
    }

    fn clock(&self) -> Clock {
        self.0
    }

    fn short_span(&self) -> Duration {
        Duration::from_millis(20)
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        Some(Reference::MAX_ANSWER_BYTES)
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            // There are no scripts to flush and no server to kill. Those cases run all the same: a store on which
            // nothing happens then must pass them.
            Ability::SetFence | Ability::FlushScripts | Ability::KillServer => None,
            _ => Some("the reference store is a map in this process"),
        }
    }
}

struct ReferenceInstance {
    store: Arc<Reference>,
    clock: Clock,
}

#[async_trait]
impl Instance for ReferenceInstance {
    fn store(&self) -> Arc<dyn ReservationStore> {
        self.store.clone()
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        match self.clock {
            Clock::Manual | Clock::Adjustable => self.store.advance(by),
            Clock::Tokio | Clock::Real => tokio::time::sleep(by).await,
        }
    }

    async fn set_fence(&self, key: &Key, fence: FencingToken) {
        self.store.set_fence(key, fence);
    }

    async fn flush_scripts(&self) {}

    async fn kill_server(&self) {}
}
