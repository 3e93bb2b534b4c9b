//! [`Barrier`]: the connection to one master that waits for its replicas, and the rounds on it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::address::Endpoint;
use crate::error::Failure;
use crate::link::cluster::{Cluster, slot};
use crate::link::single::Single;
use crate::options::{RedisOptions, Replicas};

/// What the barrier writes. A script, because a script may write to a full server.
const WRITE: &str = "#!lua flags=allow-oom\nredis.call('SET', KEYS[1], '', 'PX', ARGV[1])\nreturn 0";

/// The shortest timeout that `WAIT` can have: zero would mean no limit.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// The barrier of one master.
pub(super) struct Barrier {
    link: Single,
    replicas: Replicas,
    /// The longest time that a round can take: then its connection is replaced.
    longest: Duration,
    prefix: String,
    waiters: Mutex<Waiters>,
}

/// The callers that wait for the next round.
#[derive(Default)]
struct Waiters {
    waiting: Vec<Waiter>,
    /// The task that runs the rounds, if there is one.
    task: Option<Task>,
    /// How many such tasks there were.
    tasks: u64,
    key: Option<Vec<u8>>,
    /// The numbers of the connection for commands and of the barrier's that were last seen to lead to one server.
    met: Option<(u64, u64)>,
}

/// Gets the number of the connection of the round, or its error.
type Waiter = oneshot::Sender<Result<u64, RedisError>>;

/// A task that runs rounds, and when its current round began.
#[derive(Clone, Copy)]
struct Task {
    number: u64,
    began: Instant,
}

/// The operation, or the round, was not on the connection that it should have been on.
pub(super) fn elsewhere() -> Failure {
    Failure::unknown((
        ErrorKind::Io,
        "the connection to the master was replaced before replicas acknowledged the operation",
    ))
}

impl Barrier {
    pub(super) fn new(link: Single, replicas: Replicas, options: &RedisOptions) -> Self {
        Self {
            link,
            replicas,
            longest: options.command_timeout,
            prefix: options.key_prefix.clone(),
            waiters: Mutex::default(),
        }
    }

    pub(super) fn link(&self) -> &Single {
        &self.link
    }

    pub(super) fn replicas(&self) -> Replicas {
        self.replicas
    }

    /// Makes sure that the barrier leads to the same server as this link (INV-2), once for each pair of connections.
    pub(super) async fn meet(&self, node: &Single, connections: (u64, u64)) -> Result<(), Failure> {
        if self.waiters().met == Some(connections) {
            return Ok(());
        }
        let key = key_on(&self.prefix, None);
        self.link.command(redis::cmd("EVAL").arg(WRITE).arg(1).arg(&key).arg(10_000)).await?;
        let found = node.command(redis::cmd("GET").arg(&key)).await?;
        let number = |link: &Single| link.current().map_or(0, |(_, number)| number);
        if (number(node), number(&self.link)) != connections {
            return Err(elsewhere());
        }
        if found == Value::Nil {
            let why: RedisError = (ErrorKind::Io, "one address leads to different servers").into();
            node.replace(connections.0, &why);
            self.link.replace(connections.1, &why);
            return Err(Failure::not_applied(why));
        }
        self.waiters().met = Some(connections);
        Ok(())
    }

    /// Waits for the next round, together with every other caller. Returns the number of the connection that it was on.
    pub(super) async fn next_round(
        self: &Arc<Self>,
        cluster: Option<(Arc<Cluster>, Endpoint)>,
    ) -> Result<u64, RedisError> {
        let (waiter, done) = oneshot::channel();
        if let Some(number) = self.enter(waiter) {
            // A task, because the other callers depend on the round if this one leaves.
            tokio::spawn(run_rounds(Rounds { barrier: Arc::clone(self), number }, cluster));
        }
        done.await.unwrap_or_else(|_| {
            Err((ErrorKind::Io, "the task that waits for replicas ended with its runtime").into())
        })
    }

    /// Adds a waiter. Returns the number of the task to start, if there is none that works.
    fn enter(&self, waiter: Waiter) -> Option<u64> {
        let mut waiters = self.waiters();
        waiters.waiting.push(waiter);
        if waiters.task.is_some_and(|task| task.began.elapsed() <= self.longest) {
            return None;
        }
        waiters.tasks += 1;
        let number = waiters.tasks;
        waiters.task = Some(Task { number, began: Instant::now() });
        Some(number)
    }

