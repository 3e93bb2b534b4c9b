//! The conformance suite over a Redis Cluster of six nodes, one for each case.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

#[path = "support/deployed.rs"]
mod deployed;

idem_conformance::main!(deployed::Deployed::<test_servers::redis::Cluster>::new());
