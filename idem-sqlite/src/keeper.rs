//! [`Keeper`]: the thread that cleans up behind the others.
//!
//! At each interval it removes some of what has expired, through the writer's queue like any other operation; writes
//! the log back into the file, so that a commit seldom has to; and looks whether the file is still where it was.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use idem_core::Operation;
use rusqlite::Connection;

use crate::job::Task;
use crate::place::followed;
use crate::readers::Readers;
use crate::table;
use crate::writer::Writer;

/// Records removed in one transaction: few, so that nobody waits long for it.
pub(crate) const SWEEP_BATCH: u32 = 256;
/// Batches at each interval at the most; what is left waits for the next.
const BATCHES: usize = 64;
/// A log of this length that cannot be written back is worth a warning.
const LONG_LOG: u64 = 256 << 20;

/// Wakes the thread when the store is closed.
#[derive(Default)]
pub(crate) struct Keeper {
    is_closed: Mutex<bool>,
    closed: Condvar,
}

impl Keeper {
    pub(crate) fn close(&self) {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.closed.notify_all();
    }

    /// The life of the thread.
    pub(crate) fn run(&self, writer: &Arc<Writer>, readers: &Readers) {
        let mut connection = None;
        let mut warned = false;
        while !self.wait(writer) {
            let is_replaced = writer.place.check().is_err();
            readers.set_replaced(is_replaced);
            if is_replaced {
                continue;
            }
            if connection.is_none() {
                connection = writer.opener.open().ok();
            }
            if let Some(open) = &connection {
                sweep(writer, open);
                if checkpoint(open).is_err() {
                    connection = None;
                }
            }
            warned = warn_of_a_long_log(writer, warned);
        }
    }

    /// Waits for the interval. True if the store was closed meanwhile.
    fn wait(&self, writer: &Writer) -> bool {
        let is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        let interval = writer.opener.options.upkeep_interval;
        let waited = self.closed.wait_timeout_while(is_closed, interval, |is_closed| !*is_closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Removes what has expired, up to a number. What fails now is done at the next interval.
fn sweep(writer: &Arc<Writer>, connection: &Connection) {
    let clock = &writer.opener.options.clock;
    for _ in 0..BATCHES {
        // Without anything to remove, no transaction is begun.
        if !matches!(table::is_sweep_due(connection, clock.now()), Ok(true)) {
            return;
        }
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

/// Writes back what can be, without waiting for anybody.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

fn warn_of_a_long_log(writer: &Writer, warned: bool) -> bool {
    let mut log = followed(&writer.opener.path).into_os_string();
    log.push("-wal");
    let bytes = fs::metadata(PathBuf::from(log)).map_or(0, |found| found.len());
    if bytes > LONG_LOG && !warned {
        tracing::warn!(
            bytes,
            "the log of {} cannot be written back: somebody has been reading from one snapshot for long",
            writer.opener.path.display(),
        );
    }
    bytes > LONG_LOG
}
