//! [`Replication`]: an operation is acknowledged after replicas have it.
//!
//! This uses Redis's `WAIT`, which blocks everything that is sent behind it on its connection. So each master has a
//! connection for it alone, the *barrier*.
//!
//! `WAIT` counts the replicas that have everything up to the last *write of its own connection*. So the barrier first writes
//! a key that expires after a second: what was acknowledged on any connection before that write comes before it in the
//! replication stream. (Redis 7.0 counts from any command of the connection. Valkey 9 counts from writes only: behind a
//! `PING`, `WAIT` would report success.) One *round*, a write and a `WAIT`, serves every caller that waits when it begins.
//!
//! - INV-1: a round counts only if the barrier's connection existed *before* the operation was sent, and leads to the server
//!   that the operation was sent to. A server that was restarted, or another one that was promoted, may have lost the
//!   operation and would report nothing missing.
//! - INV-2: one address may lead to several servers, one after the other (a name after a failover) or at once. Before a
//!   barrier counts for a connection, what was written through the one was read through the other.
//! - INV-3: the barrier's write needs no free memory (`allow-oom`). A full server could not acknowledge completions
//!   otherwise.
//! - INV-4: no caller waits for longer than the timeout for replicas, whatever happens to the task that runs the round: its
//!   runtime may have stopped. If a round takes longer than it can, the next caller replaces its task.

mod barrier;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::ErrorKind;
use tokio::time::timeout;

use self::barrier::{Barrier, SHORTEST, elsewhere};
use super::cluster::Cluster;
use super::dial::Dialer;
use super::single::{Finder, Single};
use crate::address::{Endpoint, Login};
use crate::error::Failure;
use crate::options::{RedisOptions, Replicas};

/// The barriers of all masters.
pub(super) struct Replication {
    replicas: Replicas,
    dialer: Dialer,
    login: Login,
    /// Those of the barriers' links.
    options: RedisOptions,
    /// How long it may take until the barrier is ready.
    command_timeout: Duration,
    barriers: Mutex<HashMap<Endpoint, Arc<Barrier>>>,
}

/// Prepared before an operation is sent; waits for the replicas after it was acknowledged.
pub(crate) struct ReplicationWait {
    node: Single,
    slot: Option<(Arc<Cluster>, u16)>,
    endpoint: Endpoint,
    connection: u64,
    redirections: u64,
    barrier: Arc<Barrier>,
    barrier_connection: u64,
}

impl Replication {
    pub(super) fn new(replicas: Replicas, dialer: Dialer, login: Login, options: &RedisOptions) -> Self {
        let command_timeout = options.command_timeout;
        let round_timeout = replicas.timeout + command_timeout;
        Self {
            replicas,
            dialer: dialer.with_command_timeout(round_timeout),
            login,
            options: options.clone().command_timeout(round_timeout).stall_timeout(round_timeout),
            command_timeout,
            barriers: Mutex::new(HashMap::new()),
        }
    }

    /// Makes sure that there is a barrier to the server that this link leads to, before an operation is sent. Takes no
    /// longer than a command. `slot` is the operation's, in a Cluster.
    pub(super) async fn prepare(
        &self,
        node: Single,
        slot: Option<(Arc<Cluster>, u16)>,
    ) -> Result<ReplicationWait, Failure> {
        let late = "the connection that waits for replicas was not ready in time";
        timeout(self.command_timeout, self.begin(node, slot))
            .await
            .unwrap_or_else(|_| Err(Failure::not_applied((ErrorKind::Io, late))))
    }

    async fn begin(
        &self,
        node: Single,
        slot: Option<(Arc<Cluster>, u16)>,
    ) -> Result<ReplicationWait, Failure> {
        let (endpoint, connection) = current(&node).await?;
        let redirections = slot.as_ref().map_or(0, |(cluster, slot)| cluster.redirections(*slot));
        let barrier = self.barrier(&endpoint);
        let (_, barrier_connection) = current(barrier.link()).await?;
        // The nodes of a Cluster have addresses of their own.
        if slot.is_none() {
            barrier
                .meet(&node, (connection, barrier_connection))
                .await
                .map_err(|failure| Failure::not_applied(failure.error))?;
        }
        Ok(ReplicationWait { node, slot, endpoint, connection, redirections, barrier, barrier_connection })
    }

    fn barrier(&self, endpoint: &Endpoint) -> Arc<Barrier> {
        let mut barriers = self.barriers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(barrier) = barriers.get(endpoint) {
            return Arc::clone(barrier);
        }
        // Masters come and go. The barrier of one that is gone would try to connect permanently.
        barriers.retain(|_, barrier| Arc::strong_count(barrier) > 1 || barrier.link().current().is_some());
        let finder = Finder::Node { endpoint: endpoint.clone(), login: self.login.clone() };
        let link = Single::lazy(finder, self.dialer.clone(), &self.options);
        let barrier = Arc::new(Barrier::new(link, self.replicas, &self.options));
        barriers.insert(endpoint.clone(), Arc::clone(&barrier));
        barrier
    }
}

impl ReplicationWait {
    /// Waits until enough replicas have the operation, for as long as the timeout for replicas (INV-4). The operation has
    /// happened on the master, so every failure here has an unknown effect.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        if !self.is_same_server() {
            return Err(elsewhere());
        }
        let Replicas { count, timeout: longest } = self.barrier.replicas();
        let round = self.barrier.next_round(self.slot.map(|(cluster, _)| (cluster, self.endpoint)));
        match timeout(longest.max(SHORTEST), round).await {
            Ok(Ok(connection)) if connection == self.barrier_connection => Ok(()),
            Ok(Ok(_)) => Err(elsewhere()), // INV-1
            Ok(Err(error)) => Err(Failure::unknown(error)),
            Err(_) => {
                let late = format!("not all of {count} replicas have acknowledged the operation in time");
                Err(Failure::unknown(io::Error::new(io::ErrorKind::TimedOut, late)))
            }
        }
    }

    /// Whether the operation went to the server that the barrier leads to.
    fn is_same_server(&self) -> bool {
        self.node.current().is_some_and(|(_, number)| number == self.connection)
            && self.slot.as_ref().is_none_or(|(cluster, slot)| {
                cluster.redirections(*slot) == self.redirections
                    && cluster.node(*slot).is_some_and(|(endpoint, _)| endpoint == self.endpoint)
            })
    }
}

/// The connection of a link, which is made if there is none.
async fn current(link: &Single) -> Result<(Endpoint, u64), Failure> {
    if let Some(current) = link.current() {
        return Ok(current);
    }
    link.connected().await?;
    // It may be lost again by now. Nothing was sent.
    link.current().ok_or_else(|| Failure::not_applied((ErrorKind::Io, "the connection was lost at once")))
}
