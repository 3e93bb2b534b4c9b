//! The file: where it may be, how it is opened, and its tables.

pub(crate) mod database;
pub(crate) mod location;
mod schema;
