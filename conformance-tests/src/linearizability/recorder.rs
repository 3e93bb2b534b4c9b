//! [`Recorder`]: sends the calls of concurrent clients, and records when each began and ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use idem_core::{Effect, Key, ReservationStore};

use super::checker::Operation;
use crate::oracle::{Call, Reply};

/// Records calls. All clients of a run share one.
#[derive(Default)]
pub(crate) struct Recorder {
    /// A counter of instants. Only their order matters.
    clock: AtomicU64,
    operations: Mutex<HashMap<Key, Vec<Operation>>>,
}

impl Recorder {
    /// Sends a call and records it. `None` if its outcome is unknown, or if it failed without an effect.
    pub(crate) async fn send(&self, store: &dyn ReservationStore, key: &Key, call: Call) -> Option<Reply> {
        let invoked = self.clock.fetch_add(1, Ordering::SeqCst);
        let result = call.send(store, key).await;
        let at = self.clock.fetch_add(1, Ordering::SeqCst);
        let returned = match result {
            Ok(reply) => Some((at, reply)),
            Err(error) if error.effect == Effect::Unknown => None,
            // The contract: this had no effect, and never will.
            Err(_) => return None,
        };
        let reply = returned.as_ref().map(|(_, reply)| reply.clone());
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.entry(key.clone()).or_default().push(Operation { invoked, returned, call });
        reply
    }

    /// Each key's calls.
    pub(crate) fn histories(&self) -> HashMap<Key, Vec<Operation>> {
        std::mem::take(&mut self.operations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
