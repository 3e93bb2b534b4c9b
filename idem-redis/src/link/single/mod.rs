//! [`Single`]: the link to one server.
//!
//! One multiplexed connection carries all callers. It is replaced when it is
//!
//! - *closed*: the task that moves its bytes ends, which is noticed at once, also without a call;
//! - *stalled*: commands time out, and for `stall_timeout` nothing was answered to any caller;
//! - *not the master*: the server answered `READONLY` or `MASTERDOWN`, or Sentinel announced another.
//!
//! New callers then wait for the next attempt to connect, and get its error if it fails. Callers whose commands were sent
//! keep the old connection until their time is over. Late answers are discarded, and the old connection is closed when the
//! last of its callers has left.
//!
//! - INV-1: no lock is held across an await, and a command that finds a permit and a connection passes through no other
//!   task of this crate.
//! - INV-2: a command that fails as `NotApplied` here was answered with an error, or was never handed to a connection.
//! - INV-3: at most `max_in_flight` commands hold a permit, from before the command is handed over until its caller is
//!   answered or leaves. A command whose caller left is not counted; it stays on the connection until it is answered or
//!   the connection is closed. A stalled connection so holds at most as many as arrive in `stall_timeout`, about 500 bytes
//!   each (measured): 50 MB if 50,000 callers a second leave early for two seconds. The client library's queue holds the
//!   bytes of `max_in_flight` of them at most. Two alternatives are worse. If these commands kept their permits, new
//!   callers would wait for answers that no task reads. If the connection were replaced at a certain number of them, callers
//!   that leave early would cause a reconnect at every hiccup of the server.

mod finder;
mod stall;
mod supervisor;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::finder::Finder;
use self::supervisor::{Live, Supervisor};
use crate::address::Endpoint;
use crate::error::{Failure, is_own_timeout};
use crate::link::dial::Dialer;
use crate::options::RedisOptions;

/// The link to one server. Clones share it.
#[derive(Clone)]
pub(crate) struct Single {
    supervisor: Arc<Supervisor>,
}

impl Single {
    /// Connects. A server that cannot be reached, refuses the login or is a replica is an error, at once.
    pub(crate) async fn connect(finder: Finder, dialer: Dialer, options: &RedisOptions) -> RedisResult<Self> {
        let link = Self::lazy(finder, dialer, options);
        link.supervisor.connect().await?;
        Ok(link)
    }

    /// Connects when it is first used.
    pub(crate) fn lazy(finder: Finder, dialer: Dialer, options: &RedisOptions) -> Self {
        Self { supervisor: Supervisor::new(finder, dialer, options) }
    }

    /// One command, one round trip.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        let ready = self.ready().await?;
        let mut connection = ready.connection();
        let waiting = Waiting { supervisor: &self.supervisor, ready: &ready };
        let answer = connection.send_packed_command(command).await;
        waiting.ends();
        match answer {
            Ok(Value::ServerError(error)) => Err(self.supervisor.refused(&ready.live, error.into())),
            Ok(value) => {
                self.supervisor.stall.answered();
                Ok(value)
            }
            Err(error) => Err(self.broken(&ready, error)),
        }
    }

    /// Several commands in one round trip, each with its own answer.
    pub(crate) async fn pipeline(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<Value, RedisError>>, Failure> {
        let ready = self.ready().await?;
        let mut connection = ready.connection();
        let supervisor = &self.supervisor;
        match connection.send_packed_commands(pipeline, 0, pipeline.len()).await {
            Ok(values) => {
                supervisor.stall.answered();
                let answer = |value| match value {
                    Value::ServerError(error) => Err(supervisor.refused(&ready.live, error.into()).error),
                    value => Ok(value),
                };
                Ok(values.into_iter().map(answer).collect())
            }
            Err(error) => Err(self.broken(&ready, error)),
        }
    }

    /// The connection in use, if there is one: the server that it leads to, and its number, which no later one has.
    pub(crate) fn current(&self) -> Option<(Endpoint, u64)> {
        self.supervisor.live().map(|live| (live.endpoint.clone(), live.number))
    }

    /// Waits for a connection, for as long as a command may take.
    pub(crate) async fn connected(&self) -> Result<(), Failure> {
        self.ready().await.map(|_| ())
    }

    /// Returns when another connection than this one is in use.
    pub(crate) async fn replaced(&self, number: u64) {
        self.supervisor.replaced(number).await;
    }

    /// Makes another connection, if this one is still in use. Commands that were sent on it stay there.
    pub(crate) fn replace(&self, number: u64, why: &RedisError) {
        self.supervisor.lost(number, why);
    }

    /// Where the connection leads, or where one would.
    pub(crate) fn name(&self) -> String {
        self.supervisor.name()
    }

    async fn ready(&self) -> Result<Ready<'_>, Failure> {
        let supervisor = &self.supervisor;
        if let (Ok(permit), Some(live)) = (supervisor.permits.try_acquire(), supervisor.live()) {
            return Ok(Ready { live, _permit: permit, left: None, answers: supervisor.stall.answers() });
        }
        // Boxed, so that the rare case does not make the future of the common one larger.
        Box::pin(self.ready_in_time()).await
    }

    async fn ready_in_time(&self) -> Result<Ready<'_>, Failure> {
        let supervisor = &self.supervisor;
        let deadline = Instant::now() + supervisor.command_timeout;
        let Ok(permit) = timeout_at(deadline, supervisor.permits.acquire()).await else {
            return Err(Failure::too_many_in_flight(supervisor.max_in_flight));
        };
        let permit = permit.expect("nobody closes the semaphore");
        // A permit may become free at the very instant at which this command's time is over.
        if Instant::now() >= deadline {
            return Err(Failure::too_many_in_flight(supervisor.max_in_flight));
        }
        let timed_out = || RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let next = timeout_at(deadline, supervisor.next_connection()).await;
        let live = next.unwrap_or_else(|_| Err(timed_out())).map_err(Failure::not_connected)?;
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Failure::not_connected(timed_out())),
            left => {
                Ok(Ready { live, _permit: permit, left: Some(left), answers: supervisor.stall.answers() })
            }
        }
    }

    /// There was no answer.
    fn broken(&self, ready: &Ready<'_>, error: RedisError) -> Failure {
        let supervisor = &self.supervisor;
        let took = ready.left.unwrap_or(self.supervisor.command_timeout);
        if !is_own_timeout(&error) || supervisor.is_stalled(ready.answers, took) {
            supervisor.lost(ready.live.number, &error);
        }
        Failure::unknown(error)
    }
}

/// A permit (INV-3) and a connection.
struct Ready<'l> {
    live: Arc<Live>,
    _permit: SemaphorePermit<'l>,
    /// What is left of the command's time, if some of it was spent waiting.
    left: Option<Duration>,
    /// How many answers there were when the command was sent.
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

/// A caller that waits for its answer. If callers leave before their time is over, the connection may have stalled all
/// the same; if all callers do, nothing else would notice it.
struct Waiting<'l> {
    supervisor: &'l Arc<Supervisor>,
    ready: &'l Ready<'l>,
}

impl Waiting<'_> {
    fn ends(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self { supervisor, ready } = self;
        // "Sent now" is enough: the true instant would cost every command a read of the clock.
        if supervisor.is_stalled(ready.answers, Duration::ZERO) {
            supervisor.lost(ready.live.number, &(ErrorKind::Io, "the server does not answer").into());
        }
    }
}
