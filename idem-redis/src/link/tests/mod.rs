//! Links to real servers, with real faults. Stores are tested in `tests/`.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod cluster;
mod connect;
mod replication;
mod sentinel;
mod single;
#[cfg(feature = "rustls")]
mod tls;

use std::time::Duration;

use idem_core::{Effect, StoreError, StoreErrorKind};
use redis::Value;
use test_servers::blocking;

use super::Link;
use crate::address::Address;
use crate::error::{Failure, kind};
use crate::options::RedisOptions;

async fn link(url: &str, options: &RedisOptions) -> Link {
    try_link(url, options).await.unwrap()
}

async fn try_link(url: &str, options: &RedisOptions) -> Result<Link, StoreError> {
    Link::connect(&Address::parse(url).unwrap(), options).await
}

/// For tests that wait for timeouts.
fn short_timeouts() -> RedisOptions {
    let span = Duration::from_millis(200);
    RedisOptions::new().command_timeout(span).stall_timeout(span).connect_timeout(Duration::from_secs(2))
}

async fn send(link: &Link, command: &[&str]) -> Result<Value, Failure> {
    link.command(redis::cmd(command[0]).arg(&command[1..])).await
}

/// Sends a command that succeeds.
async fn ask(link: &Link, command: &[&str]) -> Value {
    send(link, command).await.unwrap_or_else(|failure| panic!("{command:?}: {failure:?}"))
}

/// Sends a command until it succeeds, as the engine does. Every failure must be transient.
async fn persist(link: &Link, command: &[&str]) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match send(link, command).await {
            Ok(value) => return value,
            Err(failure) => {
                assert!(is_transient(&failure), "{failure:?}");
                assert!(tokio::time::Instant::now() < deadline, "it never succeeds: {failure:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn is_transient(failure: &Failure) -> bool {
    matches!(kind(&failure.error), StoreErrorKind::Unavailable | StoreErrorKind::Timeout)
}

fn kind_and_effect(failure: &Failure) -> (StoreErrorKind, Effect) {
    (kind(&failure.error), failure.effect)
}
