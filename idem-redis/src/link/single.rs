//! [`Single`]: the link to one server, and what keeps it alive.
//!
//! One multiplexed connection carries all callers. This module decides when it is no longer good, and makes another:
//!
//! - *closed*: the task that moves its bytes ends, and says so at once, also while nobody calls;
//! - *silent*: commands time out, and for `silent_after` nothing was answered to anybody (`silence`);
//! - *not the master*: the server answered `READONLY` or `MASTERDOWN`, or Sentinel announced another.
//!
//! Then new callers wait for the next attempt to connect, and are told its failure if it fails; those that are under way
//! keep the old connection until their own time is up. Late answers go nowhere, and the old connection is closed when the
//! last of its callers has left.
//!
//! - INV-1: no lock is held across an await, and a command that finds a place and a connection takes no turn through
//!   another task of ours.
//! - INV-2: a command that is reported as `NotApplied` here was answered with an error, or was never handed to a
//!   connection.
//! - INV-3: at most `max_in_flight` commands hold a place; a place is held from before the command is handed over until
//!   its caller is answered or leaves. What callers leave behind is not counted: it is on the connection until it is
//!   answered, or the connection is closed. So on a silent one there are at most as many of these as come in
//!   `silent_after`, some 500 bytes each (measured): 50 MB where 50,000 a second leave early for two seconds. Of those,
//!   the client library's queue keeps the bytes of `max_in_flight` at the most. To keep their places instead would block
//!   everybody until somebody finds out that they are answered, and nobody is there to be told; to replace the connection
//!   at a count would make impatient callers reconnect at every hiccup of the server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::Backoff;
use super::dial::{Dialer, Dialled};
use super::failure::{Failure, crowded, is_own_timeout, unconnected};
use super::sentinel::Sentinels;
use super::silence::Silence;
use crate::Options;
use crate::address::{Login, Place};

/// The link to one server. Clones share it.
#[derive(Clone)]
pub(crate) struct Single {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    current: watch::Sender<Current>,
    places: Semaphore,
    finder: Finder,
    dialer: Dialer,
    max_in_flight: usize,
    command_timeout: Duration,
    silent_after: Duration,
    silence: Silence,
    born: Instant,
}

/// Which server it is.
pub(crate) enum Finder {
    /// Always this one. A name may lead to another machine after a failover, so that the role is asked each time.
    Fixed { place: Place, login: Login },
    /// A node of a Cluster, where a replica redirects and need not be recognised.
    Node { place: Place, login: Login },
    /// The one that Sentinel names.
    Sentinel(Sentinels),
}

enum Current {
    Up(Arc<Live>),
    /// How many attempts have failed since there was a connection, and how the last one did. `None`: nobody has asked for
    /// one yet.
    Down {
        failed: u64,
        why: Option<RedisError>,
    },
}

/// A connection that is in use.
pub(crate) struct Live {
    connection: MultiplexedConnection,
    place: Place,
    number: u64,
    driver: AbortHandle,
}

impl Drop for Live {
    /// The client's own task would wait for answers that a silent server never gives.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Single {
    /// Connects. A server that cannot be reached, refuses us or is a replica is an error, at once.
    pub(crate) async fn connect(finder: Finder, dialer: Dialer, options: &Options) -> RedisResult<Self> {
        let link = Self::lazy(finder, dialer, options);
        let (place, dialled) = link.shared.dial().await?;
        link.shared.install(place, dialled);
        Ok(link)
    }

    /// Connects when it is first used.
    pub(crate) fn lazy(finder: Finder, dialer: Dialer, options: &Options) -> Self {
        let shared = Arc::new(Shared {
            current: watch::Sender::new(Current::Down { failed: 0, why: None }),
            places: Semaphore::new(options.places()),
            finder,
            dialer,
            max_in_flight: options.places(),
            command_timeout: options.command_timeout,
            silent_after: options.silent_after,
            silence: Silence::default(),
            born: Instant::now(),
        });
        if let Finder::Sentinel(sentinels) = &shared.finder {
            sentinels.follow(&Arc::downgrade(&shared));
        }
        Self { shared }
    }

