//! The handler: it waits, has its effect, and ends as the request says.
//!
//! In `plain` as most services are; in `transactional` with its effect in the transaction that completes the request, which
//! each database does in its own way (`on_sqlite`, `on_postgres`).

mod on_postgres;
mod on_sqlite;
mod plain;
mod response;
mod transactional;

pub(crate) use self::plain::create;
pub(crate) use self::transactional::create_in_transaction;
