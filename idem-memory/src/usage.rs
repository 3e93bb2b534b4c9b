//! [`Usage`]: how many records and bytes a store holds.

use idem_core::Key;
use idem_core::store::{Record, State};

use crate::MemoryOptions;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Two counters with their bounds.
///
/// INV-1: `records` never exceeds its bound, since a new record is counted before it is written, and only if it fits.
/// INV-2: `bytes` may exceed its bound, but only by answers: a completion is never refused for lack of room.
///
/// Every access is `Relaxed`: the counters publish no other memory.
#[derive(Debug)]
pub(crate) struct Usage {
    records: AtomicUsize,
    bytes: AtomicU64,
    max_records: usize,
    max_bytes: u64,
}

impl Usage {
    pub(crate) fn new(options: &MemoryOptions) -> Self {
        Self {
            records: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            max_records: options.max_records,
            max_bytes: options.max_bytes,
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts a new record of `bytes` bytes, if there is room for it.
    pub(crate) fn try_add_record(&self, bytes: u64) -> bool {
        let one_more = |records| (records < self.max_records).then_some(records + 1);
        if self.records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return false;
        }
        let more_bytes = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        let fits = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more_bytes).is_ok();
        if !fits {
            self.records.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }

    /// Whether [`try_add_record`](Self::try_add_record) would succeed now.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.records() < self.max_records
            && self.bytes().checked_add(bytes).is_some_and(|sum| sum <= self.max_bytes)
    }

    /// Counts the change of a record's size.
    pub(crate) fn resize_record(&self, old_bytes: u64, new_bytes: u64) {
        if new_bytes > old_bytes {
            self.bytes.fetch_add(new_bytes - old_bytes, Ordering::Relaxed);
        } else if old_bytes > new_bytes {
            self.bytes.fetch_sub(old_bytes - new_bytes, Ordering::Relaxed);
        }
    }

    /// Subtracts a removed record of `bytes` bytes.
    pub(crate) fn remove_record(&self, bytes: u64) {
        self.records.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How many bytes a record counts for.
pub(crate) fn bytes_of(key: &Key, record: &Record) -> u64 {
    let answer = match &record.state {
        State::Completed { answer, .. } => answer.len(),
        State::InFlight { .. } | State::Released => 0,
    };
    bytes_without_answer(key) + answer as u64
}

/// How many bytes a record without an answer counts for.
pub(crate) fn bytes_without_answer(key: &Key) -> u64 {
    MemoryOptions::RECORD_BYTES + key.as_bytes().len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_does_not_fit_changes_nothing() {
        let usage = Usage::new(&MemoryOptions::new().max_records(2).max_bytes(100));
        assert!(usage.try_add_record(60));
        assert!(!usage.has_room(41) && !usage.try_add_record(41), "too many bytes");
        assert_eq!((usage.records(), usage.bytes()), (1, 60));
        assert!(usage.has_room(40) && usage.try_add_record(40));
        assert!(!usage.has_room(0) && !usage.try_add_record(0), "too many records");
        assert!(!usage.try_add_record(u64::MAX), "the sum does not wrap");
        assert_eq!((usage.records(), usage.bytes()), (2, 100));
    }

    #[test]
    fn an_answer_may_exceed_the_bound_and_is_counted() {
        let usage = Usage::new(&MemoryOptions::new().max_bytes(100));
        assert!(usage.try_add_record(100));
        usage.resize_record(100, 150);
        assert_eq!(usage.bytes(), 150);
        usage.resize_record(150, 120);
        usage.remove_record(120);
        assert_eq!((usage.records(), usage.bytes()), (0, 0));
    }
}
