//! [`Broken`]: a store with one bug, and its harness.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use idem_conformance::{Ability, Clock, Harness, Instance, Reference, Rules, Step};
use idem_core::store::Record;
use idem_core::{FencingToken, Key, ReservationStore};

/// A store with one bug.
#[derive(Clone, Copy)]
pub(crate) struct Broken {
    /// What it does wrong: the end of "a store that ..".
    pub(crate) name: &'static str,
    pub(crate) rules: Rules,
    pub(crate) wrap: fn(Arc<Reference>, &Hooks) -> Arc<dyn ReservationStore>,
    /// Makes a second handle. Usually that is the same store.
    pub(crate) second: fn(&Arc<dyn ReservationStore>) -> Arc<dyn ReservationStore>,
    /// The cases that must catch it: those whose guarantee it breaks. Others may catch it too.
    pub(crate) caught_by: &'static [&'static str],
}

/// What the suite did to the store from outside.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) scripts_flushed: Arc<AtomicBool>,
    pub(crate) server_killed: Arc<AtomicBool>,
}

impl Broken {
    pub(crate) const fn rules(name: &'static str, rules: Rules, caught_by: &'static [&'static str]) -> Self {
        Self { name, rules, wrap: |store, _| store, second: Arc::clone, caught_by }
    }

    pub(crate) const fn wrapped(
        name: &'static str,
        wrap: fn(Arc<Reference>, &Hooks) -> Arc<dyn ReservationStore>,
        caught_by: &'static [&'static str],
    ) -> Self {
        Self { name, rules: Rules::CORRECT, wrap, second: Arc::clone, caught_by }
    }
}

#[async_trait]
impl Harness for Broken {
    async fn fresh(&self) -> Box<dyn Instance> {
        let reference = Arc::new(Reference::with_rules(self.rules));
        let hooks = Hooks::default();
        let store = (self.wrap)(reference.clone(), &hooks);
        Box::new(BrokenInstance { broken: *self, reference, store, hooks })
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        Some(Reference::MAX_ANSWER_BYTES)
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::SetFence | Ability::FlushScripts | Ability::KillServer => None,
            _ => Some("the broken stores are maps in this process, without a stored form"),
        }
    }
}

struct BrokenInstance {
    broken: Broken,
    reference: Arc<Reference>,
    store: Arc<dyn ReservationStore>,
    hooks: Hooks,
}

#[async_trait]
impl Instance for BrokenInstance {
    fn store(&self) -> Arc<dyn ReservationStore> {
        self.store.clone()
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        (self.broken.second)(&self.store)
    }

    async fn set_fence(&self, key: &Key, fence: FencingToken) {
        self.reference.set_fence(key, fence);
    }

    async fn flush_scripts(&self) {
        self.hooks.scripts_flushed.store(true, Ordering::SeqCst);
    }

    async fn kill_server(&self) {
        self.hooks.server_killed.store(true, Ordering::SeqCst);
    }
}

/// The step of a transition, with its record altered.
pub(crate) fn altered<T>((outcome, write): Step<T>, alter: impl FnOnce(&mut Record)) -> Step<T> {
    (
        outcome,
        write.map(|mut record| {
            alter(&mut record);
            record
        }),
    )
}
