//! The locks and atomics of this crate: the standard library's, or those of the model checker `shuttle` when the crate
//! is built with `--cfg shuttle`. The model checker then chooses every interleaving.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize},
};
#[cfg(shuttle)]
pub(crate) use shuttle::thread::yield_now;
#[cfg(not(shuttle))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize},
};
pub(crate) use std::sync::{PoisonError, atomic::Ordering};
#[cfg(not(shuttle))]
pub(crate) use std::thread::yield_now;

/// A lock to take before any access to the `DashMap`. It exists only under the model checker.
///
/// `DashMap` brings its own locks, and the model checker cannot see them: a thread that waits for one would hang the
/// model. Under this lock no thread ever waits for them. One lock for the whole map allows fewer interleavings than
/// `DashMap` does, but operations on different keys meet only in the expiry queue and in the counters, and the model
/// checker does see those.
#[cfg(not(shuttle))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapLock;

#[cfg(not(shuttle))]
impl MapLock {
    pub(crate) const fn new() -> Self {
        Self
    }

    pub(crate) const fn lock(self) -> Self {
        self
    }
}

#[cfg(shuttle)]
#[derive(Debug)]
pub(crate) struct MapLock(Mutex<()>);

#[cfg(shuttle)]
impl MapLock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(()))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
