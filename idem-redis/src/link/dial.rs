//! [`Dialer`]: makes one connection: the stream, TLS, the login.
//!
//! The streams are made here and not by the client library, for three things that it does not offer: a task that tells at
//! once when the connection is gone, TLS that does not depend on what else the program has made of rustls, and settings
//! of the socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::{AsyncStream, MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, RedisResult};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Options;
use crate::address::{Login, Place};
use crate::tls::Connector;

/// How long one address of a name may be silent before the next one is tried beside it (RFC 8305's value).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// How connections are made.
#[derive(Clone)]
pub(crate) struct Dialer {
    connector: Option<Connector>,
    connect_timeout: Duration,
    command_timeout: Duration,
    max_in_flight: usize,
}

/// A connection, and the future that moves its bytes; when that ends, the connection is gone.
pub(crate) type Dialled = (MultiplexedConnection, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>);

type Stream = std::pin::Pin<Box<dyn AsyncStream + Send + Sync>>;

impl Dialer {
    /// Reads the certificates, if there is to be TLS.
    pub(crate) fn new(tls: bool, options: &Options) -> RedisResult<Self> {
        let connector = if tls { Some(options.tls.connector().map_err(of_certificates)?) } else { None };
        Ok(Self {
            connector,
            connect_timeout: options.connect_timeout,
            command_timeout: options.command_timeout,
            max_in_flight: options.places(),
        })
    }

    /// The same with another bound on the time of a command.
    pub(crate) fn with_command_timeout(mut self, command_timeout: Duration) -> Self {
        self.command_timeout = command_timeout;
        self
    }

    /// Connects and logs in.
    pub(crate) async fn dial(&self, place: &Place, login: &Login) -> RedisResult<Dialled> {
        self.in_time(async {
            let stream = self.logged_in(place, login).await?;
            let config = AsyncConnectionConfig::new()
                .set_response_timeout(Some(self.command_timeout))
                .set_pipeline_buffer_size(self.max_in_flight);
            let (connection, driver) =
                MultiplexedConnection::new_with_config(&nobody(), stream, config).await?;
            Ok((connection, Box::pin(driver) as _))
        })
        .await
    }

    /// Connects and logs in, for what is announced on a channel.
    pub(crate) async fn listen(&self, place: &Place, login: &Login, channel: &str) -> RedisResult<PubSub> {
        self.in_time(async {
            let mut announcements = PubSub::new(&nobody(), self.logged_in(place, login).await?).await?;
            announcements.subscribe(channel).await?;
            Ok(announcements)
        })
        .await
    }

    /// How long an attempt may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    async fn in_time<T>(&self, attempt: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        timeout(self.connect_timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn logged_in(&self, place: &Place, login: &Login) -> RedisResult<Stream> {
        let mut stream = self.stream(place).await?;
        log_in(&mut stream, login).await?;
        Ok(stream)
    }

    async fn stream(&self, place: &Place) -> RedisResult<Stream> {
        match place {
            Place::Tcp { host, port } => {
                let stream = connect(lookup_host((host.as_str(), *port)).await?.collect()).await?;
                configure(&stream)?;
                self.secured(host, stream).await
            }
            #[cfg(unix)]
            Place::Unix(path) => Ok(Box::pin(tokio::net::UnixStream::connect(path).await?)),
            #[cfg(not(unix))]
            Place::Unix(_) => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }

    #[cfg(feature = "rustls")]
    async fn secured(&self, host: &str, stream: TcpStream) -> RedisResult<Stream> {
        use tokio_rustls::rustls::pki_types::ServerName;

        let Some(Connector(connector)) = &self.connector else { return Ok(Box::pin(stream)) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| of_certificates("the host is not a name that a certificate can have".to_owned()))?;
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::pin(stream)),
            // rustls's own errors come as `InvalidData`: a certificate that is not trusted stays so, unlike a cut wire.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(of_certificates(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(feature = "rustls"))]
    #[allow(clippy::unused_async, reason = "the same signature as with TLS")]
    async fn secured(&self, _host: &str, stream: TcpStream) -> RedisResult<Stream> {
        match &self.connector {
            None => Ok(Box::pin(stream)),
            Some(never) => match *never {},
        }
    }
}

/// Connects to the first address that answers. A name may have several, and one of them may be silent; all the time of the
/// attempt would pass with it, each time.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut addresses = addresses.into_iter();
    loop {
        // A silent one is waited for beside the next.
        let patience = match addresses.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
                NEXT_ADDRESS_AFTER
            }
            None => Duration::MAX,
        };
        match timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => failure = error,
            Ok(Some(Err(gone))) => failure = io::Error::other(gone),
            Ok(None) => return Err(failure),
            Err(_) => {}
        }
    }
}

/// What the client library is to say of us: nothing, since it was said.
fn nobody() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_skip_set_lib_name()
}

/// Says who we are, in one round trip. The library would only say that a login failed, and not why: too many clients, or a
/// busy server, pass.
async fn log_in(stream: &mut Stream, login: &Login) -> RedisResult<()> {
    let mut words = redis::pipe();
    if let Some(password) = &login.password {
        words.cmd("AUTH").arg(login.user.as_ref()).arg(password);
    }
    if login.db != 0 {
        words.cmd("SELECT").arg(login.db);
    }
    let needed = words.len();
    // For `CLIENT LIST`. Servers that do not know it, or do not allow it, answer with an error that makes no difference.
    words.cmd("CLIENT").arg("SETINFO").arg("LIB-NAME").arg("idem-redis");
    words.cmd("CLIENT").arg("SETINFO").arg("LIB-VER").arg(env!("CARGO_PKG_VERSION"));
    // A server that turns us away speaks first, and does not listen.
    let heard = stream.write_all(&words.get_packed_pipeline()).await.and(stream.flush().await);
    #[allow(clippy::default_trait_access, reason = "the type is of a crate that this one does not depend on")]
    let mut decoder = Default::default();
    for place in 0..words.len() {
        let answer = match redis::parse_redis_value_async(&mut decoder, stream).await {
            Ok(answer) => answer.extract_error(),
            // What speaks, and is no Redis.
            Err(error) if error.kind() == ErrorKind::Parse => return Err(error),
            Err(error) => {
                heard?;
                return Err(error);
            }
        };
        match answer {
            Err(error) if place < needed || is_turned_away(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the server said this instead of listening to anything.
fn is_turned_away(error: &RedisError) -> bool {
    error.code() == Some("DENIED")
        || error.detail().is_some_and(|detail| detail.contains("max number of clients"))
}

fn of_certificates(problem: String) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "TLS", problem))
}

/// Why each: see the table in [`Options`].
fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    let keepalive = keepalive.with_retries(3);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// Listens, and accepts nobody: once its queue is full it does not even say no.
    fn silent() -> (Socket, Vec<Socket>, SocketAddr) {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = (0..64).map(|_| {
            let client = socket();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address);
            client
        });
        let waiting = waiting.collect();
        (listener, waiting, address.as_socket().unwrap())
    }

    #[tokio::test]
    async fn one_silent_address_of_a_name_is_no_hindrance() {
        let (_listener, _waiting, silent) = silent();
        let one_more = timeout(Duration::from_millis(500), TcpStream::connect(silent)).await;
        assert!(one_more.is_err(), "it is not silent: {one_more:?}");
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let connected =
            timeout(Duration::from_secs(10), connect(vec![silent, address])).await.unwrap().unwrap();
        assert_eq!(connected.peer_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn of_addresses_that_all_refuse_one_says_why() {
        let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = connect(vec![refusing, refusing]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        connect(Vec::new()).await.unwrap_err();
    }
}
