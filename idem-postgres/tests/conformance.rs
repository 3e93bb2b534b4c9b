//! The conformance suite over the store, directly on a server, with prepared statements.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

#[path = "golden/mod.rs"]
mod golden;
#[path = "support/postgres.rs"]
#[allow(dead_code, reason = "each test binary uses its part of this")]
mod postgres;
#[path = "support/suite.rs"]
mod suite;

conformance_tests::main!(suite::Suite::Direct);