    async fn round(&self, key: &[u8]) -> Result<u64, RedisError> {
        let Replicas { count, timeout } = self.replicas;
        let timeout = timeout.max(SHORTEST).as_millis().min(i32::MAX as u128);
        let number = |link: &Single| link.current().map(|(_, number)| number);
        let before = number(&self.link);
        let mut round = redis::pipe();
        round.cmd("EVAL").arg(WRITE).arg(1).arg(key).arg(1000);
        round.cmd("WAIT").arg(count).arg(timeout.to_string());
        let mut answers = self.link.pipeline(&round).await.map_err(|failure| failure.error)?.into_iter();
        let (written, replicas) = (answers.next(), answers.next());
        written.unwrap_or(Ok(Value::Nil))?;
        let replicas = redis::from_redis_value::<usize>(replicas.unwrap_or(Ok(Value::Nil))?)?;
        if replicas < count {
            let too_few = format!("{replicas} of {count} replicas have acknowledged the operation");
            return Err(io::Error::new(io::ErrorKind::TimedOut, too_few).into());
        }
        // Numbers do not come back: if it is the same before and after, the round was on that connection.
        match (before, number(&self.link)) {
            (Some(before), Some(after)) if before == after => Ok(after),
            _ => Err(elsewhere().error),
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs rounds until no caller waits.
async fn run_rounds(rounds: Rounds, cluster: Option<(Arc<Cluster>, Endpoint)>) {
    let barrier = &rounds.barrier;
    while let Some((waiting, key)) = rounds.next(cluster.as_ref()) {
        let outcome = barrier.round(&key).await;
        if let Err(error) = &outcome
            && let ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) = error.kind()
        {
            barrier.waiters().key = None;
        }
        for waiter in waiting {
            // A caller that has left gets nothing.
            let _ = waiter.send(outcome.clone());
        }
    }
}

/// The rounds of one task. If the task ends with its runtime, even before it first ran, the callers that wait get an error,
/// and the next one starts another task.
struct Rounds {
    barrier: Arc<Barrier>,
    number: u64,
}

impl Rounds {
    /// Whether no other task has replaced this one.
    fn is_current(&self, waiters: &Waiters) -> bool {
        waiters.task.is_some_and(|task| task.number == self.number)
    }

    /// The callers of the next round, and the key for it. `None`: no caller waits, or another task serves them.
    fn next(&self, cluster: Option<&(Arc<Cluster>, Endpoint)>) -> Option<(Vec<Waiter>, Vec<u8>)> {
        let mut waiters = self.barrier.waiters();
        if !self.is_current(&waiters) {
            return None;
        }
        let mut waiting = std::mem::take(&mut waiters.waiting);
        waiting.retain(|waiter| !waiter.is_closed());
        if waiting.is_empty() {
            waiters.task = None;
            return None;
        }
        waiters.task = Some(Task { number: self.number, began: Instant::now() });
        let key = waiters.key.get_or_insert_with(|| key_on(&self.barrier.prefix, cluster)).clone();
        Some((waiting, key))
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        let mut waiters = self.barrier.waiters();
        if self.is_current(&waiters) {
            waiters.task = None;
            waiters.waiting.clear();
        }
    }
}

/// A key that is on the barrier's server.
fn key_on(prefix: &str, cluster: Option<&(Arc<Cluster>, Endpoint)>) -> Vec<u8> {
    let random = getrandom::u32().unwrap_or_default();
    let mut keys =
        (0..u32::MAX).map(|n| format!("{prefix}barrier:{:x}", random.wrapping_add(n)).into_bytes());
    let Some((cluster, endpoint)) = cluster else { return keys.next().unwrap_or_default() };
    // A Cluster has 16,384 slots, so a master that serves one is found long before the limit. One that serves none answers
    // with a redirection.
    let is_there = |key: &Vec<u8>| cluster.node(slot(key)).is_some_and(|(owner, _)| owner == *endpoint);
    keys.take(1_000_000).find(is_there).unwrap_or_default()
}
