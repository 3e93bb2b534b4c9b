//! [`Supervisor`]: owns the connection of a link, finds out when it is lost, and makes another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use idem_core::backend::Backoff;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::finder::Finder;
use super::stall::StallDetector;
use crate::address::Endpoint;
use crate::error::Failure;
use crate::link::dial::{Dialer, Dialled};
use crate::link::sentinel::OnAnswer;
use crate::options::RedisOptions;

/// The pauses between attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));

/// Owns the connection of a link, and its limits.
pub(super) struct Supervisor {
    state: watch::Sender<State>,
    finder: Finder,
    dialer: Dialer,
    pub(super) permits: Semaphore,
    pub(super) max_in_flight: usize,
    pub(super) command_timeout: Duration,
    stall_timeout: Duration,
    pub(super) stall: StallDetector,
    created: Instant,
}

enum State {
    Connected(Arc<Live>),
    /// `failed`: how many attempts have failed since there was a connection. `reason`: why the last one failed, or why it
    /// is being made; `None` while no task connects.
    Disconnected {
        failed: u64,
        reason: Option<RedisError>,
    },
}

/// A connection that is in use.
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) endpoint: Endpoint,
    /// No later connection has the same number.
    pub(super) number: u64,
    driver: AbortHandle,
}

impl Drop for Live {
    /// The client's own task would wait for answers that a stalled server never gives.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Supervisor {
    /// Without a connection at first.
    pub(super) fn new(finder: Finder, dialer: Dialer, options: &RedisOptions) -> Arc<Self> {
        let supervisor = Arc::new(Self {
            state: watch::Sender::new(State::Disconnected { failed: 0, reason: None }),
            finder,
            dialer,
            permits: Semaphore::new(options.max_in_flight),
            max_in_flight: options.max_in_flight,
            command_timeout: options.command_timeout,
            stall_timeout: options.stall_timeout,
            stall: StallDetector::default(),
            created: Instant::now(),
        });
        if let Finder::Sentinel(sentinels) = &supervisor.finder {
            let supervisor = Arc::downgrade(&supervisor);
            let on_answer: OnAnswer = Arc::new(move |master, epoch| {
                if let Some(supervisor) = supervisor.upgrade() {
                    supervisor.master_is(master, epoch);
                }
            });
            sentinels.follow(&on_answer);
        }
        supervisor
    }

    /// Connects, once.
    pub(super) async fn connect(self: &Arc<Self>) -> RedisResult<()> {
        let (endpoint, dialled) = self.finder.dial(&self.dialer).await?;
        self.install(endpoint, dialled);
        Ok(())
    }

