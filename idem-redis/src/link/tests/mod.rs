//! Links to real servers, and real faults. What a store makes of them is tested in `tests/`.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod cluster;
mod replication;
mod sentinel;
mod single;
#[cfg(feature = "rustls")]
mod tls;

use std::time::Duration;

use idem_core::{Effect, StoreError, StoreErrorKind};
use redis::Value;
use test_servers::blocking;

use super::{Failure, Link};
use crate::Options;
use crate::address::Address;
use crate::error::kind;

async fn link(url: &str, options: &Options) -> Link {
    try_link(url, options).await.unwrap()
}

async fn try_link(url: &str, options: &Options) -> Result<Link, StoreError> {
    Link::connect(&Address::parse(url).unwrap(), options).await
}

/// Options for tests that wait for timeouts.
fn impatient() -> Options {
    let span = Duration::from_millis(200);
    Options::new().command_timeout(span).silent_after(span).connect_timeout(Duration::from_secs(2))
}

async fn send(link: &Link, command: &[&str]) -> Result<Value, Failure> {
    link.command(redis::cmd(command[0]).arg(&command[1..])).await
}

/// A command that works.
async fn ask(link: &Link, command: &[&str]) -> Value {
    send(link, command).await.unwrap_or_else(|failure| panic!("{command:?}: {failure:?}"))
}

/// Sends until it is carried out, as the engine does. Each failure must be one that may be tried again.
async fn persist(link: &Link, command: &[&str]) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match send(link, command).await {
            Ok(value) => return value,
            Err(failure) => {
                assert!(is_transient(&failure), "{failure:?}");
                assert!(tokio::time::Instant::now() < deadline, "in vain: {failure:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn is_transient(failure: &Failure) -> bool {
    matches!(kind(&failure.error), StoreErrorKind::Unavailable | StoreErrorKind::Timeout)
}

fn said(failure: &Failure) -> (StoreErrorKind, Effect) {
    (kind(&failure.error), failure.effect)
}
