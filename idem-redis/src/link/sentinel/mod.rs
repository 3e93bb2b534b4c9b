//! [`Sentinels`]: which server is the master, as Sentinel says.
//!
//! All Sentinels of the list are asked at once, and the answer with the highest configuration epoch counts: a Sentinel that
//! was cut off, or has not heard of a failover yet, has an older one. The master that they name is still asked for its
//! role, because during a failover they name the old one for a while.
//!
//! They are asked when a connection is needed. Besides, the link listens to them (`+switch-master`) and asks them every five
//! seconds, because an announcement may be lost: a demoted master that is still there, and still takes writes, has to be
//! left.

mod answer;
mod follower;

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::answer::{Answer, Sentinel};
use self::follower::Follower;
pub(super) use self::follower::OnAnswer;
use super::dial::Dialer;
use crate::address::{Endpoint, Login};

/// How long the last Sentinels may take once most have answered: a dead one should not delay a failover.
const GRACE: Duration = Duration::from_millis(200);

/// The Sentinels of one master.
pub(crate) struct Sentinels {
    members: Vec<Sentinel>,
    server_login: Login,
    connect_timeout: Duration,
    /// The highest configuration epoch of any answer.
    epoch: AtomicU64,
    /// The tasks that listen. They end, and their connections are closed, together with the link that owns this.
    followers: OnceLock<JoinSet<()>>,
}

impl Sentinels {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        service: &str,
        login: &Login,
        server_login: Login,
        dialer: &Dialer,
    ) -> Self {
        let sentinel = |endpoint| Sentinel {
            endpoint,
            login: login.clone(),
            service: service.to_owned(),
            dialer: dialer.clone(),
        };
        Self {
            members: endpoints.into_iter().map(sentinel).collect(),
            server_login,
            connect_timeout: dialer.connect_timeout(),
            epoch: AtomicU64::new(0),
            followers: OnceLock::new(),
        }
    }

    /// How to log in to the master that they name.
    pub(super) fn server_login(&self) -> &Login {
        &self.server_login
    }

    /// Asks all of them. Returns the master and the epoch in which it is that.
    pub(super) async fn master(&self) -> RedisResult<(Endpoint, u64)> {
        let mut asked = JoinSet::new();
        for sentinel in self.members.clone() {
            asked.spawn(async move { sentinel.ask().await });
        }
        let mut answers = Vec::new();
        let mut failure = None;
        let mut deadline = Instant::now() + self.connect_timeout * 2;
        while let Ok(Some(answer)) = timeout_at(deadline, asked.join_next()).await {
            match answer {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(error)) => failure = Some(error),
                Err(panicked) => failure = Some(io::Error::other(panicked).into()),
            }
            if answers.len() * 2 > self.members.len() {
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
        let all = answers.len() == self.members.len();
        let Some(Answer { epoch, master }) = answers.into_iter().max_by_key(|answer| answer.epoch) else {
            return Err(failure.unwrap_or_else(|| unavailable("no Sentinel answers")));
        };
        let epoch = epoch.unwrap_or_default();
        // An older epoch counts only if all of them say so: then an operator has reset them.
        if epoch < self.epoch.load(Ordering::Relaxed) && !all {
            return Err(unavailable("the Sentinels that answer have not heard of the last failover"));
        }
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok((master, epoch))
    }

    /// Calls `on_answer` whenever a Sentinel names a master, until this is dropped.
    pub(super) fn follow(&self, on_answer: &OnAnswer) {
        let mut followers = JoinSet::new();
        for sentinel in self.members.clone() {
            followers.spawn(Follower { sentinel, on_answer: OnAnswer::clone(on_answer) }.run());
        }
        // A link calls this once.
        let _ = self.followers.set(followers);
    }

    /// Whether there was a failover after this epoch. A link that was still connecting had no connection to replace when
    /// it was announced.
    pub(super) fn have_moved_on_from(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::Relaxed) > epoch
    }

    /// Whether an answer of this epoch reports a failover that is not known yet. The address does not decide: Sentinels may
    /// know one server under different names.
    pub(super) fn is_news(&self, epoch: Option<u64>) -> bool {
        epoch.is_none_or(|epoch| self.epoch.fetch_max(epoch, Ordering::Relaxed) < epoch)
    }
}

fn unavailable(problem: &'static str) -> RedisError {
    (ErrorKind::Io, problem).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use super::*;

    fn sentinels() -> Sentinels {
        let login = Login::default();
        let dialer = Dialer::new(false, &crate::RedisOptions::new()).unwrap();
        let endpoint = Endpoint::Tcp { host: "s".to_owned(), port: 26_379 };
        Sentinels::new(vec![endpoint], "shop", &login, login.clone(), &dialer)
    }

    #[test]
    fn a_sentinel_that_knows_of_no_failover_brings_no_news_after_one() {
        let sentinels = sentinels();
        assert!(sentinels.is_news(Some(1)));
        assert!(!sentinels.is_news(Some(1)));
        // It was cut off before the failover, or was started from its first file.
        assert!(!sentinels.is_news(Some(0)));
        assert!(sentinels.is_news(None));
        assert!(sentinels.is_news(Some(2)));
    }

    #[test]
    fn a_failover_that_is_announced_while_the_link_connects_is_not_forgotten() {
        let sentinels = sentinels();
        assert!(sentinels.is_news(Some(4)));
        // The link has asked and connects to the master of this epoch. It has no connection that it could replace.
        assert!(!sentinels.have_moved_on_from(4));
        assert!(sentinels.is_news(Some(5)));
        assert!(sentinels.have_moved_on_from(4));
        // The announcement does not come a second time.
        assert!(!sentinels.is_news(Some(5)));
    }
}
