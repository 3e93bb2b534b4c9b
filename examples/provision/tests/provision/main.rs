//! The service as its clients and its operator meet it: processes, real HTTP, and one SQLite file.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod contract;
mod processes;
mod race;
mod support;
mod transactional;
mod zombie;
