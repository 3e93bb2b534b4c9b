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
    assert!(!proxy.has_met_request());
    assert!(ask(&mut client, b'b').await.is_err());
    assert!(proxy.has_met_request());
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
