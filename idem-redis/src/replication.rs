//! [`Replication`]: an operation is acknowledged after replicas have it. By Redis's `WAIT`, which blocks everything that is
//! sent behind it on its connection; so it has one of its own for each master, the *barrier*.
//!
//! `WAIT` counts the replicas that have everything up to the last *write of its own connection*. So the barrier writes
//! something itself first, a key that expires after a second: whatever was acknowledged on any connection before that
//! write is before it in the replication stream. (Redis 7.0 counts from any command of the connection; Valkey 9 from
//! writes only, and a `PING` in front of `WAIT` lets it say that all is well.) One crossing of the barrier is good for
//! everybody who waits when it begins, so that many callers share one.
//!
//! - INV-1: a crossing counts only on a barrier connection that was there *before* the operation was sent, to the server
//!   that the operation was sent to. Otherwise a server that was restarted, or another that was promoted, would be asked
//!   about an operation that it has lost, and would know of nothing missing.
//! - INV-2: one address may lead to several servers, one after the other (a name after a failover) or at once. Before a
//!   barrier counts for a connection, what was written through the one was read through the other.
//! - INV-3: the barrier's write needs no memory that is not there (`allow-oom`), or a full server could not acknowledge
//!   completions.
//! - INV-4: nobody waits for longer than replicas may take, whatever becomes of the task that crosses: it may be on a
//!   runtime that nobody drives any more. One that takes longer than a crossing can is replaced by the next caller's.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::address::{Login, Place};
use crate::link::{Cluster, Dialer, Failure, Finder, Single, slot};
use crate::options::{Options, Replicas};

/// What the barrier writes. A script, so that it may be written to a server that is full.
const WRITE: &str = "#!lua flags=allow-oom\nredis.call('SET', KEYS[1], '', 'PX', ARGV[1])\nreturn 0";

/// What `WAIT` can be told at the least, since zero would be "for ever".
const SHORTEST: Duration = Duration::from_millis(1);

/// The barriers of all masters.
pub(crate) struct Replication {
    replicas: Replicas,
    dialer: Dialer,
    login: Login,
    /// Those of the barriers' links.
    options: Options,
    /// How long it may take to see that there is a barrier.
    command_timeout: Duration,
    barriers: Mutex<HashMap<Place, Arc<Barrier>>>,
}

/// The barrier of one master.
struct Barrier {
    link: Single,
    replicas: Replicas,
    /// How long a crossing can take: then its connection is given up.
    longest: Duration,
    prefix: String,
    crowd: Mutex<Crowd>,
}

/// Who waits for the next crossing.
#[derive(Default)]
struct Crowd {
    waiting: Vec<Waiter>,
    /// The task that crosses, if there is one.
    crossing: Option<Turn>,
    /// How many such tasks there have been.
    crossings: u64,
    key: Option<Vec<u8>>,
    /// The numbers of the connection for commands and of the barrier's that were last seen to lead to one server.
    met: Option<(u64, u64)>,
}

/// Is told on which connection the crossing was.
type Waiter = oneshot::Sender<Result<u64, RedisError>>;

/// Which task crosses, and since when it is at the crossing that it is at.
#[derive(Clone, Copy)]
struct Turn {
    task: u64,
    began: Instant,
}

/// What will tell whether replicas have an operation that is about to be sent.
pub(crate) struct Pledge {
    node: Single,
    cluster: Option<(Cluster, u16)>,
    place: Place,
    connection: u64,
    detours: u64,
    barrier: Arc<Barrier>,
    barrier_connection: u64,
}

impl Replication {
    pub(crate) fn new(replicas: Replicas, dialer: Dialer, login: Login, options: &Options) -> Self {
        let command_timeout = options.command_timeout;
        let patience = replicas.timeout + command_timeout;
        let mut options = options.clone();
        options.command_timeout = patience;
        options.silent_after = patience;
        Self {
            replicas,
            dialer: dialer.with_command_timeout(patience),
            login,
            options,
            command_timeout,
            barriers: Mutex::new(HashMap::new()),
        }
    }

    /// Sees that there is a barrier to the server that this link leads to. Takes no longer than a command.
    pub(crate) async fn pledge(
        &self,
        node: Single,
        cluster: Option<(Cluster, u16)>,
    ) -> Result<Pledge, Failure> {
        let words = "the connection that waits for replicas was not ready in time";
        timeout(self.command_timeout, self.prepare(node, cluster))
            .await
            .unwrap_or_else(|_| Err(Failure::not_applied((ErrorKind::Io, words).into())))
    }

