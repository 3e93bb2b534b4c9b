//! TCP streams: the first address of a name that answers, and the settings of the socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one address of a name may be silent before the next one is tried as well (RFC 8305's value).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Connects to the first address that answers. One silent address of a name would otherwise use up the time of every
/// attempt.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut addresses = addresses.into_iter();
    loop {
        let wait = match addresses.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
                NEXT_ADDRESS_AFTER
            }
            None => Duration::MAX,
        };
        match timeout(wait, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => failure = error,
            Ok(Some(Err(panicked))) => failure = io::Error::other(panicked),
            Ok(None) => return Err(failure),
            Err(_) => {}
        }
    }
}

/// The reasons are in the table of [`RedisOptions`](crate::RedisOptions).
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
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

    /// A listener that accepts no connection: once its queue is full, it does not even refuse.
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
    async fn one_silent_address_of_a_name_does_not_stop_a_connection() {
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
