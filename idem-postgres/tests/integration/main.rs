//! Tests of the store on real servers. Those that every backend must pass are in `conformance.rs`.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod faults;
mod support;
mod transactions;
// The messages of the compiler depend on the features.
#[cfg(all(feature = "rustls", feature = "sqlx"))]
mod ui;
