//! The conformance suite over Redis, Valkey, a Cluster and Sentinel.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod clocked;
mod deployed;
#[path = "../golden/mod.rs"]
mod golden;
#[path = "../support/mod.rs"]
mod support;

use test_servers::redis::{Cluster, Kind, SentinelGroup};

idem_conformance::main!(
    "redis" => clocked::Clocked::new(Kind::Redis),
    "valkey" => clocked::Clocked::new(Kind::Valkey),
    "cluster" => deployed::Deployed::<Cluster>::new(),
    "sentinel" => deployed::Deployed::<SentinelGroup>::new(),
);
