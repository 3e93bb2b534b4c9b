//! The engine through its public API, on a store that fails when it is told to.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod cancellation;
mod execute;
mod failures;
mod given_up;
mod heartbeat;
mod observe;
mod reserve;
mod resolve;
mod shutdown;
mod stores;
mod support;
mod waiting;
