//! [`lock`]: a mutex without poisoning.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks the mutex, also after a panic of another thread that held it.
///
/// A panic leaves nothing half done under the locks of this crate: a connection that was in a transaction is closed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
