//! The service as its clients and its operator meet it: processes, real HTTP, and real stores.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod contract;
mod processes;
mod race;
mod servers;
mod support;
mod transactional;
mod zombie;
