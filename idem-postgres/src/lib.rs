//! The Postgres store of [idem](idem_core).

mod binary;
mod complete_in;
mod connect;
mod connection;
mod error;
mod guards;
mod instant;
mod interval;
mod keeper;
mod lock;
mod names;
mod options;
mod patience;
mod row;
mod schema;
mod sqlstate;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod statement;
mod store;
#[cfg(feature = "rustls")]
mod tls;
mod transaction;

pub use options::{Options, Statements};
pub use store::PostgresStore;
pub use transaction::{ReservationExt, Transaction, TransactionError};
