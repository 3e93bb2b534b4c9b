//! Connections: how they are opened, taken from the pool, and kept out of it when they must not be used again.

mod pool;
mod pooled;
#[cfg(feature = "rustls")]
mod tls;
mod transaction;

pub(crate) use pool::{build, parse};
pub(crate) use pooled::PooledConnection;
#[cfg(feature = "rustls")]
pub(crate) use tls::with_system_roots;
pub(crate) use transaction::{Rollback, TransactionConnection};
