//! [`StoreError`]: the store failed. Expected results (in flight, completed, another fingerprint) are outcomes.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A store operation failed.
///
/// It names the kind of failure, whether the operation may have taken effect, the operation, and (as its
/// [`source`](Error::source)) the storage's own error. Clones share the source.
///
/// ```
/// use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
///
/// let error = StoreError::new(StoreErrorKind::Timeout, Effect::Unknown, Operation::Complete);
/// assert_eq!(
///     error.to_string(),
///     "complete: the store did not answer in time; whether it took effect is unknown: \
///      send it again with the same token",
/// );
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreError {
    /// What kind of failure it was.
    pub kind: StoreErrorKind,
    /// Whether the operation may have taken effect.
    pub effect: Effect,
    /// Which operation failed.
    pub operation: Operation,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// An error without a source.
    pub fn new(kind: StoreErrorKind, effect: Effect, operation: Operation) -> Self {
        Self { kind, effect, operation, source: None }
    }

    /// Sets the storage's own error as the source.
    ///
    /// The source must not hold secrets, for example a password in a connection URL: it is written to logs.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Whether the operation may succeed if it is soon sent again with the same token.
    pub fn is_transient(&self) -> bool {
        self.effect == Effect::Unknown
            || matches!(
                self.kind,
                StoreErrorKind::Unavailable | StoreErrorKind::Timeout | StoreErrorKind::Full
            )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; ", self.operation, self.kind)?;
        match self.effect {
            Effect::Unknown => {
                f.write_str("whether it took effect is unknown: send it again with the same token")
            }
            Effect::NotApplied => write!(f, "it had no effect: {}", self.kind.advice()),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

/// The kind of failure of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, or does not serve at the moment.
    Unavailable,
    /// The store did not answer in time.
    Timeout,
    /// The store is full.
    Full,
    /// The stored record cannot be read.
    Corrupt,
    /// The stored record was written by a later version of this software.
    Incompatible,
    /// The key or the answer is larger than the store accepts.
    TooLarge,
    /// The request or the store's configuration is wrong. The same call will fail again.
    Misconfigured,
    /// A bug in this software or in the store.
    Internal,
}

impl StoreErrorKind {
    fn advice(self) -> &'static str {
        match self {
            Self::Unavailable | Self::Timeout => "try again once the store can be reached",
            Self::Full => {
                "give the store more room, shorten the retention, or try again once records have expired"
            }
            Self::Corrupt => {
                "inspect the record with the store's own tools; nothing runs under its key until it is removed or expires"
            }
            Self::Incompatible => {
                "upgrade this process to the version that wrote the record, or wait until it expires"
            }
            Self::TooLarge => {
                "keep a smaller answer, complete the run as \"not kept\", or raise the store's limit"
            }
            Self::Misconfigured => "correct what the source names; trying again does not help",
            Self::Internal => "please report it, with the source",
        }
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the store is unavailable",
            Self::Timeout => "the store did not answer in time",
            Self::Full => "the store is full",
            Self::Corrupt => "the stored record cannot be read",
            Self::Incompatible => "the stored record is of a later version",
            Self::TooLarge => "the value is too large for the store",
            Self::Misconfigured => "the request or the store's configuration is wrong",
            Self::Internal => "the store failed in a way that should not be possible",
        })
    }
}

/// Whether a failed operation may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It did not, and it will not do so later.
    NotApplied,
    /// It did, it did not, or it still will. Sending it again with the same token is safe and gives the answer.
    Unknown,
}

/// Which operation of the [`ReservationStore`](crate::ReservationStore) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening or connecting to the store.
    Connect,
    /// [`reserve`](crate::ReservationStore::reserve)
    Reserve,
    /// [`renew`](crate::ReservationStore::renew)
    Renew,
    /// [`complete`](crate::ReservationStore::complete)
    Complete,
    /// [`release`](crate::ReservationStore::release)
    Release,
    /// [`abandon`](crate::ReservationStore::abandon)
    Abandon,
    /// [`get`](crate::ReservationStore::get)
    Get,
    /// [`sweep`](crate::ReservationStore::sweep)
    Sweep,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Reserve => "reserve",
            Self::Renew => "renew",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Abandon => "abandon",
            Self::Get => "get",
            Self::Sweep => "sweep",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_says_what_failed_whether_it_took_effect_and_what_to_do() {
        use StoreErrorKind::{
            Corrupt, Full, Incompatible, Internal, Misconfigured, Timeout, TooLarge, Unavailable,
        };
        let mut advices = HashSet::new();
        for kind in [Unavailable, Timeout, Full, Corrupt, Incompatible, TooLarge, Misconfigured, Internal] {
            let said = StoreError::new(kind, Effect::NotApplied, Operation::Reserve).to_string();
            assert!(said.starts_with("reserve: the "), "{said}");
            let (_, advice) = said.split_once("it had no effect: ").unwrap();
            assert!(!advice.is_empty());
            advices.insert(advice.to_owned());

            let said = StoreError::new(kind, Effect::Unknown, Operation::Reserve).to_string();
            assert!(said.ends_with("send it again with the same token"), "{said}");
        }
        // `Unavailable` and `Timeout` have the same advice.
        assert_eq!(advices.len(), 7);
    }

    #[test]
    fn every_operation_names_itself() {
        use Operation::{Abandon, Complete, Connect, Get, Release, Renew, Reserve, Sweep};
        let names: Vec<_> = [Connect, Reserve, Renew, Complete, Release, Abandon, Get, Sweep]
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names.join(" "), "connect reserve renew complete release abandon get sweep");
    }

    #[test]
    fn the_source_is_kept_and_not_printed() {
        let error = StoreError::new(StoreErrorKind::Full, Effect::NotApplied, Operation::Complete)
            .with_source("disk I/O error 13");
        assert!(!error.to_string().contains("13"));
        assert_eq!(error.clone().source().unwrap().to_string(), "disk I/O error 13");
    }

    #[test]
    fn only_failures_that_may_pass_are_transient() {
        let of = |kind, effect| StoreError::new(kind, effect, Operation::Reserve).is_transient();
        assert!(of(StoreErrorKind::Unavailable, Effect::NotApplied));
        assert!(of(StoreErrorKind::Full, Effect::NotApplied));
        assert!(of(StoreErrorKind::Internal, Effect::Unknown));
        assert!(!of(StoreErrorKind::Misconfigured, Effect::NotApplied));
        assert!(!of(StoreErrorKind::TooLarge, Effect::NotApplied));
    }
}
