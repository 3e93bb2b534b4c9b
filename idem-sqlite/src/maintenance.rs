//! [`Maintenance`]: the background thread.
//!
//! Each round removes expired records through the writer's queue, writes the log back into the file so that a commit
//! seldom has to, and checks that the file was not deleted or replaced.

use std::fs;
use std::sync::{Condvar, Mutex, PoisonError};

use idem_core::Operation;
use rusqlite::Connection;

use crate::file::database::{DatabaseFile, close_on_panic};
use crate::file::location::log_of;
use crate::readers::Readers;
use crate::record::table::{self, SWEEP_BATCH};
use crate::sync::lock;
use crate::writer::Writer;
use crate::writer::job::Task;

/// A log of this size that cannot be written back is worth a warning.
const LONG_LOG_BYTES: u64 = 256 << 20;

/// Ends the thread when the store is closed.
#[derive(Default)]
pub(crate) struct Maintenance {
    is_closed: Mutex<bool>,
    closed: Condvar,
}

impl Maintenance {
    pub(crate) fn close(&self) {
        *lock(&self.is_closed) = true;
        self.closed.notify_all();
    }

    /// The body of the thread.
    pub(crate) fn run(&self, file: &DatabaseFile, writer: &Writer, readers: &Readers) {
        let mut connection = None;
        let mut has_warned = false;
        while !self.wait(file) {
            // The clock can panic. The next round starts with a new connection.
            let _ = close_on_panic(&mut connection, |connection| {
                let is_replaced = file.check_identity().is_err();
                readers.set_replaced(is_replaced);
                if is_replaced {
                    return;
                }
                maintain(file, writer, connection);
                has_warned = warn_of_a_long_log(file, has_warned);
            });
        }
    }

    /// Waits for the interval. Returns whether the store was closed.
    fn wait(&self, file: &DatabaseFile) -> bool {
        let interval = file.options.maintenance_interval;
        let waited = self.closed.wait_timeout_while(lock(&self.is_closed), interval, |is_closed| !*is_closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn maintain(file: &DatabaseFile, writer: &Writer, slot: &mut Option<Connection>) {
    if slot.is_none() {
        *slot = file.open().ok();
    }
    let Some(connection) = slot else { return };
    sweep(file, writer, connection);
    // Writes back as much of the log as is possible without waiting.
    let checkpoint = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if checkpoint.is_err() {
        *slot = None;
    }
}

/// Removes expired records in small batches, so that other operations run in between. The next round repeats a failed
/// batch.
fn sweep(file: &DatabaseFile, writer: &Writer, connection: &Connection) {
    // Without this check, every round would begin a transaction.
    let is_due = || matches!(table::is_sweep_due(connection, file.options.clock.now()), Ok(true));
    while !writer.is_closed() && is_due() {
        let (task, answer) = Task::new(Operation::Sweep, |connection: &Connection, now| {
            table::remove_expired(connection, SWEEP_BATCH, now)
        });
        writer.enqueue(Box::new(task));
        match answer.blocking_recv() {
            Ok(Ok(swept)) if !swept.is_all => {}
            _ => return,
        }
    }
}

fn warn_of_a_long_log(file: &DatabaseFile, has_warned: bool) -> bool {
    let bytes = fs::metadata(log_of(&file.path)).map_or(0, |found| found.len());
    if bytes > LONG_LOG_BYTES && !has_warned {
        tracing::warn!(
            bytes,
            "the log of {} cannot be written back: another connection keeps an old snapshot open",
            file.path.display(),
        );
    }
    bytes > LONG_LOG_BYTES
}
