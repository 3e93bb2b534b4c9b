//! How a [`Record`](idem_core::store::Record) is written to a row of the table, and read from one.

mod decode;
mod fields;
mod format;

pub(crate) use decode::{FindOrInsert, Found, Grant};
pub(crate) use format::{EncodedCompletion, RowError, VERSION, state};
