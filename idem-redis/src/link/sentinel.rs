//! [`Sentinels`]: which server is the master, as Sentinel says.
//!
//! All Sentinels of the list are asked at once, and the answer with the highest configuration epoch counts: one that was
//! cut off, or is late to hear of a failover, has an older one. A master that they name is still asked for its role, since
//! during a failover they name the old one for a while.
//!
//! Besides being asked when a connection is needed, they are listened to (`+switch-master`) and asked every five seconds,
//! so that a demoted master that is still there, and still takes writes, is left: an announcement may be lost.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::Duration;

use futures_core::Stream;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::jitter;
use super::dial::Dialer;
use super::single::Shared;
use crate::address::{Login, Place};

/// How often they are asked although nothing happened.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long the last ones may take once most have answered: one that is dead should not delay a failover.
const GRACE: Duration = Duration::from_millis(200);

/// The Sentinels of one master.
pub(crate) struct Sentinels {
    places: Vec<Place>,
    service: String,
    login: Login,
    server_login: Login,
    dialer: Dialer,
    /// The highest configuration epoch that was ever told.
    epoch: AtomicU64,
    /// Who listens to them. With the link, which has these Sentinels, they end and their connections are closed.
    followers: OnceLock<JoinSet<()>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    /// They begin at 0 and count every failover. `None`: this one may not tell.
    epoch: Option<u64>,
    master: Place,
}

impl Sentinels {
    pub(crate) fn new(
        places: Vec<Place>,
        service: String,
        login: Login,
        server_login: Login,
        dialer: Dialer,
    ) -> Self {
        let followers = OnceLock::new();
        Self { places, service, login, server_login, dialer, epoch: AtomicU64::new(0), followers }
    }

    /// How to log in to the master that they name.
    pub(super) fn server_login(&self) -> &Login {
        &self.server_login
    }

    /// Asks all of them: the master, and in which epoch it is that.
    pub(super) async fn master(&self) -> RedisResult<(Place, u64)> {
        let mut asked = JoinSet::new();
        for place in &self.places {
            asked.spawn(ask(self.dialer.clone(), place.clone(), self.login.clone(), self.service.clone()));
        }
        let mut answers = Vec::new();
        let mut failure = None;
        let mut deadline = Instant::now() + self.dialer.connect_timeout() * 2;
        while let Ok(Some(told)) = timeout_at(deadline, asked.join_next()).await {
            match told {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(error)) => failure = Some(error),
                Err(gone) => failure = Some(std::io::Error::other(gone).into()),
            }
            if answers.len() * 2 > self.places.len() {
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
        let all = answers.len() == self.places.len();
        let Some(best) = answers.into_iter().max_by_key(|answer| answer.epoch) else {
            return Err(failure.unwrap_or_else(|| silent("no Sentinel answers")));
        };
        // Unless all say so: then somebody has reset them.
        let epoch = best.epoch.unwrap_or_default();
        if epoch < self.epoch.load(Ordering::Relaxed) && !all {
            return Err(silent("the Sentinels that answer have not heard of the last failover"));
        }
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok((best.master, epoch))
    }

    /// Tells the link of failovers, for as long as it is there.
    pub(super) fn follow(&self, link: &Weak<Shared>) {
        let mut followers = JoinSet::new();
        for place in &self.places {
            let follower = Follower {
                dialer: self.dialer.clone(),
                place: place.clone(),
                login: self.login.clone(),
                service: self.service.clone(),
                link: Weak::clone(link),
            };
            followers.spawn(follower.run());
        }
        // A link says it once.
        let _ = self.followers.set(followers);
    }

    /// Whether there has been a failover since this epoch. It was no news to a link that was about to connect.
    pub(super) fn have_moved_on_from(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::Relaxed) > epoch
    }

    /// Whether there has been a failover that is not known yet. Not merely another place: Sentinels may know one server by
    /// different names.
    pub(super) fn is_news(&self, epoch: Option<u64>) -> bool {
        epoch.is_none_or(|epoch| self.epoch.fetch_max(epoch, Ordering::Relaxed) < epoch)
    }
}

/// Listens to one Sentinel.
struct Follower {
    dialer: Dialer,
    place: Place,
    login: Login,
    service: String,
    link: Weak<Shared>,
}

impl Follower {
    async fn run(self) {
        loop {
            if let Err(error) = self.listen().await {
                tracing::debug!(name: "idem_redis.sentinel.unheard", place = %self.place, error = %error,
                    "a Sentinel cannot be listened to");
            }
            sleep(ASK_EVERY / 2 + jitter(ASK_EVERY / 2)).await;
            // Also where listening is forbidden.
            self.look().await;
        }
    }

    /// Returns when it can no longer be heard.
    async fn listen(&self) -> RedisResult<()> {
        let (_subscriber, mut announced) =
            self.dialer.listen(&self.place, &self.login, "+switch-master").await?.split();
        // What was announced before we listened.
        self.look().await;
        loop {
            let next = poll_fn(|context| Pin::new(&mut announced).poll_next(context));
            match timeout_at(Instant::now() + ASK_EVERY, next).await {
                Ok(None) => return Ok(()),
                // The announcement has no epoch, so that the Sentinel is asked for what it has just announced.
                Ok(Some(_)) | Err(_) => self.look().await,
            }
        }
    }

