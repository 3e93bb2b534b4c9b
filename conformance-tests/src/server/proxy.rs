//! [`Proxy`]: the network between a client and its server, on the worst of days.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A TCP proxy that passes bytes on as they are, until it is told to do otherwise. It listens on the loopback interface.
///
/// Everything it does holds for the connections that are open and for those to come. Dropped, it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    switches: watch::Sender<Switches>,
    trap: Mutex<Option<Trap>>,
}

/// What the connections look at before they pass anything on.
#[derive(Clone, Debug)]
struct Switches {
    target: SocketAddr,
    accepted: usize,
    /// A connection that was accepted before this many had been cut is closed.
    cut_before: usize,
    /// A connection that was accepted before this many had been silenced delivers requests and no replies.
    silent_before: usize,
    refuse: bool,
    hold_requests: bool,
    hold_replies: bool,
}

/// The request whose answer will not arrive.
#[derive(Debug)]
enum Trap {
    Any,
    Containing(Vec<u8>),
}

impl Proxy {
    /// Begins to listen on a free port, for a server that listens at `target`, now or later.
    ///
    /// # Panics
    ///
    /// If the system has no port left.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("it listens");
        let switches = Switches {
            target,
            accepted: 0,
            cut_before: 0,
            silent_before: 0,
            refuse: false,
            hold_requests: false,
            hold_replies: false,
        };
        let shared = Arc::new(Shared { switches: watch::Sender::new(switches), trap: Mutex::new(None) });
        let listener = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, listener }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects new connections to another server. Those that are open stay where they are: [`cut`](Self::cut) them.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.switches.send_modify(|switches| switches.target = target);
    }

    /// Closes every connection now, with a reset on both sides. New ones are accepted.
    pub fn cut(&self) {
        self.shared.switches.send_modify(|switches| switches.cut_before = switches.accepted);
    }

    /// Closes new connections as soon as they are accepted, or no more.
    pub fn refuse(&self, refuse: bool) {
        self.shared.switches.send_modify(|switches| switches.refuse = refuse);
    }

    /// Keeps back what clients send, or lets it go, in order.
    pub fn hold_requests(&self, hold: bool) {
        self.shared.switches.send_modify(|switches| switches.hold_requests = hold);
    }

    /// Keeps back what the server answers, or lets it go, in order: requests are delivered and carried out, and the
    /// client hears nothing.
    pub fn hold_replies(&self, hold: bool) {
        self.shared.switches.send_modify(|switches| switches.hold_replies = hold);
    }

    /// Loses, from now on and for ever, all that the server says on the connections that are open: what is sent is
    /// delivered and carried out, and nothing tells the client that its connection is dead. New connections work. So it is
    /// when a firewall forgets a connection.
    pub fn silence(&self) {
        self.shared.switches.send_modify(|switches| switches.silent_before = switches.accepted);
    }

    /// Delivers the next request, waits until the server has begun to answer, and resets the connection instead of
    /// passing the answer on. Once.
    ///
    /// Nothing else may be under way on that connection: the answer to an earlier request would be taken for this one's.
    pub fn cut_before_next_reply(&self) {
        *self.trap() = Some(Trap::Any);
    }

    /// The same for the first request from now on that contains these bytes.
    pub fn cut_when_request_contains(&self, bytes: &[u8]) {
        *self.trap() = Some(Trap::Containing(bytes.to_vec()));
    }

    /// Whether the last [`cut_before_next_reply`](Self::cut_before_next_reply) or
    /// [`cut_when_request_contains`](Self::cut_when_request_contains) has met its request.
    pub fn has_sprung(&self) -> bool {
        self.trap().is_none()
    }

    /// How many connections it has accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.switches.borrow().accepted
    }

    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.shared.trap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

impl Shared {
    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this request is the one, looked for at the end of what was sent before it.
    fn springs_at(&self, before: &[u8], request: &[u8]) -> bool {
        let mut trap = self.trap();
        let springs = match &*trap {
            None => false,
            Some(Trap::Any) => true,
            Some(Trap::Containing(bytes)) => {
                let tail = &before[before.len().saturating_sub(bytes.len().saturating_sub(1))..];
                let text = [tail, request].concat();
                text.windows(bytes.len()).any(|window| window == bytes)
            }
        };
        if springs {
            *trap = None;
        }
        springs
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let mut number = 0;
        shared.switches.send_modify(|switches| {
            number = switches.accepted;
            switches.accepted += 1;
        });
        if shared.switches.borrow().refuse {
            reset_when_closed(&client);
            continue;
        }
        tokio::spawn(connect(client, number, Arc::clone(&shared)));
    }
}

async fn connect(client: TcpStream, number: usize, shared: Arc<Shared>) {
    let target = shared.switches.borrow().target;
    let Ok(server) = TcpStream::connect(target).await else {
        reset_when_closed(&client);
        return;
    };
    // Whatever ends the connection ends it as a cut cable does, and not with a polite end of file.
    reset_when_closed(&client);
    reset_when_closed(&server);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let doomed = AtomicBool::new(false);
    let mut switches = shared.switches.subscribe();
    // The first to end takes the other with it, and both ends of the connection.
    tokio::select! {
        _ = requests(from_client, to_server, &shared, &doomed) => {}
        _ = replies(from_server, to_client, number, &shared, &doomed) => {}
        _ = switches.wait_for(|switches| number < switches.cut_before) => {}
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    doomed: &AtomicBool,
) -> io::Result<()> {
    let mut switches = shared.switches.subscribe();
    let (mut buffer, mut before) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let count = client.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let request = &buffer[..count];
        let _ = switches.wait_for(|switches| !switches.hold_requests).await;
        if shared.springs_at(&before, request) {
            doomed.store(true, Ordering::Release);
        }
        server.write_all(request).await?;
        before.clear();
        before.extend_from_slice(request);
    }
}

