//! The causes of this store's errors: what a [`StoreError`] has as its source.

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use thiserror::Error;

use crate::Options;

/// Why the store refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error(
        "a new key was refused: {records} of at most {max_records} records and {bytes} of at most {max_bytes} bytes \
         are in use, and none that was looked at is expired"
    )]
    Full { records: usize, max_records: usize, bytes: u64, max_bytes: u64 },
    #[error("the answer has {bytes} bytes, and at most {max_answer_bytes} are kept")]
    AnswerTooLarge { bytes: usize, max_answer_bytes: usize },
    // The URL itself is not shown: one meant for another backend may hold a password.
    #[error("the URL of a memory store is \"memory:\" and nothing else")]
    NotAMemoryUrl,
}

impl Refusal {
    pub(crate) fn full(records: usize, bytes: u64, options: &Options) -> Self {
        Self::Full { records, max_records: options.max_records, bytes, max_bytes: options.max_bytes }
    }

    /// Everything here is decided before anything is written.
    pub(crate) fn of(self, operation: Operation) -> StoreError {
        let kind = match self {
            Self::Full { .. } => StoreErrorKind::Full,
            Self::AnswerTooLarge { .. } => StoreErrorKind::TooLarge,
            Self::NotAMemoryUrl => StoreErrorKind::Misconfigured,
        };
        StoreError::new(kind, Effect::NotApplied, operation).with_source(self)
    }
}
