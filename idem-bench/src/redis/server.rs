//! The server that is measured: one of our own, or somebody's.

use std::error::Error;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use conformance_tests::server::{Process, free_port};
use idem_core::StoreError;
use idem_redis::RedisStore;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

pub(super) struct Server {
    url: String,
    /// Held, so that it is stopped at the end.
    _own: Option<(Process, TempDir)>,
}

impl Server {
    pub(super) fn of(url: &str) -> Result<Self, Box<dyn Error>> {
        match url {
            "redis:" => Self::start("redis-server"),
            "valkey:" => {
                let named = std::env::var("IDEM_VALKEY_SERVER");
                Self::start(&named.unwrap_or_else(|_| "valkey-server".to_owned()))
            }
            url => Ok(Self { url: url.to_owned(), _own: None }),
        }
    }

    /// On a port of the loopback interface, as a service would reach it; nothing is written to a disk.
    fn start(program: &str) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("log");
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        let mut process = Process::start(command.current_dir(&directory), &log);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.has_ended() {
                return Err(format!("{program} does not start: {}", std::fs::read_to_string(&log)?).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { url: format!("redis://127.0.0.1:{port}"), _own: Some((process, directory)) })
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
