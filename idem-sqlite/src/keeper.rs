//! [`Keeper`]: the thread that cleans up behind the others.
//!
//! At each interval it removes some of what has expired, through the writer's queue like any other operation; writes
//! the log back into the file, so that a commit seldom has to; and looks whether the file is still where it was.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use idem_core::Operation;
use rusqlite::Connection;

use crate::job::Task;
use crate::place::followed;
use crate::readers::Readers;
use crate::table;
use crate::writer::Writer;

/// Records removed in one transaction: few, so that nobody waits long for it.
pub(crate) const SWEEP_BATCH: u32 = 256;
/// The shortest interval, however short it is set: the thread is to sleep in between.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
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
        let mut upkeep = Upkeep { connection: None, warned: false };
        while !self.wait(writer) {
            // A clock that panics now may not the next time, and the rest has to be kept up meanwhile.
            if panic::catch_unwind(AssertUnwindSafe(|| upkeep.go_round(writer, readers))).is_err() {
                upkeep.connection = None;
            }
        }
    }

    /// Waits for the interval. True if the store was closed meanwhile.
    fn wait(&self, writer: &Writer) -> bool {
        let is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        let interval = writer.opener.options.upkeep_interval.max(SHORTEST_INTERVAL);
        let waited = self.closed.wait_timeout_while(is_closed, interval, |is_closed| !*is_closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What the thread keeps from one interval to the next.
struct Upkeep {
    connection: Option<Connection>,
    warned: bool,
}

impl Upkeep {
    fn go_round(&mut self, writer: &Arc<Writer>, readers: &Readers) {
        let is_replaced = writer.place.check().is_err();
        readers.set_replaced(is_replaced);
        if is_replaced {
            return;
        }
        if self.connection.is_none() {
            self.connection = writer.opener.open().ok();
        }
        if let Some(connection) = &self.connection {
            sweep(writer, connection);
            if checkpoint(connection).is_err() {
                self.connection = None;
            }
        }
        self.warned = warn_of_a_long_log(writer, self.warned);
    }
}

/// Removes what has expired, a few at a time, so that others come between. What fails now is done at the next interval.
fn sweep(writer: &Arc<Writer>, connection: &Connection) {
    let clock = &writer.opener.options.clock;
    // Without anything to remove, no transaction is begun.
    while !writer.is_closed() && matches!(table::is_sweep_due(connection, clock.now()), Ok(true)) {
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
