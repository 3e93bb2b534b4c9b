//! [`Link`] itself: which kind it is, and each of its methods for each kind.

use std::sync::Arc;

use idem_core::{Operation, StoreError};
use redis::{Cmd, RedisError, Value};
use tokio::task::JoinSet;

use super::borrowed::{Borrowed, Connection};
use super::cluster::Cluster;
use super::dial::Dialer;
use super::failure::Failure;
use super::sentinel::Sentinels;
use super::single::{Finder, Single};
use super::slots::slot;
use crate::Options;
use crate::address::{Address, Servers};
use crate::error::of_failure;
use crate::replication::{Pledge, Replication};

/// A way to the servers. Cheap to clone; clones share everything.
///
/// Whoever drops a call's future leaves the link fit for the next one: the command is carried out or not, and its answer
/// goes nowhere.
#[derive(Clone)]
pub(crate) struct Link {
    way: Way,
    replication: Option<Arc<Replication>>,
}

#[derive(Clone)]
enum Way {
    Single(Single),
    Cluster(Cluster),
    Borrowed(Borrowed),
}

impl Link {
    /// Connects, and fails at once if that does not succeed.
    pub(crate) async fn connect(address: &Address, options: &Options) -> Result<Self, StoreError> {
        let failed = |error: RedisError| of_failure(&Failure::not_applied(error), Operation::Connect);
        let dialer = Dialer::new(address.tls, options).map_err(failed)?;
        let login = address.login.clone();
        let replication = options
            .replicas
            .map(|replicas| Arc::new(Replication::new(replicas, dialer.clone(), login.clone(), options)));
        let finder = match address.servers.clone() {
            Servers::One(place) => Finder::Fixed { place, login },
            Servers::Sentinel { sentinels, service, login: sentinel_login } => {
                Finder::Sentinel(Sentinels::new(sentinels, service, sentinel_login, login, dialer.clone()))
            }
            Servers::Cluster(seeds) => {
                let cluster = Cluster::connect(seeds, login, dialer, options).await.map_err(failed)?;
                return Ok(Self { way: Way::Cluster(cluster), replication });
            }
        };
        let single = Single::connect(finder, dialer, options).await.map_err(failed)?;
        Ok(Self { way: Way::Single(single), replication })
    }

    /// The link over a connection that the application has. There is no replication on such a one, since that takes
    /// connections of its own.
    pub(crate) fn over(connection: Connection, options: &Options) -> Self {
        Self { way: Way::Borrowed(Borrowed::new(connection, options)), replication: None }
    }

    /// One command, one round trip.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        match &self.way {
            Way::Single(single) => single.command(command).await,
            Way::Cluster(cluster) => cluster.command(command).await,
            Way::Borrowed(borrowed) => borrowed.command(command).await,
        }
    }

    /// Asks every master the same, at once: where it is, and what it answers.
    pub(crate) async fn each_master(&self, command: &Cmd) -> Vec<(String, Result<Value, Failure>)> {
        let masters = match &self.way {
            Way::Borrowed(borrowed) => return borrowed.each_master(command).await,
            Way::Single(single) => {
                let answer = single.command(command).await;
                return vec![(single.name(), answer)];
            }
            Way::Cluster(cluster) => cluster.masters(),
        };
        let mut asked = JoinSet::new();
        for (place, node) in &*masters {
            let (place, node, command) = (place.to_string(), node.clone(), command.clone());
            asked.spawn(async move { (place, node.command(&command).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by(|(one, _), (other, _)| one.cmp(other));
        answers
    }

    /// Returns when another connection than now is in use. Never for a Cluster and for borrowed connections,
    /// which have many or none that is known.
    pub(crate) async fn replaced(&self) {
        match &self.way {
            Way::Single(single) => {
                let number = single.current().map_or(0, |(_, number)| number);
                single.replaced(number).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// To be called before an operation that replicas have to have: what will tell whether they do. `None` if that was
    /// not asked for.
    pub(crate) async fn pledge(&self, key: &[u8]) -> Result<Option<Pledge>, Failure> {
        let Some(replication) = &self.replication else { return Ok(None) };
        // Boxed, so that what not everybody asks for does not make every operation's future larger.
        match &self.way {
            Way::Single(single) => Box::pin(replication.pledge(single.clone(), None)).await.map(Some),
            Way::Cluster(cluster) => {
                let slot = slot(key);
                let (_, node) = Box::pin(cluster.find(slot)).await?;
                Box::pin(replication.pledge(node, Some((cluster.clone(), slot)))).await.map(Some)
            }
            Way::Borrowed(_) => Ok(None),
        }
    }
}
