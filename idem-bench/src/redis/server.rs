//! The measured server: one that is started, or one that already runs.

use std::str::FromStr;
use std::time::Duration;

use idem_core::StoreError;
use idem_redis::RedisStore;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use test_servers::redis::{Kind, Setup};

pub(super) struct Server {
    url: String,
    /// Kept so that it is stopped at the end.
    _own: Option<test_servers::redis::Server>,
}

impl Server {
    /// `redis:`, `valkey:`, or a URL. An own server listens on a port of the loopback interface, as a service would reach
    /// it, and writes nothing to a disk.
    pub(super) fn of(url: &str) -> Self {
        let kind = match url {
            "redis:" => Kind::Redis,
            "valkey:" => Kind::Valkey,
            url => return Self { url: url.to_owned(), _own: None },
        };
        let own = Setup::new(kind).start();
        Self { url: own.url(), _own: Some(own) }
    }

    /// The subject, with default options.
    pub(super) async fn store(&self) -> Result<RedisStore, StoreError> {
        RedisStore::connect(&self.url).await
    }

    /// The floor's connection: the client library's, one for all callers.
    pub(super) async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        redis::Client::open(&*self.url)?.get_multiplexed_async_connection().await
    }
}

/// The processor time that the server has taken since it was started.
pub(super) async fn spent(connection: &mut MultiplexedConnection) -> RedisResult<Duration> {
    let user: f64 = statistic(connection, "cpu", "used_cpu_user").await?;
    let system: f64 = statistic(connection, "cpu", "used_cpu_sys").await?;
    Ok(Duration::from_secs_f64(user + system))
}

/// A number of the server's own statistics.
pub(super) async fn statistic<N: FromStr>(
    connection: &mut MultiplexedConnection,
    section: &str,
    name: &str,
) -> RedisResult<N> {
    let info: String = redis::cmd("INFO").arg(section).query_async(connection).await?;
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|number| number.trim().parse().ok());
    number
        .ok_or_else(|| redis::RedisError::from((redis::ErrorKind::UnexpectedReturnType, "no such statistic")))
}
