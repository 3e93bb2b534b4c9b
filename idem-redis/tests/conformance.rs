//! The conformance suite over Redis: one server for each case, on a clock that the suite moves.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod golden;
mod support;

conformance_tests::main!(support::harness::Servers::new(support::Kind::Redis));
