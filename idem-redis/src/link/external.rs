//! [`Connection`]: one that the application already has.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::options::RedisOptions;

/// A connection that the application already has and that a store shares.
///
/// The application keeps it alive. The store sends its commands on it and limits how many are in flight and how long they
/// take; it replaces nothing. A `MultiplexedConnection` does not come back once it is broken. A `ConnectionManager` keeps a
/// connection that stopped answering. A `ClusterConnection` resends commands by itself; that is safe, because every
/// operation is idempotent by its token.
#[derive(Clone)]
#[non_exhaustive]
pub enum Connection {
    /// One connection to one server.
    Multiplexed(MultiplexedConnection),
    /// One connection that is made again when it breaks.
    Manager(ConnectionManager),
    /// The connections to a Cluster.
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
pub(crate) struct External {
    connection: Connection,
    permits: Arc<Semaphore>,
    max_in_flight: usize,
    command_timeout: Duration,
}

impl External {
    pub(crate) fn new(connection: Connection, options: &RedisOptions) -> Self {
        Self {
            connection,
            permits: Arc::new(Semaphore::new(options.max_in_flight)),
            max_in_flight: options.max_in_flight,
            command_timeout: options.command_timeout,
        }
    }

    /// One command.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        let (_permit, deadline) = self.permit().await?;
        let answer = match self.connection.clone() {
            Connection::Multiplexed(mut it) => timeout_at(deadline, it.send_packed_command(command)).await,
            Connection::Manager(mut it) => timeout_at(deadline, it.req_packed_command(command)).await,
            Connection::Cluster(mut it) => timeout_at(deadline, it.req_packed_command(command)).await,
        };
        answered(answer)?.extract_error().map_err(|error| match self.connection {
            // The Cluster's client may have sent the command before: an error does not show that nothing happened.
            Connection::Cluster(_) => Failure::unknown(error),
            _ => Failure::not_applied(error),
        })
    }

    /// One command to every master, with the masters' addresses where the client knows them.
    pub(crate) async fn each_master(&self, command: &Cmd) -> Vec<(String, Result<Value, Failure>)> {
        let Connection::Cluster(mut connection) = self.connection.clone() else {
            return vec![("the application's connection".to_owned(), self.command(command).await)];
        };
        let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let deadline = Instant::now() + self.command_timeout;
        let sent = connection.route_command(command.clone(), all);
        match answered(timeout_at(deadline, sent).await) {
            Ok(Value::Map(answers)) => {
                let answer = |(address, value): (Value, Value)| {
                    let address = redis::from_redis_value(address).unwrap_or_default();
                    (address, value.extract_error().map_err(Failure::not_applied))
                };
                answers.into_iter().map(answer).collect()
            }
            answer => vec![("the Cluster".to_owned(), answer)],
        }
    }

    async fn permit(&self) -> Result<(SemaphorePermit<'_>, Instant), Failure> {
        let deadline = Instant::now() + self.command_timeout;
        match timeout_at(deadline, self.permits.acquire()).await {
            Ok(permit) => Ok((permit.expect("nobody closes the semaphore"), deadline)),
            Err(_) => Err(Failure::too_many_in_flight(self.max_in_flight)),
        }
    }
}

fn answered<T>(answer: Result<RedisResult<T>, Elapsed>) -> Result<T, Failure> {
    match answer {
        Ok(answer) => answer.map_err(Failure::unknown),
        Err(_) => Err(Failure::unknown(io::Error::from(io::ErrorKind::TimedOut))),
    }
}