    async fn prepare(&self, node: Single, cluster: Option<(Cluster, u16)>) -> Result<Pledge, Failure> {
        let (place, connection) = current(&node).await?;
        let detours = cluster.as_ref().map_or(0, |(cluster, slot)| cluster.detours(*slot));
        let barrier = self.barrier(&place);
        let (_, barrier_connection) = current(&barrier.link).await?;
        // The nodes of a Cluster have addresses of their own.
        if cluster.is_none() {
            let met = barrier.meet(&node, (connection, barrier_connection)).await;
            met.map_err(|failure| Failure::not_applied(failure.error))?;
        }
        Ok(Pledge { node, cluster, place, connection, detours, barrier, barrier_connection })
    }

    fn barrier(&self, place: &Place) -> Arc<Barrier> {
        let mut barriers = self.barriers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(barrier) = barriers.get(place) {
            return Arc::clone(barrier);
        }
        // Masters come and go. The barrier of one that is gone would try to connect for ever.
        barriers.retain(|_, barrier| Arc::strong_count(barrier) > 1 || barrier.link.current().is_some());
        let finder = Finder::Node { place: place.clone(), login: self.login.clone() };
        let barrier = Arc::new(Barrier {
            link: Single::lazy(finder, self.dialer.clone(), &self.options),
            replicas: self.replicas,
            longest: self.options.command_timeout,
            prefix: self.options.key_prefix.clone(),
            crowd: Mutex::new(Crowd::default()),
        });
        barriers.insert(place.clone(), Arc::clone(&barrier));
        barrier
    }
}

async fn current(link: &Single) -> Result<(Place, u64), Failure> {
    if let Some(current) = link.current() {
        return Ok(current);
    }
    link.connected().await?;
    // It may have been lost again in this instant. Nothing was sent.
    link.current()
        .ok_or_else(|| Failure::not_applied((ErrorKind::Io, "the connection was lost at once").into()))
}

impl Pledge {
    /// Waits until enough replicas have the operation that was acknowledged meanwhile, for as long as they may take (INV-4).
    /// It has happened on the master, so that every failure here is of unknown effect.
    pub(crate) async fn kept(self) -> Result<(), Failure> {
        let went_there = self.node.current().is_some_and(|(_, number)| number == self.connection)
            && self.cluster.as_ref().is_none_or(|(cluster, slot)| {
                cluster.detours(*slot) == self.detours
                    && cluster.node(*slot).is_some_and(|(place, _)| place == self.place)
            });
        if !went_there {
            return Err(elsewhere());
        }
        let Replicas { count, timeout: patience } = self.barrier.replicas;
        let crossed = self.barrier.cross(self.cluster.map(|(cluster, _)| (cluster, self.place)));
        match timeout(patience.max(SHORTEST), crossed).await {
            Ok(Ok(connection)) if connection == self.barrier_connection => Ok(()),
            Ok(Ok(_)) => Err(elsewhere()), // INV-1
            Ok(Err(error)) => Err(Failure::unknown(error)),
            Err(_) => {
                let words = format!("of {count} replicas not all have acknowledged the operation in time");
                Err(Failure::unknown(io::Error::new(io::ErrorKind::TimedOut, words).into()))
            }
        }
    }
}

fn elsewhere() -> Failure {
    let words = "the connection to the master was replaced before replicas acknowledged the operation";
    Failure::unknown((ErrorKind::Io, words).into())
}

impl Barrier {
    /// Crosses it together with everybody else who waits. The number of the connection on which that was.
    async fn cross(self: &Arc<Self>, cluster: Option<(Cluster, Place)>) -> Result<u64, RedisError> {
        let (done, crossed) = oneshot::channel();
        let begins = {
            let mut crowd = self.crowd();
            crowd.waiting.push(done);
            match crowd.crossing {
                Some(turn) if turn.began.elapsed() <= self.longest => None,
                _ => {
                    crowd.crossings += 1;
                    let turn = Turn { task: crowd.crossings, began: Instant::now() };
                    crowd.crossing = Some(turn);
                    Some(turn.task)
                }
            }
        };
        if let Some(task) = begins {
            // In a task, since the others depend on it if this caller leaves.
            let crossing = Crossing { barrier: Arc::clone(self), task };
            tokio::spawn(cross_until_nobody_waits(crossing, cluster));
        }
        crossed.await.unwrap_or_else(|_| Err((ErrorKind::Io, "the barrier's task is gone").into()))
    }

