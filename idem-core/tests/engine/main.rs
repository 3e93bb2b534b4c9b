//! The engine through its public API, on a store with faults on demand.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod cancellation;
mod execute;
mod failures;

mod heartbeat;
mod observe;
mod release_on_drop;
mod reserve;
mod resolve;
mod shutdown;
mod stores;
mod support;
mod waiting;
