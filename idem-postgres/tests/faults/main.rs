//! What others do to the store: the server, the network, the disk, the clock, operators and other roles.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod clocks;
mod disk;
mod locks;
mod opening;
mod pooler;
mod servers;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod tables;