    /// Asks this Sentinel, and tells the link if it knows better.
    async fn look(&self) {
        let told =
            ask(self.dialer.clone(), self.place.clone(), self.login.clone(), self.service.clone()).await;
        if let (Ok(answer), Some(link)) = (told, self.link.upgrade()) {
            link.master_is(&answer.master, answer.epoch);
        }
    }
}

async fn ask(dialer: Dialer, place: Place, login: Login, service: String) -> RedisResult<Answer> {
    let (mut connection, driver) = dialer.dial(&place, &login).await?;
    let mut questions = redis::pipe();
    // The first knows a promoted replica before the second does; only the second tells the epoch.
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&service);
    questions.cmd("SENTINEL").arg("MASTER").arg(&service);
    tokio::select! {
        told = connection.send_packed_commands(&questions, 0, 2) => {
            let mut told = told?.into_iter();
            answer(told.next().unwrap_or(Value::Nil), told.next().unwrap_or(Value::Nil), &place)
        }
        () = driver => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
    }
}

/// Reads what a Sentinel says of a master: its address, and then names and values in turn.
fn answer(address: Value, details: Value, asked: &Place) -> RedisResult<Answer> {
    let Some((ip, port)) = redis::from_redis_value::<Option<(String, String)>>(address.extract_error()?)?
    else {
        return Err(
            (ErrorKind::MasterNameNotFoundBySentinel, "a Sentinel knows no master of this name").into()
        );
    };
    let master = Place::told(&format!("{ip}:{port}"), asked.host())
        .ok_or((ErrorKind::UnexpectedReturnType, "the master's address cannot be read"))?;
    // A Sentinel's user may be allowed the question for the address alone.
    let details: Vec<(String, String)> = redis::from_redis_value(details).unwrap_or_default();
    let epoch = details.iter().find(|(name, _)| name == "config-epoch");
    let epoch = epoch.and_then(|(_, epoch)| epoch.parse().ok());
    Ok(Answer { epoch, master })
}

fn silent(problem: &'static str) -> RedisError {
    (ErrorKind::Io, problem).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fields: &[&str]) -> Value {
        Value::Array(fields.iter().map(|field| Value::BulkString(field.as_bytes().to_vec())).collect())
    }

    fn asked() -> Place {
        Place::Tcp { host: "s".to_owned(), port: 26_379 }
    }

    fn sentinels() -> Sentinels {
        let nobody = Login::default();
        let dialer = Dialer::new(false, &crate::Options::new()).unwrap();
        Sentinels::new(vec![asked()], "shop".to_owned(), nobody.clone(), nobody, dialer)
    }

    #[test]
    fn a_master_is_read_with_its_epoch() {
        let details =
            told(&["name", "shop", "ip", "10.0.0.9", "port", "7", "flags", "master", "config-epoch", "12"]);
        let expected =
            Answer { epoch: Some(12), master: Place::Tcp { host: "10.0.0.1".to_owned(), port: 7 } };
        assert_eq!(answer(told(&["10.0.0.1", "7"]), details, &asked()).unwrap(), expected);
    }

    #[test]
    fn a_sentinel_that_knows_of_no_failover_brings_no_news_after_one() {
        let sentinels = sentinels();
        assert!(sentinels.is_news(Some(1)));
        assert!(!sentinels.is_news(Some(1)));
        // One that was cut off before the failover, or has been started from its first file.
        assert!(!sentinels.is_news(Some(0)));
        assert!(sentinels.is_news(None));
        assert!(sentinels.is_news(Some(2)));
    }

    #[test]
    fn a_failover_that_is_announced_while_the_link_connects_is_not_forgotten() {
        let sentinels = sentinels();
        assert!(sentinels.is_news(Some(4)));
        // The link has asked, connects to the master of this epoch, and has no connection that it could leave.
        assert!(!sentinels.have_moved_on_from(4));
        assert!(sentinels.is_news(Some(5)));
        assert!(sentinels.have_moved_on_from(4));
        // The next time nobody says it again.
        assert!(!sentinels.is_news(Some(5)));
    }

    #[test]
    fn whoever_may_not_ask_for_the_epoch_still_gets_the_master() {
        let details = redis::parse_redis_value(b"-NOPERM no\r\n").unwrap();
        assert_eq!(answer(told(&["10.0.0.1", "7"]), details, &asked()).unwrap().epoch, None);
    }

    #[test]
    fn a_name_that_no_sentinel_knows_is_a_mistake_of_the_configuration() {
        let error = answer(Value::Nil, Value::Nil, &asked()).unwrap_err();
        assert_eq!(crate::error::kind(&error), idem_core::StoreErrorKind::Misconfigured);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for fields in [&["h", "port"][..], &["h"], &[]] {
            assert!(answer(told(fields), Value::Nil, &asked()).is_err(), "{fields:?}");
        }
    }
}