    /// One command, one round trip.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        let ready = self.ready().await?;
        let mut connection = ready.connection();
        let waiting = Waiting { shared: &self.shared, ready: &ready };
        let answer = connection.send_packed_command(command).await;
        waiting.ends();
        match answer {
            Ok(Value::ServerError(error)) => Err(self.shared.refused(&ready.live, error.into())),
            Ok(value) => {
                self.shared.silence.end();
                Ok(value)
            }
            Err(error) => Err(self.shared.broken(&ready, error)),
        }
    }

    /// Several commands in one round trip, each with its own answer.
    pub(crate) async fn pipeline(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<Value, RedisError>>, Failure> {
        let ready = self.ready().await?;
        let mut connection = ready.connection();
        match connection.send_packed_commands(pipeline, 0, pipeline.len()).await {
            Ok(values) => {
                self.shared.silence.end();
                let answer = |value| match value {
                    Value::ServerError(error) => Err(self.shared.refused(&ready.live, error.into()).error),
                    value => Ok(value),
                };
                Ok(values.into_iter().map(answer).collect())
            }
            Err(error) => Err(self.shared.broken(&ready, error)),
        }
    }

    /// The connection that is in use, if there is one: which server it leads to, and its number, which no later one has.
    pub(crate) fn current(&self) -> Option<(Place, u64)> {
        self.shared.live().map(|live| (live.place.clone(), live.number))
    }

    /// Returns when another connection than this one is in use.
    pub(crate) async fn replaced(&self, number: u64) {
        let mut current = self.shared.current.subscribe();
        // The sender lives in `self`.
        let _ =
            current.wait_for(|current| matches!(current, Current::Up(live) if live.number != number)).await;
    }

    /// Makes another connection, if this one is still in use. Commands that are under way on it stay there.
    pub(crate) fn leave(&self, number: u64, why: &RedisError) {
        self.shared.lost(number, why);
    }

    /// Where the connection that is in use leads to, or where one would.
    pub(crate) fn name(&self) -> String {
        match (self.current(), &self.shared.finder) {
            (Some((place, _)), _) => place.to_string(),
            (None, Finder::Fixed { place, .. } | Finder::Node { place, .. }) => place.to_string(),
            (None, Finder::Sentinel(_)) => "the master that Sentinel names".to_owned(),
        }
    }

    /// Waits for a connection, for as long as a command may take.
    pub(crate) async fn connected(&self) -> Result<(), Failure> {
        self.ready().await.map(|_| ())
    }

    async fn ready(&self) -> Result<Ready<'_>, Failure> {
        if let (Ok(place), Some(live)) = (self.shared.places.try_acquire(), self.shared.live()) {
            return Ok(Ready { live, _place: place, left: None, answers: self.shared.silence.answers() });
        }
        // Boxed, so that the rare way does not make the future of the common one larger.
        Box::pin(self.ready_in_time()).await
    }

    async fn ready_in_time(&self) -> Result<Ready<'_>, Failure> {
        let deadline = Instant::now() + self.shared.command_timeout;
        let Ok(place) = timeout_at(deadline, self.shared.places.acquire()).await else {
            return Err(crowded(self.shared.max_in_flight));
        };
        let place = place.expect("nobody closes it");
        // Whoever had it may have left at the very instant at which our own time was up.
        if Instant::now() >= deadline {
            return Err(crowded(self.shared.max_in_flight));
        }
        let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut).into();
        let next = timeout_at(deadline, self.shared.next_connection()).await;
        let live = next.unwrap_or_else(|_| Err(timed_out())).map_err(unconnected)?;
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(unconnected(timed_out())),
            left => {
                Ok(Ready { live, _place: place, left: Some(left), answers: self.shared.silence.answers() })
            }
        }
    }
}

/// A place (INV-3) and a connection.
struct Ready<'l> {
    live: Arc<Live>,
    _place: SemaphorePermit<'l>,
    /// What is left of the command's time, if some was spent on waiting.
    left: Option<Duration>,
    /// How many answers there had been when it was sent.
    answers: u64,
}

