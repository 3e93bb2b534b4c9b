//! The layer as its clients see it: over real sockets, with a real client, with and without keys.
//!
//! No test waits for time to pass. A test waits for the event that has to happen first.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod bodies;
mod duplicates;
mod failures;
mod hot_key;
mod keys;
mod replays;
mod retrying;
mod routes;
mod scope;
mod step;
mod support;
mod tenants;
