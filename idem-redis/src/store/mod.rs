//! [`RedisStore`]: how it connects. What it does is in `operations`.

mod operations;

use std::fmt;
use std::sync::Arc;

use idem_core::{Operation, StoreError};

use crate::address::Address;
use crate::error::Cause;
use crate::health::{Health, HealthMonitor};
use crate::link::{Connection, Link};
use crate::options::RedisOptions;

/// A store in Redis or Valkey. Clones share its connection; other processes may use the same servers.
///
/// Every operation is one round trip and one atomic step on the server, by the server's clock. An operation that was sent
/// is carried out even if its future is dropped.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idem_core::Engine;
/// use idem_redis::RedisStore;
///
/// let store = RedisStore::connect("redis://127.0.0.1").await?;
/// let engine = Engine::builder(store).build()?;
/// # drop(engine);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    link: Link,
    monitor: Arc<HealthMonitor>,
    options: Arc<RedisOptions>,
}

impl RedisStore {
    /// Connects to the server of a URL, with the default [`RedisOptions`].
    ///
    /// See [`connect_with`](Self::connect_with) for the URLs and the errors.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, RedisOptions::new()).await
    }

    /// Connects to the server of a URL, with these options.
    ///
    /// | URL | servers |
    /// |---|---|
    /// | `redis://[[user]:password@]host[:port][/db]` | one server; `valkey://` is the same |
    /// | `redis+unix:/path[?db=1&user=..&password=..]` | one server on a Unix socket; `unix:` is the same |
    /// | `redis+sentinel://[[user]:password@]host[:port],host../service[/db][?sentinel_user=..&sentinel_password=..]` | the master that Sentinel names |
    /// | `redis+cluster://[[user]:password@]host[:port],host..` | a Cluster, found through any of these nodes |
    ///
    /// With `rediss` or `valkeys` as the first word, all connections use TLS (feature `rustls`). The user and password
    /// before the hosts are for the servers that keep the data; Sentinels have their own. All are percent-encoded.
    ///
    /// Fails as `Misconfigured` if the URL is not valid, if a server refuses the login or is too old, or if it evicts keys
    /// (see [`HealthMode`](crate::HealthMode)). Fails as `Unavailable` or `Timeout` if no server can be reached.
    pub async fn connect_with(url: &str, options: RedisOptions) -> Result<Self, StoreError> {
        let options = options.bounded();
        let address =
            Address::parse(url).map_err(|error| Cause::from(error).into_store_error(Operation::Connect))?;
        let link = Link::connect(&address, &options).await?;
        Self::over(link, options).await
    }

    /// A store over a connection that the application already has and keeps alive: see [`Connection`].
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use idem_redis::{RedisOptions, RedisStore};
    ///
    /// let client = redis::Client::open("redis://127.0.0.1")?;
    /// let connection = client.get_connection_manager().await?;
    /// let store = RedisStore::from_connection(connection, RedisOptions::new()).await?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Fails as [`connect_with`](Self::connect_with) does, and as `Misconfigured` if the options ask for
    /// [`replicas`](RedisOptions::replicas): to wait for them takes connections of the store's own.
    pub async fn from_connection(
        connection: impl Into<Connection>,
        options: RedisOptions,
    ) -> Result<Self, StoreError> {
        if options.replicas.is_some() {
            return Err(Cause::ReplicasOverExternal.into_store_error(Operation::Connect));
        }
        let options = options.bounded();
        Self::over(Link::over(connection.into(), &options), options).await
    }

    async fn over(link: Link, options: RedisOptions) -> Result<Self, StoreError> {
        let monitor = HealthMonitor::start(&link, &options)
            .await
            .map_err(|problem| Cause::from(problem).into_store_error(Operation::Connect))?;
        Ok(Self { link, monitor, options: Arc::new(options) })
    }

    /// Checks the servers that keep the records now: their version, role, eviction policy and persistence.
    ///
    /// The store checks them itself at connect and every [`health_interval`](RedisOptions::health_interval), and logs what
    /// has changed.
    pub async fn health(&self) -> Health {
        self.monitor.check(&self.link).await
    }
}

/// Shows the prefix of the records' names, and neither records nor addresses: a URL may hold a password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("key_prefix", &self.options.key_prefix).finish_non_exhaustive()
    }
}
