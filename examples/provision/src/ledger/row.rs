//! [`Entry`] and [`Row`]: a row of the ledger, to be written and as it is shown.

use idem_core::Attempt;
use idem_http::IdempotencyKey;
use serde::Serialize;

use crate::request::{Kind, NewResource};

/// What a run writes.
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) team: String,
    pub(crate) name: String,
    pub(super) key: Option<String>,
    pub(crate) attempt: u32,
    pub(crate) fence: i64,
    pub(super) outcome: &'static str,
}

/// A row, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(super) id: i64,
    pub(super) kind: String,
    pub(super) team: String,
    pub(super) name: String,
    pub(super) key: Option<String>,
    pub(super) attempt: i64,
    pub(super) fence: i64,
    pub(super) outcome: String,
    pub(super) at: String,
}

impl Entry {
    pub(crate) fn of(
        kind: Kind,
        team: &str,
        new: &NewResource,
        key: Option<&IdempotencyKey>,
        attempt: &Attempt,
    ) -> Self {
        Self {
            kind,
            team: team.to_owned(),
            name: new.name.clone(),
            key: key.map(|key| key.as_str().to_owned()),
            attempt: attempt.number,
            // Fences are below 2^53.
            fence: i64::try_from(attempt.fence.get()).unwrap_or(i64::MAX),
            outcome: new.simulate().outcome.name(),
        }
    }
}
