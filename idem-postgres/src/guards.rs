//! [`Guards`]: the keys whose records are locked by open transactions of this process. They need no heartbeat.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use idem_core::Key;
use idem_core::store::OwnerToken;

type Held = HashSet<([u8; 32], OwnerToken)>;

/// Which keys are held. Clones share the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    held: Arc<Mutex<Held>>,
}

impl Guards {
    pub(crate) fn holds(&self, key: &Key, owner: OwnerToken) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Mostly there is none, and then nothing has to be hashed.
        !held.is_empty() && held.contains(&(*key.digest().as_bytes(), owner))
    }

    /// Holds the key until the guard is dropped.
    pub(crate) fn hold(&self, key: &Key, owner: OwnerToken) -> Guard {
        let entry = (*key.digest().as_bytes(), owner);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(entry);
        Guard { guards: self.clone(), entry }
    }
}

/// One key that is held.
#[derive(Debug)]
pub(crate) struct Guard {
    guards: Guards,
    entry: ([u8; 32], OwnerToken),
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.guards.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.entry);
    }
}
