//! [`Proxy`]: a faulty network between a client and its server.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A TCP proxy on the loopback interface. It passes bytes on unchanged until a method makes it do otherwise.
///
/// Unless a method says otherwise, it affects open and new connections. Dropping it closes all of them.
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

/// What each connection checks before it passes bytes on.
#[derive(Clone, Debug)]
struct Switches {
    target: SocketAddr,
    accepted: usize,
    /// Connections with a lower number are closed.
    cut_before: usize,
    /// Connections with a lower number deliver requests and no replies.
    silent_before: usize,
    refuse: bool,
    hold_requests: bool,
    hold_replies: bool,
}

/// The request whose reply gets lost.
#[derive(Debug)]
enum Trap {
    Any,
    Containing(Vec<u8>),
}

impl Proxy {
    /// Listens on a free port for a server at `target`, which may start later.
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

    /// Sends new connections to another server. Open connections keep theirs until they are [`cut`](Self::cut).
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.switches.send_modify(|switches| switches.target = target);
    }

    /// Resets every open connection, on both sides. New ones are accepted.
    pub fn cut(&self) {
        self.shared.switches.send_modify(|switches| switches.cut_before = switches.accepted);
    }

    /// Sets whether new connections are closed as soon as they are accepted.
    pub fn refuse(&self, refuse: bool) {
        self.shared.switches.send_modify(|switches| switches.refuse = refuse);
    }

    /// Sets whether requests are held back. Held requests are delivered in order when this ends.
    pub fn hold_requests(&self, hold: bool) {
        self.shared.switches.send_modify(|switches| switches.hold_requests = hold);
    }

    /// Sets whether replies are held back: the server receives and executes requests, and the client gets no reply. Held
    /// replies are delivered in order when this ends.
    pub fn hold_replies(&self, hold: bool) {
        self.shared.switches.send_modify(|switches| switches.hold_replies = hold);
    }

    /// Drops all replies on the open connections, permanently: requests are still delivered and executed, and the client
    /// cannot see that its connection is dead. This happens when a firewall forgets a connection. New connections work.
    pub fn silence(&self) {
        self.shared.switches.send_modify(|switches| switches.silent_before = switches.accepted);
    }

    /// Delivers the next request, waits until the server begins its reply, and resets the connection in place of passing
    /// the reply on. This happens once.
    ///
    /// The connection must have no other request in flight: the proxy would take its reply for this one.
    pub fn cut_before_next_reply(&self) {
        *self.trap() = Some(Trap::Any);
    }

    /// Does the same to the next request that contains these bytes.
    pub fn cut_when_request_contains(&self, bytes: &[u8]) {
        *self.trap() = Some(Trap::Containing(bytes.to_vec()));
    }

    /// Whether the last [`cut_before_next_reply`](Self::cut_before_next_reply) or
    /// [`cut_when_request_contains`](Self::cut_when_request_contains) has found its request.
    pub fn has_met_request(&self) -> bool {
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

    /// Whether this is the request of the trap. Its bytes may begin in what was sent before.
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
    // However the connection ends, both sides see a reset, as from a cut cable, and no end of file.
    reset_when_closed(&client);
    reset_when_closed(&server);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let doomed = AtomicBool::new(false);
    let mut switches = shared.switches.subscribe();
    // The first branch to end closes both ends of the connection.
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
    // This fails only for a connection that is already closed.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests;
