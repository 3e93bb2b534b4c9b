//! [`Refusal`]: the sources of this store's [`StoreError`]s.

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use thiserror::Error;

use crate::MemoryOptions;

/// Why the store refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error(
        "the store is full: it holds {records} of at most {max_records} records and {bytes} of at most {max_bytes} \
         bytes, and no expired record could be removed"
    )]
    Full { records: usize, max_records: usize, bytes: u64, max_bytes: u64 },
    // The text does not show the URL: the URL of another backend may contain a password.
    #[error("the URL of a memory store has to be \"memory:\"")]
    NotAMemoryUrl,
}

impl Refusal {
    pub(crate) fn full(records: usize, bytes: u64, options: &MemoryOptions) -> Self {
        Self::Full { records, max_records: options.max_records, bytes, max_bytes: options.max_bytes }
    }

    /// The refusal as an error of `operation`. All refusals happen before anything is written.
    pub(crate) fn into_store_error(self, operation: Operation) -> StoreError {
        let kind = match self {
            Self::Full { .. } => StoreErrorKind::Full,
            Self::NotAMemoryUrl => StoreErrorKind::Misconfigured,
        };
        StoreError::new(kind, Effect::NotApplied, operation).with_source(self)
    }
}
