//! The stored form of a record: its version, its states, how a completion is written, and what can be wrong with a row.
//!
//! The version of a row says what its columns mean. A column never changes its meaning: a new meaning gets a new version.
//! Rows of every released version stay in `tests/golden`, and tests read them.

use idem_core::store::{Completion, OwnerToken};
use idem_core::{Answer, Key};
use thiserror::Error;

use crate::sql::{Binary, Interval, Parameter};

/// The version that this release writes.
pub(crate) const VERSION: i16 = 1;

/// The values of the column `state`.
pub(crate) mod state {
    pub(crate) const IN_FLIGHT: i8 = i8::from_be_bytes([b'i']);
    pub(crate) const ABANDONED: i8 = i8::from_be_bytes([b'a']);
    pub(crate) const COMPLETED: i8 = i8::from_be_bytes([b'c']);
    pub(crate) const NOT_KEPT: i8 = i8::from_be_bytes([b'n']);
    pub(crate) const RELEASED: i8 = i8::from_be_bytes([b'r']);
}

/// Why a row is not a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RowError {
    #[error("the record has version {0}; this release reads versions up to {VERSION}")]
    LaterVersion(i16),
    #[error("the column `{0}` of the record has an invalid value")]
    Malformed(&'static str),
}

impl RowError {
    /// The error of a row whose version is not [`VERSION`].
    pub(crate) fn of_version(version: i16) -> Self {
        if version > VERSION { Self::LaterVersion(version) } else { Self::Malformed("version") }
    }
}

/// A completion as the parameters of its statement.
pub(crate) struct EncodedCompletion<'a> {
    pub(crate) digest: Binary<32>,
    pub(crate) owner: Binary<16>,
    pub(crate) state: i8,
    pub(crate) codec: Option<i16>,
    pub(crate) schema: Option<i64>,
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) retention: Interval,
    pub(crate) transaction: Option<i64>,
}

impl<'a> EncodedCompletion<'a> {
    /// With a `transaction`, the completion is only written in the transaction of this number.
    pub(crate) fn new(
        key: &Key,
        owner: OwnerToken,
        completion: &'a Completion,
        transaction: Option<i64>,
    ) -> Self {
        let (state, codec, schema, body) = match &completion.answer {
            Answer::Value(value) => (
                state::COMPLETED,
                Some(i16::from(value.format.codec)),
                Some(i64::from(value.format.schema)),
                Some(&value.body[..]),
            ),
            Answer::NotKept => (state::NOT_KEPT, None, None, None),
        };
        Self {
            digest: key.into(),
            owner: owner.into(),
            state,
            codec,
            schema,
            body,
            retention: completion.retention.into(),
            transaction,
        }
    }

    /// The parameters of `sql/complete.sql`.
    pub(crate) fn parameters(&self) -> [Parameter<'_>; 8] {
        let [digest, owner, state, codec, schema, body] = self.parameters_of_query();
        [digest, owner, state, codec, schema, body, &self.retention, &self.transaction]
    }

    /// The parameters of `sql/why_not_completed.sql`.
    pub(crate) fn parameters_of_query(&self) -> [Parameter<'_>; 6] {
        [&self.digest, &self.owner, &self.state, &self.codec, &self.schema, &self.body]
    }
}
