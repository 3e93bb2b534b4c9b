//! [`Options`]: how a [`SqliteStore`](crate::SqliteStore) writes, waits and cleans up.

use std::time::Duration;

use crate::Clock;

/// How durable an acknowledged operation is (SQLite's `PRAGMA synchronous`, in WAL mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// Flushed to the disk before it is acknowledged: it survives a loss of power.
    Full,
    /// Written, and flushed at the next checkpoint: it survives a crash of the process, and *not* a loss of power. The
    /// file itself stays sound; what is lost are the latest operations, and with them their promises.
    Normal,
}

/// The settings of a store.
///
/// ```
/// use std::time::Duration;
/// use idem_sqlite::{Options, Synchronous};
///
/// let options = Options::new().busy_timeout(Duration::from_secs(2));
/// assert_eq!(options.synchronous, Synchronous::Full);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How durable an acknowledged operation is.
    pub synchronous: Synchronous,
    /// How long to wait for another process that is writing.
    pub busy_timeout: Duration,
    /// How long an operation may wait in the queue before it is discarded without effect.
    pub queue_timeout: Duration,
    /// How many operations may wait in the queue; more are refused at once.
    pub max_queued: usize,
    /// The longest answer that is kept.
    pub max_answer_bytes: usize,
    /// How often expired records are removed and the log is written back into the file; also how soon it is noticed
    /// that the file was deleted or replaced. A millisecond at the least.
    pub upkeep_interval: Duration,
    /// What decides leases and expiry: the machine's clock, but in tests.
    pub clock: Clock,
}

impl Options {
    /// Durable, waiting for at most five seconds, for answers of at most 16 MiB, on the machine's clock.
    pub fn new() -> Self {
        Self {
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            queue_timeout: Duration::from_secs(5),
            max_queued: 65_536,
            max_answer_bytes: 16 << 20,
            upkeep_interval: Duration::from_secs(1),
            clock: Clock::system(),
        }
    }

    /// The same options with another durability.
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// The same options with another patience with other processes.
    #[must_use]
    pub fn busy_timeout(mut self, busy_timeout: Duration) -> Self {
        self.busy_timeout = busy_timeout;
        self
    }

    /// The same options with another bound on the time in the queue.
    #[must_use]
    pub fn queue_timeout(mut self, queue_timeout: Duration) -> Self {
        self.queue_timeout = queue_timeout;
        self
    }

    /// The same options with another bound on the length of the queue.
    #[must_use]
    pub fn max_queued(mut self, max_queued: usize) -> Self {
        self.max_queued = max_queued;
        self
    }

    /// The same options with another bound on the length of an answer.
    #[must_use]
    pub fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }

    /// The same options with another interval between clean-ups.
    #[must_use]
    pub fn upkeep_interval(mut self, upkeep_interval: Duration) -> Self {
        self.upkeep_interval = upkeep_interval;
        self
    }

    /// The same options with another clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
