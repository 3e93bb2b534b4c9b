//! Where the locks and atomics of this crate come from: the standard library, or the model checker `shuttle` when
//! the crate is built with `--cfg shuttle`, which then decides every interleaving.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize},
};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize},
};
pub(crate) use std::sync::{PoisonError, atomic::Ordering};
