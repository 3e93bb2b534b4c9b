//! The conformance suite over Redis: one server for each case, on a clock that the suite moves.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod golden;
mod support;

idem_conformance::main!(support::harness::Servers::new(support::Kind::Redis));