    /// Sees that the barrier leads to the same server as this link (INV-2), once for each pair of connections.
    async fn meet(&self, node: &Single, connections: (u64, u64)) -> Result<(), Failure> {
        if self.crowd().met == Some(connections) {
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
            node.leave(connections.0, &why);
            self.link.leave(connections.1, &why);
            return Err(Failure::not_applied(why));
        }
        self.crowd().met = Some(connections);
        Ok(())
    }

    async fn cross_once(&self, key: &[u8]) -> Result<u64, RedisError> {
        let Replicas { count, timeout: patience } = self.replicas;
        let patience = patience.max(SHORTEST).as_millis().min(i32::MAX as u128);
        let number = |link: &Single| link.current().map(|(_, number)| number);
        let before = number(&self.link);
        let mut crossing = redis::pipe();
        crossing.cmd("EVAL").arg(WRITE).arg(1).arg(key).arg(1000);
        crossing.cmd("WAIT").arg(count).arg(patience.to_string());
        let mut answers = self.link.pipeline(&crossing).await.map_err(|failure| failure.error)?.into_iter();
        let (written, replicas) = (answers.next(), answers.next());
        written.unwrap_or(Ok(Value::Nil))?;
        let replicas = redis::from_redis_value::<usize>(replicas.unwrap_or(Ok(Value::Nil))?)?;
        if replicas < count {
            let words = format!("{replicas} of {count} replicas have acknowledged the operation");
            return Err(io::Error::new(io::ErrorKind::TimedOut, words).into());
        }
        // Numbers do not come back, so that all of this was on that connection.
        match (before, number(&self.link)) {
            (Some(before), Some(after)) if before == after => Ok(after),
            _ => Err(elsewhere().error),
        }
    }

    fn crowd(&self) -> std::sync::MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn cross_until_nobody_waits(crossing: Crossing, cluster: Option<(Cluster, Place)>) {
    let barrier = &crossing.barrier;
    while let Some((waiting, key)) = crossing.next(cluster.as_ref()) {
        let crossed = barrier.cross_once(&key).await;
        if let Err(error) = &crossed
            && let ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) = error.kind()
        {
            barrier.crowd().key = None;
        }
        for waiter in waiting {
            // Whoever has left does not want to know.
            let _ = waiter.send(crossed.clone());
        }
    }
}

/// If the task goes down with its runtime, also before it ran for the first time, those who wait are told, and the next one
/// begins a new task.
struct Crossing {
    barrier: Arc<Barrier>,
    task: u64,
}

impl Crossing {
    /// Whether this task is still the one that crosses.
    fn is_ours(&self, crowd: &Crowd) -> bool {
        crowd.crossing.is_some_and(|turn| turn.task == self.task)
    }

    /// Who is to be told of the next crossing, and the key for it. `None`: nobody waits, or not for this task.
    fn next(&self, cluster: Option<&(Cluster, Place)>) -> Option<(Vec<Waiter>, Vec<u8>)> {
        let mut crowd = self.barrier.crowd();
        if !self.is_ours(&crowd) {
            return None;
        }
        let mut waiting = std::mem::take(&mut crowd.waiting);
        waiting.retain(|waiter| !waiter.is_closed());
        if waiting.is_empty() {
            crowd.crossing = None;
            return None;
        }
        crowd.crossing = Some(Turn { task: self.task, began: Instant::now() });
        let key = crowd.key.get_or_insert_with(|| key_on(&self.barrier.prefix, cluster)).clone();
        Some((waiting, key))
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        let mut crowd = self.barrier.crowd();
        if self.is_ours(&crowd) {
            crowd.crossing = None;
            crowd.waiting.clear();
        }
    }
}

/// A key that is on the barrier's server.
fn key_on(prefix: &str, cluster: Option<&(Cluster, Place)>) -> Vec<u8> {
    let random = getrandom::u32().unwrap_or_default();
    let mut keys =
        (0..u32::MAX).map(|n| format!("{prefix}barrier:{:x}", random.wrapping_add(n)).into_bytes());
    let Some((cluster, place)) = cluster else { return keys.next().unwrap_or_default() };
    // A Cluster has 16,384 slots; a master that serves one is found long before this. One that serves none answers with a
    // redirection.
    let is_there = |key: &Vec<u8>| cluster.node(slot(key)).is_some_and(|(owner, _)| owner == *place);
    keys.take(1_000_000).find(is_there).unwrap_or_default()
}
