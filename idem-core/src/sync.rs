//! The locks and atomics of this crate. Under `--cfg shuttle` they are those of the shuttle model checker, which then
//! decides every interleaving; otherwise the standard library's.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(shuttle))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// Locks, also after a panic of another holder: no code of the user's runs under any lock of this crate, and each
/// critical section leaves its data valid at every step, so there is nothing that a poisoned lock could warn of.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
