//! The conformance suite through Sentinel: three of them, a master and two replicas for each case.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

#[path = "support/deployed.rs"]
mod deployed;

idem_conformance::main!(deployed::Deployed::<test_servers::redis::SentinelGroup>::new());
