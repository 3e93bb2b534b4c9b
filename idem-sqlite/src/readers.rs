//! [`Readers`]: connections that only read. They never wait for the writer, and neither does it for them.
//!
//! A point read takes microseconds, so it is done on the caller's thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use idem_core::Operation;
use rusqlite::Connection;

use crate::connection::Opener;
use crate::error::{Cause, Failure};

/// A few connections, each opened when it is first needed.
pub(crate) struct Readers {
    connections: Box<[Mutex<Option<Connection>>]>,
    /// Where the next one waits that finds all of them taken.
    next: AtomicUsize,
    /// Set by the keeper: the file is no longer where it was.
    is_replaced: AtomicBool,
    is_closed: AtomicBool,
}

impl Readers {
    /// One connection for each thread that can run at a time.
    pub(crate) fn new() -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let connections = (0..count).map(|_| Mutex::default()).collect();
        let [is_replaced, is_closed] = [false, false].map(AtomicBool::new);
        Self { connections, next: AtomicUsize::new(0), is_replaced, is_closed }
    }

    /// Reads from a snapshot that holds everything that was committed before the call.
    pub(crate) fn read<T>(
        &self,
        operation: Operation,
        opener: &Opener,
        look: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut slot = self.take();
        let connection = match &mut *slot {
            Some(connection) => connection,
            // Asked under the slot's lock, which `close` takes after it has said so: nothing is opened behind it.
            None if self.is_closed.load(Ordering::Acquire) => {
                return Err(Failure::Store(Cause::Closed.of(operation)));
            }
            None => slot.insert(opener.open_reader()?),
        };
        let result = look(connection);
        if matches!(result, Err(Failure::Sqlite(_))) {
            // The next reader begins with a new one.
            *slot = None;
        }
        result
    }

    pub(crate) fn set_replaced(&self, is_replaced: bool) {
        self.is_replaced.store(is_replaced, Ordering::Relaxed);
    }

    pub(crate) fn check(&self, opener: &Opener) -> Result<(), Cause> {
        if self.is_replaced.load(Ordering::Relaxed) {
            return Err(Cause::Replaced { path: opener.path.clone() });
        }
        Ok(())
    }

    /// Closes what is open.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for connection in &self.connections {
            *connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn take(&self) -> MutexGuard<'_, Option<Connection>> {
        for connection in &self.connections {
            match connection.try_lock() {
                Ok(connection) => return connection,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        // There is at least one, and the remainder is below their number.
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        self.connections[next].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
