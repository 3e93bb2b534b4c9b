//! [`Readers`]: connections that only read. They never wait for the writer, and the writer never waits for them.
//!
//! Reading one record takes microseconds, so it is done on the caller's thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;

use rusqlite::Connection;

use crate::error::{Cause, Failure};
use crate::file::database::DatabaseFile;
use crate::sync::lock;

/// A few connections. Each is opened when it is first needed.
pub(crate) struct Readers {
    file: Arc<DatabaseFile>,
    connections: Box<[Mutex<Option<Connection>>]>,
    /// The connection that the next caller waits for if all are in use.
    next: AtomicUsize,
    /// Set by maintenance: the file was deleted or replaced.
    is_replaced: AtomicBool,
    is_closed: AtomicBool,
}

impl Readers {
    /// One connection for each thread that can run at a time.
    pub(crate) fn new(file: Arc<DatabaseFile>) -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let connections = (0..count).map(|_| Mutex::default()).collect();
        let [is_replaced, is_closed] = [false, false].map(AtomicBool::new);
        Self { file, connections, next: AtomicUsize::new(0), is_replaced, is_closed }
    }

    /// Reads from a snapshot that holds everything that was committed before the call.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut slot = self.take();
        // Checked under the slot's lock: `close` sets it before it takes that lock, so nothing is opened after it.
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Cause::Closed.into());
        }
        if self.is_replaced.load(Ordering::Relaxed) {
            return Err(self.file.replaced().into());
        }
        let connection = match &mut *slot {
            Some(connection) => connection,
            None => slot.insert(self.file.open_reader()?),
        };
        let result = query(connection);
        if matches!(result, Err(Failure::Sqlite(_))) {
            // The next reader starts with a new connection.
            *slot = None;
        }
        result
    }

    pub(crate) fn set_replaced(&self, is_replaced: bool) {
        self.is_replaced.store(is_replaced, Ordering::Relaxed);
    }

    /// Closes all connections. Later reads fail as `Closed`.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for connection in &self.connections {
            *lock(connection) = None;
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
        // There is at least one connection, and the remainder is below their number.
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        lock(&self.connections[next])
    }
}