async fn replies(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    number: usize,
    shared: &Shared,
    doomed: &AtomicBool,
) -> io::Result<()> {
    let mut switches = shared.switches.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = server.read(&mut buffer).await?;
        if count == 0 || doomed.load(Ordering::Acquire) {
            return Ok(());
        }
        let _ = switches.wait_for(|switches| !switches.hold_replies).await;
        if number < switches.borrow().silent_before {
            continue;
        }
        client.write_all(&buffer[..count]).await?;
    }
}

fn reset_when_closed(stream: &TcpStream) {
    // A connection that is closed already needs none.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A server that answers every byte with the same one, and counts them.
    async fn echo() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    while let Ok(byte) = client.read_u8().await {
                        counter.fetch_add(1, Ordering::SeqCst);
                        if client.write_u8(byte).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (address, seen)
    }

    async fn client(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.unwrap()
    }

    async fn ask(client: &mut TcpStream, byte: u8) -> io::Result<u8> {
        client.write_u8(byte).await?;
        client.read_u8().await
    }

    async fn seen_at_least(seen: &AtomicUsize, count: usize) {
        while seen.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn bytes_pass_and_connections_are_counted() {
        let (target, _) = echo().await;
        let proxy = Proxy::start(target).await;
        let mut client = client(&proxy).await;
        assert_eq!(ask(&mut client, 7).await.unwrap(), 7);
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_open_and_new_connections_work() {
        let (target, _) = echo().await;
        let proxy = Proxy::start(target).await;
        let mut old = client(&proxy).await;
        assert_eq!(ask(&mut old, 1).await.unwrap(), 1);
        proxy.cut();
        assert!(old.read_u8().await.is_err());
        assert_eq!(ask(&mut client(&proxy).await, 2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn refused_connections_are_closed_until_they_are_welcome_again() {
        let (target, _) = echo().await;
        let proxy = Proxy::start(target).await;
        proxy.refuse(true);
        assert!(client(&proxy).await.read_u8().await.is_err());
        proxy.refuse(false);
        assert_eq!(ask(&mut client(&proxy).await, 2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_silent_link_delivers_and_says_nothing() {
        let (target, seen) = echo().await;
        let proxy = Proxy::start(target).await;
        let mut client = client(&proxy).await;
        proxy.hold_replies(true);
        client.write_all(&[1, 2]).await.unwrap();
        seen_at_least(&seen, 2).await;
        proxy.hold_replies(false);
        assert_eq!(client.read_u8().await.unwrap(), 1);
        assert_eq!(client.read_u8().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_silenced_connection_stays_silent_and_the_next_one_works() {
        let (target, seen) = echo().await;
        let proxy = Proxy::start(target).await;
        let mut old = client(&proxy).await;
        assert_eq!(ask(&mut old, 1).await.unwrap(), 1);
        proxy.silence();
        old.write_u8(2).await.unwrap();
        seen_at_least(&seen, 2).await;
        let mut new = client(&proxy).await;
        assert_eq!(ask(&mut new, 3).await.unwrap(), 3);
        assert_eq!(old.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn held_requests_do_not_arrive_until_they_are_let_go() {
        let (target, seen) = echo().await;
        let proxy = Proxy::start(target).await;
        let mut client = client(&proxy).await;
        assert_eq!(ask(&mut client, 1).await.unwrap(), 1);
        proxy.hold_requests(true);
        client.write_u8(2).await.unwrap();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(seen.load(Ordering::SeqCst), 1);
        proxy.hold_requests(false);
        assert_eq!(client.read_u8().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn the_answer_to_the_request_in_the_trap_is_lost_and_the_request_is_not() {
        let (target, seen) = echo().await;
        let proxy = Proxy::start(target).await;
        let mut client = client(&proxy).await;
        assert_eq!(ask(&mut client, b'x').await.unwrap(), b'x');
        proxy.cut_when_request_contains(b"ab");
        assert_eq!(ask(&mut client, b'a').await.unwrap(), b'a');
        assert!(!proxy.has_sprung());
        assert!(ask(&mut client, b'b').await.is_err());
        assert!(proxy.has_sprung());
        assert_eq!(seen.load(Ordering::SeqCst), 3);

        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut next, b'c').await.unwrap(), b'c');
        proxy.cut_before_next_reply();
        assert!(ask(&mut next, b'd').await.is_err());
        assert_eq!(seen.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn a_new_target_is_for_new_connections() {
        let ((first, _), (second, seen)) = (echo().await, echo().await);
        let proxy = Proxy::start(first).await;
        let mut old = client(&proxy).await;
        assert_eq!(ask(&mut old, 1).await.unwrap(), 1);
        proxy.retarget(second);
        assert_eq!(ask(&mut old, 2).await.unwrap(), 2);
        assert_eq!(seen.load(Ordering::SeqCst), 0);
        assert_eq!(ask(&mut client(&proxy).await, 3).await.unwrap(), 3);
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }
}