impl Ready<'_> {
    fn connection(&self) -> MultiplexedConnection {
        let mut connection = self.live.connection.clone();
        if let Some(left) = self.left {
            connection.set_response_timeout(left);
        }
        connection
    }
}

/// A caller that waits for its answer. If it leaves before its time is up, the link may be silent all the same; where all
/// callers are that impatient, nobody else would notice.
struct Waiting<'l> {
    shared: &'l Arc<Shared>,
    ready: &'l Ready<'l>,
}

impl Waiting<'_> {
    fn ends(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self { shared, ready } = self;
        // When it was sent would cost every command a look at the clock. That it was before now is enough.
        let now = shared.born.elapsed();
        if shared.silence.is_dead(ready.answers, now, now, shared.silent_after) {
            shared.lost(ready.live.number, &(ErrorKind::Io, "the server does not answer").into());
        }
    }
}

impl Shared {
    fn live(&self) -> Option<Arc<Live>> {
        match &*self.current.borrow() {
            Current::Up(live) => Some(Arc::clone(live)),
            Current::Down { .. } => None,
        }
    }

    /// The server answered, with an error.
    fn refused(self: &Arc<Self>, live: &Live, error: RedisError) -> Failure {
        self.silence.end();
        if let ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) = error.kind() {
            self.lost(live.number, &error);
        }
        Failure::not_applied(error)
    }

    /// There was no answer.
    fn broken(self: &Arc<Self>, ready: &Ready<'_>, error: RedisError) -> Failure {
        let is_silent = || {
            let now = self.born.elapsed();
            let sent = now.saturating_sub(ready.left.unwrap_or(self.command_timeout));
            self.silence.is_dead(ready.answers, sent, now, self.silent_after)
        };
        if !is_own_timeout(&error) || is_silent() {
            self.lost(ready.live.number, &error);
        }
        Failure::unknown(error)
    }

    /// The connection of this number is of no use any more. The first to say so begins to make another.
    pub(super) fn lost(self: &Arc<Self>, number: u64, why: &RedisError) {
        let is_first = self.current.send_if_modified(|current| {
            let is_it = matches!(current, Current::Up(live) if live.number == number);
            if is_it {
                tracing::info!(name: "idem_redis.link.lost", error = %why, "a connection is replaced");
                *current = Current::Down { failed: 0, why: None };
            }
            is_it
        });
        // Somebody who leaves may do so outside of a runtime. Then the next caller begins.
        if is_first && let Ok(runtime) = Handle::try_current() {
            self.begin(&runtime, why);
        }
    }

    /// A Sentinel says that this is the master.
    pub(super) fn master_is(self: &Arc<Self>, place: &Place, epoch: Option<u64>) {
        let Finder::Sentinel(sentinels) = &self.finder else { return };
        if !sentinels.is_news(epoch) {
            return;
        }
        if let Some(live) = self.live().filter(|live| live.place != *place) {
            let why = (ErrorKind::Io, "Sentinel names another master", place.to_string());
            self.lost(live.number, &why.into());
        }
    }

    /// The connection that there is, or the outcome of the next attempt to make one.
    async fn next_connection(self: &Arc<Self>) -> RedisResult<Arc<Live>> {
        let mut current = self.current.subscribe();
        let begin = || {
            self.begin(&Handle::current(), &(ErrorKind::Io, "there is no connection yet").into());
        };
        begin();
        let seen = match &*current.borrow_and_update() {
            Current::Up(live) => return Ok(Arc::clone(live)),
            Current::Down { failed, .. } => *failed,
        };
        loop {
            current.changed().await.expect("the sender lives in `self`");
            match &*current.borrow_and_update() {
                Current::Up(live) => return Ok(Arc::clone(live)),
                // Fewer: there has been another connection meanwhile, and it was lost again.
                Current::Down { failed, why: Some(why) } if *failed > seen => return Err(why.clone()),
                Current::Down { why: Some(_), .. } => continue,
                // The task that was at it went down with its runtime.
                Current::Down { why: None, .. } => {}
            }
            begin();
        }
    }

    /// Begins to connect if nobody has yet.
    fn begin(self: &Arc<Self>, runtime: &Handle, because: &RedisError) {
        let is_first = self.current.send_if_modified(|current| match current {
            Current::Down { why: why @ None, .. } => {
                *why = Some(because.clone());
                true
            }
            _ => false,
        });
        if is_first {
            runtime.spawn(reconnect(Unfinished(Arc::downgrade(self))));
        }
    }

    async fn dial(&self) -> RedisResult<(Place, Dialled)> {
        match &self.finder {
            Finder::Node { place, login } => Ok((place.clone(), self.dialer.dial(place, login).await?)),
            Finder::Fixed { place, login } => Ok((place.clone(), master(&self.dialer, place, login).await?)),
            Finder::Sentinel(sentinels) => {
                let (place, epoch) = sentinels.master().await?;
                let dialled = master(&self.dialer, &place, sentinels.server_login()).await?;
                if sentinels.have_moved_on_from(epoch) {
                    return Err((ErrorKind::Io, "there was a failover while the link connected").into());
                }
                Ok((place, dialled))
            }
        }
    }

    fn install(self: &Arc<Self>, place: Place, (connection, driver): Dialled) {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let link = Arc::downgrade(self);
        let driver = tokio::spawn(async move {
            driver.await;
            if let Some(link) = link.upgrade() {
                link.lost(number, &RedisError::from((ErrorKind::Io, "the server closed the connection")));
            }
        });
        let live = Live { connection, place, number, driver: driver.abort_handle() };
        self.silence.end();
        self.current.send_replace(Current::Up(Arc::new(live)));
    }

    /// Tells those who wait that an attempt failed. The how many-th.
    fn failed(&self, error: &RedisError) -> u64 {
        let mut attempts = 1;
        self.current.send_modify(|current| {
            if let Current::Down { failed, .. } = current {
                attempts = *failed + 1;
            }
            *current = Current::Down { failed: attempts, why: Some(error.clone()) };
        });
        attempts
    }
}

