//! Bodies that are slow, chunked, too long or broken.

use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::Full;
use idem_core::Engine;
use idem_http::RequestBody;
use idem_memory::MemoryStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Answer, Branch, Frames, Server, data, keyed, layer, layer_of, on_both_branches, request, text,
};

on_both_branches![
    a_chunked_body_is_the_same_payload_as_an_unchunked_one,
    nothing_is_reserved_before_the_body_has_arrived,
    a_body_that_breaks_off_reserves_nothing,
    a_body_over_the_limit_is_refused_and_reserves_nothing,
    a_request_is_in_progress_until_its_response_is_complete,
    a_response_that_breaks_off_is_abandoned_and_the_retry_runs,
    a_response_shorter_than_its_content_length_is_not_stored,
];

async fn echo(run: usize, request: Request) -> Response {
    let body = to_bytes(request.into_body(), 1 << 24).await.unwrap();
    text(201, format!("run {run}: {}", String::from_utf8_lossy(&body)))
}

/// The head of `POST /things` as bytes, for requests that no correct client sends.
fn head(branch: Branch, further: &str) -> String {
    let key = if branch == Branch::Key { "idempotency-key: a\r\n" } else { "" };
    format!("POST /things HTTP/1.1\r\nhost: localhost\r\n{key}{further}\r\n\r\n")
}

async fn a_chunked_body_is_the_same_payload_as_an_unchunked_one(branch: Branch) {
    let server = Server::start(layer().build(), echo).await;
    let chunked = request(branch, "abc").map(|_| Frames::of([data("a"), data("b"), data("c")]));
    server.send_body(chunked).await.assert_first(201, "run 1: abc");
    server.post(branch, "abc").await.assert_replay(201, "run 1: abc");
}

async fn nothing_is_reserved_before_the_body_has_arrived(branch: Branch) {
    let store = Arc::new(MemoryStore::new());
    let server = Server::start(layer_of(&Engine::builder(Arc::clone(&store))).build(), echo).await;
    let (sender, body) = Frames::new();
    let mut connection = server.connect().await;
    let slow = tokio::spawn(connection.send_request(request(branch, "abc").map(|_| body)));
    sender.send(data("ab")).unwrap();
    // The first complete request runs. A request whose body may never arrive is not in progress.
    server.post(branch, "abc").await.assert_first(201, "run 1: abc");
    sender.send(data("c")).unwrap();
    drop(sender);
    let slow = Answer::read(slow.await.unwrap().unwrap()).await;
    slow.assert_replay(201, "run 1: abc");
    assert_eq!(store.records(), 1);
}

async fn a_body_that_breaks_off_reserves_nothing(branch: Branch) {
    let store = Arc::new(MemoryStore::new());
    let server = Server::start(layer_of(&Engine::builder(Arc::clone(&store))).build(), echo).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(format!("{}ab", head(branch, "content-length: 3")).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!((server.runs.count(), store.records()), (0, 0));
}

async fn a_body_over_the_limit_is_refused_and_reserves_nothing(branch: Branch) {
    let store = Arc::new(MemoryStore::new());
    let layer = layer_of(&Engine::builder(Arc::clone(&store))).max_request_bytes(10).build();
    let server = Server::start(layer, echo).await;
    server.send(keyed(branch, "a", "0123456789!")).await.assert_problem(413, "request_body_too_large");
    // The layer reads a bounded part of it: this client sends the whole body before it reads the response.
    let long = keyed(branch, "a", vec![b'x'; 200_000]);
    server.send(long).await.assert_problem(413, "request_body_too_large");
    let chunked = request(branch, "a").map(|_| Frames::of([data("01234"), data("56789"), data("!")]));
    server.send_body(chunked).await.assert_problem(413, "request_body_too_large");
    assert_eq!((server.runs.count(), store.records()), (0, 0));
    server.send(keyed(branch, "a", "0123456789")).await.assert_first(201, "run 1: 0123456789");
}

async fn a_request_is_in_progress_until_its_response_is_complete(branch: Branch) {
    let (sender, body) = Frames::new();
    let body = Arc::new(Mutex::new(Some(body)));
    let server = Server::gated(layer().build(), move |_, _| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(Body::new(body)) }
    })
    .await;
    server.gate.open();
    let (first, ()) = tokio::join!(server.post(branch, "a"), async {
        server.gate.entered().await;
        sender.send(data("begin ")).unwrap();
        server.post(branch, "a").await.assert_problem(409, "idempotency_key_in_progress");
        sender.send(data("end")).unwrap();
        drop(sender);
    });
    first.assert_first(200, "begin end");
    server.post(branch, "a").await.assert_replay(200, "begin end");
}

async fn a_response_that_breaks_off_is_abandoned_and_the_retry_runs(branch: Branch) {
    let server = Server::start(layer().build(), |run, _| async move {
        let end = if run == 1 { Err("the upstream is gone") } else { data("end") };
        Response::new(Body::new(Frames::of([data("begin "), end])))
    })
    .await;
    server.post(branch, "a").await.assert_problem(500, "handler_failed");
    server.post(branch, "a").await.assert_first(200, "begin end");
    server.post(branch, "a").await.assert_replay(200, "begin end");
}

async fn a_response_shorter_than_its_content_length_is_not_stored(branch: Branch) {
    let server = Server::start(layer().build(), |run, _| async move {
        let frames: &[_] = if run == 1 { &["begin "] } else { &["begin ", "end"] };
        let mut response = Response::new(Body::new(Frames::of(frames.iter().map(|frame| data(frame)))));
        response.headers_mut().insert("content-length", 9.into());
        response
    })
    .await;
    server.post(branch, "a").await.assert_problem(500, "handler_failed");
    server.post(branch, "a").await.assert_first(200, "begin end");
    server.post(branch, "a").await.assert_replay(200, "begin end");
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_refused_without_a_request_for_its_body() {
    let server = Server::start(layer().max_request_bytes(10).build(), echo).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = head(Branch::Key, "expect: 100-continue\r\ncontent-length: 11");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_limit_of_an_outer_layer_is_a_413_too() {
    use tower::ServiceExt;

    let layer = layer().build();
    let inner = tower::service_fn(|_: http::Request<RequestBody<_>>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
    });
    let service = tower::Layer::layer(&layer, inner);
    let limited = http_body_util::Limited::new(Full::new(Bytes::from_static(b"0123456789!")), 10);
    let limited = Body::new(limited); // axum wraps the error
    let answer = service.oneshot(request(Branch::Key, "a").map(|_| limited)).await.unwrap();
    assert_eq!(answer.status(), 413);
}
