//! The ledger: a row for each run of a handler, in a table that SQL can count.
//!
//! It is a SQLite file of its own (`file`); or, where the handler's effect is in the transaction that completes the
//! request, a table in the store's own database: the store's file, or Postgres (`table`).

mod file;
mod table;

use idem_core::Attempt;
use idem_http::IdempotencyKey;
use serde::Serialize;

pub(crate) use self::file::File;
pub(crate) use self::table::Table;
use crate::Failure;
use crate::request::{Kind, NewResource};

/// A ledger.
#[derive(Clone)]
pub(crate) enum Ledger {
    File(File),
    Table(Table),
}

/// What a run writes.
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) team: String,
    pub(crate) name: String,
    key: Option<String>,
    pub(crate) attempt: u32,
    pub(crate) fence: i64,
    outcome: &'static str,
}

/// A row, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    id: i64,
    kind: String,
    team: String,
    name: String,
    key: Option<String>,
    attempt: i64,
    fence: i64,
    outcome: String,
    at: String,
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

impl Ledger {
    /// Appends a row in a transaction of its own, and gives its id.
    pub(crate) async fn append(&self, entry: Entry) -> Result<(i64, Entry), Failure> {
        match self {
            Self::File(file) => file.append(entry).await,
            Self::Table(table) => table.append(entry).await,
        }
    }

    /// All rows, in the order of their insertion.
    pub(crate) async fn rows(&self) -> Result<Vec<Row>, Failure> {
        match self {
            Self::File(file) => file.rows().await,
            Self::Table(table) => table.rows().await,
        }
    }
}
