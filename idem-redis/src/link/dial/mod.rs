//! [`Dialer`]: makes one connection: the stream, TLS, the login.
//!
//! The streams are made here and not by the client library, for three things that it does not offer: a task that reports
//! at once when the connection is gone, TLS that does not depend on what else the program does with rustls, and socket
//! settings.

mod login;
mod tcp;

use std::io;
use std::pin::Pin;
use std::time::Duration;

use redis::aio::{AsyncStream, MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, ErrorKind, Pipeline, RedisConnectionInfo, RedisError, RedisResult, Value,
};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::address::{Endpoint, Login};
use crate::options::RedisOptions;
use crate::tls::Connector;

/// How connections are made.
#[derive(Clone)]
pub(crate) struct Dialer {
    connector: Option<Connector>,
    connect_timeout: Duration,
    command_timeout: Duration,
    max_in_flight: usize,
}

/// A connection, and the future that moves its bytes. When the future ends, the connection is gone.
pub(crate) type Dialled = (MultiplexedConnection, Pin<Box<dyn Future<Output = ()> + Send>>);

type Stream = Pin<Box<dyn AsyncStream + Send + Sync>>;

impl Dialer {
    /// Reads the certificates, if the connections use TLS.
    pub(crate) fn new(tls: bool, options: &RedisOptions) -> RedisResult<Self> {
        let connector =
            if tls { Some(Connector::new(&options.tls).map_err(certificate_problem)?) } else { None };
        Ok(Self {
            connector,
            connect_timeout: options.connect_timeout,
            command_timeout: options.command_timeout,
            max_in_flight: options.max_in_flight,
        })
    }

    /// Sets another timeout for commands.
    pub(crate) fn with_command_timeout(mut self, command_timeout: Duration) -> Self {
        self.command_timeout = command_timeout;
        self
    }

    /// How long one attempt may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Connects and logs in.
    pub(crate) async fn dial(&self, endpoint: &Endpoint, login: &Login) -> RedisResult<Dialled> {
        self.in_time(async {
            let stream = self.logged_in(endpoint, login).await?;
            let config = AsyncConnectionConfig::new()
                .set_response_timeout(Some(self.command_timeout))
                .set_pipeline_buffer_size(self.max_in_flight);
            let (connection, driver) =
                MultiplexedConnection::new_with_config(&no_greeting(), stream, config).await?;
            Ok((connection, Box::pin(driver) as _))
        })
        .await
    }

    /// Sends some commands on a connection of their own.
    pub(crate) async fn ask(
        &self,
        endpoint: &Endpoint,
        login: &Login,
        commands: &Pipeline,
    ) -> RedisResult<Vec<Value>> {
        let (mut connection, driver) = self.dial(endpoint, login).await?;
        tokio::select! {
            answers = connection.send_packed_commands(commands, 0, commands.len()) => answers,
            () = driver => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        }
    }

    /// Connects, logs in and subscribes to a channel.
    pub(crate) async fn subscribe(
        &self,
        endpoint: &Endpoint,
        login: &Login,
        channel: &str,
    ) -> RedisResult<PubSub> {
        self.in_time(async {
            let stream = self.logged_in(endpoint, login).await?;
            let mut subscription = PubSub::new(&no_greeting(), stream).await?;
            subscription.subscribe(channel).await?;
            Ok(subscription)
        })
        .await
    }

    async fn in_time<T>(&self, attempt: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        timeout(self.connect_timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn logged_in(&self, endpoint: &Endpoint, login: &Login) -> RedisResult<Stream> {
        let mut stream = self.stream(endpoint).await?;
        login::log_in(&mut stream, login).await?;
        Ok(stream)
    }

    async fn stream(&self, endpoint: &Endpoint) -> RedisResult<Stream> {
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let stream = tcp::connect(lookup_host((host.as_str(), *port)).await?.collect()).await?;
                tcp::configure(&stream)?;
                self.secured(host, stream).await
            }
            #[cfg(unix)]
            Endpoint::Unix(path) => Ok(Box::pin(tokio::net::UnixStream::connect(path).await?)),
            #[cfg(not(unix))]
            Endpoint::Unix(_) => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }

    /// Puts TLS around the stream, if the connections use it.
    async fn secured(&self, host: &str, stream: TcpStream) -> RedisResult<Stream> {
        let Some(connector) = &self.connector else { return Ok(Box::pin(stream)) };
        match connector.connect(host, stream).await {
            Ok(stream) => Ok(Box::pin(stream)),
            // A certificate that is not trusted will not be trusted later either, unlike a connection that was cut.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(certificate_problem(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The client library shall send nothing by itself: the login is done.
fn no_greeting() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_skip_set_lib_name()
}

fn certificate_problem(problem: String) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "TLS", problem))
}
