//! [`MemoryOptions`]: how much a [`MemoryStore`](crate::MemoryStore) may hold.

/// The bounds of a store.
///
/// ```
/// use idem_memory::{MemoryStore, MemoryOptions};
///
/// let store = MemoryStore::with_options(MemoryOptions::new().max_records(100_000).max_bytes(256 << 20));
/// assert_eq!(store.records(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until a store is made with them"]
#[allow(
    clippy::struct_field_names,
    reason = "every option is a maximum, and each has the name of its setter"
)]
pub struct MemoryOptions {
    pub(crate) max_records: usize,
    pub(crate) max_bytes: u64,
    pub(crate) max_answer_bytes: usize,
}

impl MemoryOptions {
    /// How many bytes each record counts for, in addition to its key and its answer.
    ///
    /// This is the measured overhead of a store with five million records. It includes what a common allocator adds to
    /// the allocations of the key and of the answer.
    pub const RECORD_BYTES: u64 = 270;

    /// The default bounds; each method names its default.
    pub const fn new() -> Self {
        Self { max_records: 10_000_000, max_bytes: 2 << 30, max_answer_bytes: 16 << 20 }
    }

    /// Sets the maximum number of records. Default: ten million.
    ///
    /// Tombstones count, and so do expired records that are not yet removed. A full store refuses new keys.
    pub const fn max_records(mut self, max_records: usize) -> Self {
        self.max_records = max_records;
        self
    }

    /// Sets the number of bytes above which new keys are refused. Default: 2 GiB.
    ///
    /// Counted are keys, answers, and [`RECORD_BYTES`](Self::RECORD_BYTES) for each record.
    pub const fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the maximum length of an answer, in bytes. Default: 16 MiB.
    ///
    /// A longer answer is refused as `TooLarge`.
    pub const fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self::new()
    }
}
