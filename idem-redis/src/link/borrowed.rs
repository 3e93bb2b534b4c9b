//! [`Connection`]: one that the application already has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Cmd, RedisError, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::failure::{Failure, crowded};
use crate::Options;

/// A connection that the application already has, with which a store can share it.
///
/// What keeps a link alive is then the application's: this crate sends its commands, bounds how many are under way and how
/// long they take, and rebuilds nothing. Know that a `MultiplexedConnection` does not come back once it is broken; that
/// a `ConnectionManager` keeps a silent connection for ever; and that a `ClusterConnection` sends commands again by
/// itself, which each operation survives, being idempotent by its token.
#[derive(Clone)]
#[non_exhaustive]
pub enum Connection {
    /// One connection to one server.
    Multiplexed(MultiplexedConnection),
    /// One that is made anew when it breaks.
    Manager(ConnectionManager),
    /// Those to a Cluster.
    Cluster(ClusterConnection),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multiplexed(_) => "Multiplexed",
            Self::Manager(_) => "Manager",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl From<MultiplexedConnection> for Connection {
    fn from(connection: MultiplexedConnection) -> Self {
        Self::Multiplexed(connection)
    }
}

impl From<ConnectionManager> for Connection {
    fn from(connection: ConnectionManager) -> Self {
        Self::Manager(connection)
    }
}

impl From<ClusterConnection> for Connection {
    fn from(connection: ClusterConnection) -> Self {
        Self::Cluster(connection)
    }
}

/// The link over an application's connection.
#[derive(Clone)]
pub(crate) struct Borrowed {
    connection: Connection,
    places: Arc<Semaphore>,
    max_in_flight: usize,
    command_timeout: Duration,
}

impl Borrowed {
    pub(crate) fn new(connection: Connection, options: &Options) -> Self {
        Self {
            connection,
            places: Arc::new(Semaphore::new(options.places())),
            max_in_flight: options.places(),
            command_timeout: options.command_timeout,
        }
    }

    /// One command.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        let (_place, deadline) = self.place().await?;
        let answer = match self.connection.clone() {
            Connection::Multiplexed(mut it) => timeout_at(deadline, it.send_packed_command(command)).await,
            Connection::Manager(mut it) => timeout_at(deadline, it.req_packed_command(command)).await,
            Connection::Cluster(mut it) => timeout_at(deadline, it.req_packed_command(command)).await,
        };
        told(answer)?.extract_error().map_err(|error| self.refused(error))
    }

    /// One command to every master, with the masters' addresses where the client knows them.
    pub(crate) async fn each_master(&self, command: &Cmd) -> Vec<(String, Result<Value, Failure>)> {
        let Connection::Cluster(mut connection) = self.connection.clone() else {
            return vec![("the application's connection".to_owned(), self.command(command).await)];
        };
        let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let deadline = Instant::now() + self.command_timeout;
        let sent = connection.route_command(command.clone(), all);
        match told(timeout_at(deadline, sent).await) {
            Ok(Value::Map(told)) => {
                let answer = |(place, value): (Value, Value)| {
                    let place = redis::from_redis_value(place).unwrap_or_default();
                    (place, value.extract_error().map_err(Failure::not_applied))
                };
                told.into_iter().map(answer).collect()
            }
            Ok(value) => vec![("the Cluster".to_owned(), Ok(value))],
            Err(failure) => vec![("the Cluster".to_owned(), Err(failure))],
        }
    }

    async fn place(&self) -> Result<(SemaphorePermit<'_>, Instant), Failure> {
        let deadline = Instant::now() + self.command_timeout;
        match timeout_at(deadline, self.places.acquire()).await {
            Ok(place) => Ok((place.expect("nobody closes it"), deadline)),
            Err(_) => Err(crowded(self.max_in_flight)),
        }
    }

    /// The Cluster's client may have sent the command before, so that an error need not mean that nothing happened.
    fn refused(&self, error: RedisError) -> Failure {
        if matches!(self.connection, Connection::Cluster(_)) {
            Failure::unknown(error)
        } else {
            Failure::not_applied(error)
        }
    }
}

fn told<T>(told: Result<Result<T, RedisError>, tokio::time::error::Elapsed>) -> Result<T, Failure> {
    match told {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(error)) => Err(Failure::unknown(error)),
        Err(_) => Err(Failure::unknown(std::io::Error::from(std::io::ErrorKind::TimedOut).into())),
    }
}
