//! The conformance suite over the store, through pgbouncer in transaction mode, with unnamed statements.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

#[path = "golden/mod.rs"]
mod golden;
#[path = "support/suite.rs"]
mod suite;

idem_conformance::main!(suite::Setup::PgBouncer);
