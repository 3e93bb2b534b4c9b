//! The SQL of the store: its statements, the names in them, and the types of their parameters.

mod names;
mod statements;
mod types;

pub(crate) use names::{InvalidName, Names};
pub(crate) use statements::{Sql, Statement};
pub(crate) use types::{Binary, Instant, Interval, Parameter};