    /// The connection, if there is one.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        match &*self.state.borrow() {
            State::Connected(live) => Some(Arc::clone(live)),
            State::Disconnected { .. } => None,
        }
    }

    /// Where the connection leads, or where one would.
    pub(super) fn name(&self) -> String {
        match (self.live(), &self.finder) {
            (Some(live), _) => live.endpoint.to_string(),
            (None, Finder::Fixed { endpoint, .. } | Finder::Node { endpoint, .. }) => endpoint.to_string(),
            (None, Finder::Sentinel(_)) => "the master that Sentinel names".to_owned(),
        }
    }

    /// The connection, or the outcome of the next attempt to make one.
    pub(super) async fn next_connection(self: &Arc<Self>) -> RedisResult<Arc<Live>> {
        let mut state = self.state.subscribe();
        let begin = || {
            self.begin(&Handle::current(), &(ErrorKind::Io, "there is no connection yet").into());
        };
        begin();
        let seen = match &*state.borrow_and_update() {
            State::Connected(live) => return Ok(Arc::clone(live)),
            State::Disconnected { failed, .. } => *failed,
        };
        loop {
            state.changed().await.expect("the sender lives in `self`");
            match &*state.borrow_and_update() {
                State::Connected(live) => return Ok(Arc::clone(live)),
                // If `failed` is lower, there was another connection in between, and it was lost again.
                State::Disconnected { failed, reason: Some(reason) } if *failed > seen => {
                    return Err(reason.clone());
                }
                State::Disconnected { reason: Some(_), .. } => continue,
                // The task that was connecting ended with its runtime.
                State::Disconnected { reason: None, .. } => {}
            }
            begin();
        }
    }

    /// Returns when another connection than this one is in use.
    pub(super) async fn replaced(&self, number: u64) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`.
        let _ =
            state.wait_for(|state| matches!(state, State::Connected(live) if live.number != number)).await;
    }

    /// The server answered with an error.
    pub(super) fn refused(self: &Arc<Self>, live: &Live, error: RedisError) -> Failure {
        self.stall.answered();
        if let ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) = error.kind() {
            self.lost(live.number, &error);
        }
        Failure::not_applied(error)
    }

    /// A command on this connection ended without an answer, `after` it was sent, when there were `answers` answers.
    /// Says whether the connection has stalled.
    pub(super) fn is_stalled(&self, answers: u64, after: Duration) -> bool {
        let now = self.created.elapsed();
        self.stall.is_stalled(answers, now.saturating_sub(after), now, self.stall_timeout)
    }

    /// The connection of this number is of no use any more. The first caller to say so starts to make another.
    pub(super) fn lost(self: &Arc<Self>, number: u64, why: &RedisError) {
        let is_first = self.state.send_if_modified(|state| {
            let is_current = matches!(state, State::Connected(live) if live.number == number);
            if is_current {
                tracing::info!(name: "idem_redis.link.lost", error = %why, "a connection is replaced");
                *state = State::Disconnected { failed: 0, reason: None };
            }
            is_current
        });
        // A caller may drop its future outside of a runtime. Then the next caller starts to connect.
        if is_first && let Ok(runtime) = Handle::try_current() {
            self.begin(&runtime, why);
        }
    }

    /// A Sentinel says that this is the master.
    fn master_is(self: &Arc<Self>, endpoint: &Endpoint, epoch: Option<u64>) {
        let Finder::Sentinel(sentinels) = &self.finder else { return };
        if !sentinels.is_news(epoch) {
            return;
        }
        if let Some(live) = self.live().filter(|live| live.endpoint != *endpoint) {
            let why = (ErrorKind::Io, "Sentinel names another master", endpoint.to_string());
            self.lost(live.number, &why.into());
        }
    }

    /// Starts to connect, unless a task is at it.
    fn begin(self: &Arc<Self>, runtime: &Handle, because: &RedisError) {
        let is_first = self.state.send_if_modified(|state| match state {
            State::Disconnected { reason: reason @ None, .. } => {
                *reason = Some(because.clone());
                true
            }
            _ => false,
        });
        if is_first {
            runtime.spawn(reconnect(Reconnecting(Arc::downgrade(self))));
        }
    }

    fn install(self: &Arc<Self>, endpoint: Endpoint, (connection, driver): Dialled) {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let supervisor = Arc::downgrade(self);
        let driver = tokio::spawn(async move {
            driver.await;
            if let Some(supervisor) = supervisor.upgrade() {
                let why = RedisError::from((ErrorKind::Io, "the server closed the connection"));
                supervisor.lost(number, &why);
            }
        });
        let live = Live { connection, endpoint, number, driver: driver.abort_handle() };
        self.stall.answered();
        self.state.send_replace(State::Connected(Arc::new(live)));
    }

    /// Passes a failed attempt on to the callers that wait. Returns its number in this outage.
    fn failed(&self, error: &RedisError) -> u64 {
        let mut attempts = 1;
        self.state.send_modify(|state| {
            if let State::Disconnected { failed, .. } = state {
                attempts = *failed + 1;
            }
            *state = State::Disconnected { failed: attempts, reason: Some(error.clone()) };
        });
        attempts
    }
}

/// Notes that no task connects when the one that did ends with its runtime, even before it first ran. Then the next caller,
/// on another runtime, starts again.
struct Reconnecting(Weak<Supervisor>);

impl Drop for Reconnecting {
    fn drop(&mut self) {
        let Some(supervisor) = self.0.upgrade() else { return };
        supervisor.state.send_if_modified(|state| match state {
            State::Disconnected { reason, .. } => reason.take().is_some(),
            State::Connected(_) => false,
        });
    }
}

/// Tries to connect until it succeeds or the link is dropped.
async fn reconnect(mut link: Reconnecting) {
    let mut backoff = BACKOFF;
    loop {
        sleep(backoff.next_pause()).await;
        let Some(supervisor) = link.0.upgrade() else { return };
        match supervisor.finder.dial(&supervisor.dialer).await {
            Ok((endpoint, dialled)) => {
                tracing::info!(name: "idem_redis.link.connected", place = %endpoint, "a connection was made");
                // Disarmed before the connection is installed: it may be lost at once, and then another task connects.
                link.0 = Weak::new();
                supervisor.install(endpoint, dialled);
                return;
            }
            Err(error) => {
                // Logged once for each outage: an outage may last, with many attempts.
                if supervisor.failed(&error) == 1 {
                    tracing::warn!(name: "idem_redis.link.unreachable", error = %error, "the server cannot be reached");
                }
            }
        }
    }
}
