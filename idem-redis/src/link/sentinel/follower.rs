//! [`Follower`]: listens to one Sentinel, and asks it now and then.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use idem_core::backend::Backoff;
use redis::RedisResult;
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::Sentinel;
use crate::address::Endpoint;

/// How often a Sentinel is asked although it announced nothing.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Gets the master and its epoch from every answer.
pub(crate) type OnAnswer = Arc<dyn Fn(&Endpoint, Option<u64>) + Send + Sync>;

/// Listens to one Sentinel.
pub(super) struct Follower {
    pub(super) sentinel: Sentinel,
    pub(super) on_answer: OnAnswer,
}

impl Follower {
    pub(super) async fn run(self) {
        loop {
            if let Err(error) = self.listen().await {
                tracing::debug!(name: "idem_redis.sentinel.unheard", place = %self.sentinel.endpoint, error = %error,
                    "the connection that listens to a Sentinel failed");
            }
            sleep(Backoff::new(ASK_EVERY, ASK_EVERY).next_pause()).await;
            // The user may be allowed to ask but not to listen.
            self.ask().await;
        }
    }

    /// Returns when the subscription ends.
    async fn listen(&self) -> RedisResult<()> {
        let Sentinel { endpoint, login, dialer, .. } = &self.sentinel;
        let subscription = dialer.subscribe(endpoint, login, "+switch-master").await?;
        let (_sink, mut announcements) = subscription.split();
        // For what was announced before.
        self.ask().await;
        loop {
            let next = poll_fn(|context| Pin::new(&mut announcements).poll_next(context));
            match timeout_at(Instant::now() + ASK_EVERY, next).await {
                Ok(None) => return Ok(()),
                // An announcement has no epoch, so the Sentinel is asked for what it has just announced.
                Ok(Some(_)) | Err(_) => self.ask().await,
            }
        }
    }

    async fn ask(&self) {
        if let Ok(answer) = self.sentinel.ask().await {
            (self.on_answer)(&answer.master, answer.epoch);
        }
    }
}
