//! Servers for tests: one, a Sentinel's three, a Cluster of six; Redis or Valkey; with TLS or without. Each test starts its
//! own, in a temporary directory and on free ports; they are killed when the test drops them, or dies.

#![allow(dead_code, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

pub(crate) mod cluster;
pub(crate) mod kind;
pub(crate) mod sentinel;
pub(crate) mod single;
pub(crate) mod tls;

use std::time::{Duration, Instant};

/// Waits until it is so, and fails after half a minute. What is waited for happens in another process.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Servers start, and are asked, on threads of their own: they wait.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
