//! The layer as its clients meet it: over real sockets, with a real client, on both of its branches.
//!
//! No test waits for time to pass: what has to happen before something else is waited for.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod bodies;
mod duplicates;
mod failures;
mod hot_key;
mod keys;
mod replays;
mod retrying;
mod routes;
mod step;
mod support;
mod tenants;
