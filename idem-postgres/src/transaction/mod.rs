//! Transactional completion: an effect in the same database is committed together with its completion (promise P6).

mod commit_recovery;
mod complete_in;
mod error;
mod guard;
mod limits;
mod session;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod tokio_postgres;

pub use self::error::TransactionError;
pub use self::tokio_postgres::{ReservationExt, Transaction};
