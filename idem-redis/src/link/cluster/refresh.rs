//! Looks the slots up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisResult, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::state::Cluster;
use super::view::View;
use crate::address::{Endpoint, Login};
use crate::link::dial::Dialer;

/// How many nodes are asked at once.
const ASKED_AT_ONCE: usize = 9;
/// How long the last nodes may take once the first has answered.
const GRACE: Duration = Duration::from_millis(200);
/// How long the result of a lookup counts as new for the next caller.
const FRESH: Duration = Duration::from_millis(100);

impl Cluster {
    /// Looks the slots up, unless that was just done.
    pub(super) async fn refresh(&self) -> RedisResult<()> {
        let asked = Instant::now();
        let mut refreshed = self.refreshed.lock().await;
        // Another task did it while this one waited, or right before.
        if refreshed.is_some_and(|at| at + FRESH >= asked) {
            return Ok(());
        }
        let found = self.query().await;
        *refreshed = Some(Instant::now());
        match found {
            Ok(view) => {
                self.apply(&view);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(name: "idem_redis.cluster.unknown", error = %error,
                    "no node of the Cluster says which node serves which slot");
                Err(error)
            }
        }
    }

    /// Looks the slots up without waiting for the result.
    pub(super) fn refresh_in_background(self: &Arc<Self>) {
        // A lookup that is running serves every caller.
        if self.refreshed.try_lock().is_ok() {
            let cluster = Arc::clone(self);
            tokio::spawn(async move { cluster.refresh().await });
        }
    }

    /// Asks several nodes at once, and takes the view that most of them share (INV-3).
    async fn query(&self) -> RedisResult<View> {
        let mut nodes = self.known();
        // Other nodes each time, so that a few dead ones do not stand in the way permanently.
        if !nodes.is_empty() {
            let first = getrandom::u32().unwrap_or_default() as usize % nodes.len();
            nodes.rotate_left(first);
        }
        nodes.truncate(ASKED_AT_ONCE);
        let seeds: Vec<_> = self.seeds.iter().filter(|seed| !nodes.contains(seed)).cloned().collect();

        let mut asked = JoinSet::new();
        for node in nodes.into_iter().chain(seeds) {
            asked.spawn(ask(self.dialer.clone(), node, self.login.clone()));
        }
        let mut views: Vec<(View, usize)> = Vec::new();
        let mut failure = None;
        let mut deadline = Instant::now() + self.dialer.connect_timeout() * 2;
        while let Ok(Some(answer)) = timeout_at(deadline, asked.join_next()).await {
            match answer {
                Ok(Ok(view)) => {
                    deadline = deadline.min(Instant::now() + GRACE);
                    match views.iter_mut().find(|(known, _)| known.ranges == view.ranges) {
                        Some((_, votes)) => *votes += 1,
                        None => views.push((view, 1)),
                    }
                }
                Ok(Err(error)) => failure = Some(error),
                Err(panicked) => failure = Some(io::Error::other(panicked).into()),
            }
        }
        match views.into_iter().max_by_key(|(_, votes)| *votes) {
            Some((view, _)) => Ok(view),
            None => Err(failure.unwrap_or_else(|| (ErrorKind::Io, "no node of the Cluster answers").into())),
        }
    }
}

async fn ask(dialer: Dialer, endpoint: Endpoint, login: Login) -> RedisResult<View> {
    let mut question = redis::pipe();
    question.cmd("CLUSTER").arg("SLOTS");
    let mut answers = dialer.ask(&endpoint, &login, &question).await?;
    View::read(answers.pop().unwrap_or(Value::Nil), &endpoint)
}
