//! The ledger: a row for each run of a handler, in a table that SQL can count.
//!
//! It is a SQLite file of its own (`file`); or, where the handler's effect is in the transaction that completes the
//! request, a table in the store's own database: the store's file, or Postgres (`table`).

mod file;
mod row;
mod table;

pub(crate) use self::file::File;
pub(crate) use self::row::{Entry, Row};
pub(crate) use self::table::Table;
use crate::failure::Failure;

/// A ledger.
#[derive(Clone)]
pub(crate) enum Ledger {
    File(File),
    Table(Table),
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
