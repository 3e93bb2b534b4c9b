//! [`Link`]: sends commands, whatever the servers are.

mod cluster;
mod dial;
mod external;
mod replication;
mod sentinel;
mod single;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use idem_core::{Operation, StoreError};
use redis::{Cmd, RedisError, Value};
use tokio::task::JoinSet;

use self::cluster::{Cluster, slot};
use self::dial::Dialer;
pub use self::external::Connection;
use self::external::External;
use self::replication::Replication;
pub(crate) use self::replication::ReplicationWait;
use self::sentinel::Sentinels;
use self::single::{Finder, Single};
use crate::address::{Address, Servers};
use crate::error::Failure;
use crate::options::RedisOptions;

/// Sends commands to the servers. Cheap to clone; clones share everything.
///
/// If a caller drops a call's future, the command is carried out or not, its answer is discarded, and the link is ready for
/// the next command.
#[derive(Clone)]
pub(crate) struct Link {
    servers: Kind,
    replication: Option<Arc<Replication>>,
}

#[derive(Clone)]
enum Kind {
    Single(Single),
    Cluster(Arc<Cluster>),
    External(External),
}

impl Link {
    /// Connects, and fails if the first attempt does.
    pub(crate) async fn connect(address: &Address, options: &RedisOptions) -> Result<Self, StoreError> {
        let failed = |error: RedisError| Failure::not_applied(error).into_store_error(Operation::Connect);
        let dialer = Dialer::new(address.tls, options).map_err(failed)?;
        let login = address.login.clone();
        let replication = options
            .replicas
            .map(|replicas| Arc::new(Replication::new(replicas, dialer.clone(), login.clone(), options)));
        let finder = match address.servers.clone() {
            Servers::One(endpoint) => Finder::Fixed { endpoint, login },
            Servers::Sentinel { sentinels, service, login: sentinel_login } => {
                Finder::Sentinel(Sentinels::new(sentinels, &service, &sentinel_login, login, &dialer))
            }
            Servers::Cluster(seeds) => {
                let cluster = Cluster::connect(seeds, login, dialer, options).await.map_err(failed)?;
                return Ok(Self { servers: Kind::Cluster(cluster), replication });
            }
        };
        let single = Single::connect(finder, dialer, options).await.map_err(failed)?;
        Ok(Self { servers: Kind::Single(single), replication })
    }

    /// The link over a connection that the application has. It does not wait for replicas, because that takes connections
    /// of the store's own.
    pub(crate) fn over(connection: Connection, options: &RedisOptions) -> Self {
        Self { servers: Kind::External(External::new(connection, options)), replication: None }
    }

    /// One command, one round trip.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        match &self.servers {
            Kind::Single(single) => single.command(command).await,
            Kind::Cluster(cluster) => cluster.command(command).await,
            Kind::External(external) => external.command(command).await,
        }
    }

    /// Sends every master the same command, at once. Returns each master's address and answer.
    pub(crate) async fn each_master(&self, command: &Cmd) -> Vec<(String, Result<Value, Failure>)> {
        let masters = match &self.servers {
            Kind::External(external) => return external.each_master(command).await,
            Kind::Single(single) => {
                let answer = single.command(command).await;
                return vec![(single.name(), answer)];
            }
            Kind::Cluster(cluster) => cluster.masters(),
        };
        let mut asked = JoinSet::new();
        for (endpoint, node) in &*masters {
            let (name, node, command) = (endpoint.to_string(), node.clone(), command.clone());
            asked.spawn(async move { (name, node.command(&command).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by(|(one, _), (other, _)| one.cmp(other));
        answers
    }

    /// Returns when the connection is replaced. Never returns for a Cluster, which has many, nor for an application's.
    pub(crate) async fn replaced(&self) {
        match &self.servers {
            Kind::Single(single) => {
                let number = single.current().map_or(0, |(_, number)| number);
                single.replaced(number).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Prepares to wait for replicas, before an operation on this key is sent. `None` if the options ask for no replicas.
    pub(crate) async fn replication_wait(&self, key: &[u8]) -> Result<Option<ReplicationWait>, Failure> {
        let Some(replication) = &self.replication else { return Ok(None) };
        // Boxed, so that an option that few use does not make every operation's future larger.
        match &self.servers {
            Kind::Single(single) => Box::pin(replication.prepare(single.clone(), None)).await.map(Some),
            Kind::Cluster(cluster) => {
                let slot = slot(key);
                let (_, node) = Box::pin(cluster.find(slot)).await?;
                Box::pin(replication.prepare(node, Some((Arc::clone(cluster), slot)))).await.map(Some)
            }
            Kind::External(_) => Ok(None),
        }
    }
}
