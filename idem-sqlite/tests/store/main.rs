//! The store through its public API, in one process.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod clock;
mod closing;
mod contention;
mod file;
mod opening;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
mod transactional;
