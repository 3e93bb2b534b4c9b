//! Waiting for other processes.

use std::time::{Duration, Instant};

/// Blocks until the condition holds. Panics after half a minute.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "this did not happen within 30 seconds: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs code that blocks on a thread of its own. Starting a server and asking it for something do block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