/// Connects to a server and makes sure that it is a master.
async fn master(dialer: &Dialer, place: &Place, login: &Login) -> RedisResult<Dialled> {
    let (mut connection, mut driver) = dialer.dial(place, login).await?;
    let role = redis::cmd("ROLE");
    let role = tokio::select! {
        role = connection.send_packed_command(&role) => role?,
        () = &mut driver => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
    };
    match role {
        Value::Array(role) if matches!(role.first(), Some(Value::BulkString(role)) if role != b"master") => {
            Err(RedisError::from((
                ErrorKind::Server(ServerErrorKind::ReadOnly),
                "the server is a replica, and writes belong to its master",
                place.to_string(),
            )))
        }
        Value::ServerError(error) if error.code() == "NOAUTH" => Err(error.into()),
        // Where it may not be asked (`NOPERM`), a write will tell.
        _ => Ok((connection, driver)),
    }
}

/// If the task that reconnects goes down with its runtime, also before it ran for the first time, a caller on another one
/// begins anew.
struct Unfinished(Weak<Shared>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(link) = self.0.upgrade() else { return };
        link.current.send_if_modified(|current| match current {
            Current::Down { why, .. } => why.take().is_some(),
            Current::Up(_) => false,
        });
    }
}

/// Makes a connection, for as long as somebody has the link.
async fn reconnect(mut link: Unfinished) {
    let mut backoff = Backoff::new();
    loop {
        sleep(backoff.next()).await;
        let Some(shared) = link.0.upgrade() else { return };
        match shared.dial().await {
            Ok((place, dialled)) => {
                tracing::info!(name: "idem_redis.link.connected", place = %place, "a connection was made");
                // Before it is installed, since it may be lost again at once, and then another task is at it.
                link.0 = Weak::new();
                shared.install(place, dialled);
                return;
            }
            Err(error) => {
                // Once for each outage; it may last, and the attempts are many.
                if shared.failed(&error) == 1 {
                    tracing::warn!(name: "idem_redis.link.unreachable", error = %error, "the server cannot be reached");
                }
            }
        }
    }
}
