//! [`SqliteOptions`]: the settings of a store.

use std::time::Duration;

use crate::Clock;

/// SQLite counts milliseconds in an `i32`: this is about 24 days.
const MAX_BUSY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);
const MIN_MAINTENANCE_INTERVAL: Duration = Duration::from_millis(1);

/// How durable an acknowledged operation is (SQLite's `PRAGMA synchronous`, in WAL mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// The disk flushes the commit before the operation is acknowledged. The operation survives a loss of power.
    Full,
    /// The next checkpoint flushes the commit. The operation survives a crash of the process, but not a loss of power:
    /// the latest operations can be lost then, and with them their promises. The file itself stays intact.
    Normal,
}

/// The settings of a [`SqliteStore`](crate::SqliteStore).
///
/// ```
/// use std::time::Duration;
/// use idem_sqlite::SqliteOptions;
///
/// let options = SqliteOptions::new()
///     .busy_timeout(Duration::from_secs(2))
///     .max_answer_bytes(1 << 20);
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a store is opened with them"]
pub struct SqliteOptions {
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) queue_timeout: Duration,
    pub(crate) queue_capacity: usize,
    pub(crate) max_answer_bytes: usize,
    pub(crate) maintenance_interval: Duration,
    pub(crate) clock: Clock,
}

impl SqliteOptions {
    /// The default settings; each method names its default.
    pub fn new() -> Self {
        Self {
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            queue_timeout: Duration::from_secs(5),
            queue_capacity: 65_536,
            max_answer_bytes: 16 << 20,
            maintenance_interval: Duration::from_secs(1),
            clock: Clock::system(),
        }
    }

    /// Sets how durable an acknowledged operation is. Default: [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Sets how long a write waits for another process that holds the file's write lock. Default: 5 seconds; at most
    /// 24 days.
    ///
    /// After this time the operation fails as `Unavailable` and has no effect.
    pub fn busy_timeout(mut self, busy_timeout: Duration) -> Self {
        self.busy_timeout = busy_timeout.min(MAX_BUSY_TIMEOUT);
        self
    }

    /// Sets how long an operation may wait in this process's queue for its turn to write. Default: 5 seconds.
    ///
    /// An operation that waited longer is discarded: it fails as `Timeout` and has no effect.
    pub fn queue_timeout(mut self, queue_timeout: Duration) -> Self {
        self.queue_timeout = queue_timeout;
        self
    }

    /// Sets how many operations may wait in this process's queue. Default: 65,536.
    ///
    /// While the queue is full, more writes fail as `Unavailable` at once and have no effect.
    pub fn queue_capacity(mut self, queue_capacity: usize) -> Self {
        self.queue_capacity = queue_capacity;
        self
    }

    /// Sets the size in bytes of the largest answer that the store keeps. Default: 16 MiB.
    ///
    /// The completion of a larger answer fails as `TooLarge`; the engine then records that it was not kept.
    pub fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }

    /// Sets the pause between two rounds of maintenance. Default: 1 second; at least 1 millisecond.
    ///
    /// A round removes expired records, writes the log back into the file, and checks that the file was not deleted or
    /// replaced.
    pub fn maintenance_interval(mut self, maintenance_interval: Duration) -> Self {
        self.maintenance_interval = maintenance_interval.max(MIN_MAINTENANCE_INTERVAL);
        self
    }

    /// Sets the clock that decides leases and expiry. Default: [`Clock::system`]; other clocks are for tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self::new()
    }
}
