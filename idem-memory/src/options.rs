//! [`Options`]: how much a [`MemoryStore`](crate::MemoryStore) may hold.

/// The bounds of a store.
///
/// ```
/// use idem_memory::{MemoryStore, Options};
///
/// let store = MemoryStore::with_options(Options::new().max_records(100_000).max_bytes(256 << 20));
/// assert_eq!(store.records(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The most records, tombstones and expired ones that were not yet removed included. At most 2^32 - 1 count.
    pub max_records: usize,
    /// The most bytes at which a new key is still taken: keys, answers and [`RECORD_BYTES`](Self::RECORD_BYTES) for
    /// each record.
    pub max_bytes: u64,
    /// The longest answer that is kept.
    pub max_answer_bytes: usize,
}

impl Options {
    /// What a record is reckoned to occupy beside the bytes of its key and its answer: the store's own 145 as measured
    /// at five million records, and 55 for what a common allocator adds to the key and the answer.
    pub const RECORD_BYTES: u64 = 200;

    /// Ten million records, 2 GiB, and answers of at most 16 MiB.
    pub const fn new() -> Self {
        Self { max_records: 10_000_000, max_bytes: 2 << 30, max_answer_bytes: 16 << 20 }
    }

    /// The same options with another bound on records.
    #[must_use]
    pub const fn max_records(mut self, max_records: usize) -> Self {
        self.max_records = max_records;
        self
    }

    /// The same options with another bound on bytes.
    #[must_use]
    pub const fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The same options with another bound on the length of an answer.
    #[must_use]
    pub const fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
