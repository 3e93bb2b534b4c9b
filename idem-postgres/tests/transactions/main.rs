//! Completion together with an effect in the same database (promise P6).

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod complete_in;
mod endings;
mod guard;
mod lost_replies;
mod misuse;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod zombies;
