//! The client layer: one key for each logical request, kept across its retries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use idem_http::client::RetryLayer;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use crate::support::{Branch, Runs, Server, layer, request, run_number};

/// A response with a status and `Retry-After`, or an error of the connection.
type Reply = Result<(u16, Option<&'static str>), &'static str>;

/// A server that sends these replies in turn, and records the keys that it gets.
#[derive(Clone)]
struct Script {
    replies: Arc<Mutex<std::vec::IntoIter<Reply>>>,
    keys: Arc<Mutex<Vec<Option<String>>>>,
}

impl Script {
    fn new(replies: Vec<Reply>) -> Self {
        Self { replies: Arc::new(Mutex::new(replies.into_iter())), keys: Arc::default() }
    }

    fn keys(&self) -> Vec<Option<String>> {
        self.keys.lock().unwrap().clone()
    }
}

impl Service<Request<&'static str>> for Script {
    type Response = Response<()>;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Response<()>, &'static str>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), &'static str>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<&'static str>) -> Self::Future {
        assert_eq!(*request.body(), "payload");
        let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        self.keys.lock().unwrap().push(key);
        let reply = self.replies.lock().unwrap().next().expect("no further request is expected");
        std::future::ready(reply.map(|(status, retry_after)| {
            let mut response = Response::builder().status(status);
            if let Some(seconds) = retry_after {
                response = response.header("retry-after", seconds);
            }
            response.body(()).unwrap()
        }))
    }
}

fn post() -> Request<&'static str> {
    Request::post("/things").body("payload").unwrap()
}

/// What a client got, how long it took, and how often it asked.
#[derive(Debug, PartialEq, Eq)]
struct Exchange {
    result: Result<u16, &'static str>,
    took: Duration,
    attempts: usize,
}

async fn ask(replies: Vec<Reply>) -> Exchange {
    let script = Script::new(replies);
    let (client, started) = (RetryLayer::new().layer(script.clone()), Instant::now());
    let result = client.oneshot(post()).await.map(|response| response.status().as_u16());
    let keys = script.keys();
    assert!(keys.iter().all(|key| *key == keys[0] && key.is_some()), "{keys:?}");
    Exchange { result, took: started.elapsed(), attempts: keys.len() }
}

#[tokio::test(start_paused = true)]
async fn retries_keep_the_key_and_each_request_has_its_own() {
    let script = Script::new(vec![Err("reset"), Ok((503, None)), Ok((201, None)), Ok((201, None))]);
    let client = RetryLayer::new().layer(script.clone());
    assert_eq!(client.clone().oneshot(post()).await.unwrap().status(), 201);
    assert_eq!(client.oneshot(post()).await.unwrap().status(), 201);
    let keys = script.keys();
    assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[2] != keys[3], "{keys:?}");
    // A UUIDv4 as an RFC 8941 string.
    let key = keys[0].as_deref().unwrap();
    let uuid: uuid::Uuid = key.trim_matches('"').parse().unwrap();
    assert!(key.starts_with('"') && key.ends_with('"') && uuid.get_version_num() == 4, "{key}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let replies = vec![Ok((409, Some("2"))), Ok((503, Some("3"))), Ok((429, Some("0"))), Ok((201, None))];
    let expected = Exchange { result: Ok(201), took: Duration::from_secs(5), attempts: 4 };
    assert_eq!(ask(replies).await, expected);
    // The client does not wait longer than its own maximum.
    let expected = Exchange { result: Ok(201), took: Duration::from_secs(30), attempts: 2 };
    assert_eq!(ask(vec![Ok((503, Some("86400"))), Ok((201, None))]).await, expected);
}

#[tokio::test(start_paused = true)]
async fn pauses_without_retry_after_double_with_jitter_up_to_the_maximum() {
    let ask = async |replies| {
        let layer = RetryLayer::new().max_attempts(6).first_pause(Duration::from_secs(4));
        let (client, started) =
            (layer.max_pause(Duration::from_secs(8)).layer(Script::new(replies)), Instant::now());
        client.oneshot(post()).await.unwrap();
        started.elapsed().as_secs_f64()
    };
    // Pauses of 4 and 8 seconds. Jitter shortens each by up to a half.
    let took = ask(vec![Err("reset"), Ok((500, None)), Ok((201, None))]).await;
    assert!((6.0..=12.1).contains(&took), "{took}");
    let took = ask(vec![Err("reset"), Err("reset"), Err("reset"), Err("reset"), Ok((201, None))]).await;
    assert!((14.0..=28.1).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_a_retry_cannot_change_is_not_retried() {
    for status in [200, 303, 400, 401, 403, 404, 422, 501] {
        let expected = Exchange { result: Ok(status), took: Duration::ZERO, attempts: 1 };
        assert_eq!(ask(vec![Ok((status, Some("1")))]).await, expected);
    }
    // A conflict without `Retry-After` is final.
    let expected = Exchange { result: Ok(409), took: Duration::ZERO, attempts: 1 };
    assert_eq!(ask(vec![Ok((409, None))]).await, expected);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_is_returned_whatever_it_is() {
    for (reply, result) in [(Ok((500, None)), Ok(500)), (Err("reset"), Err("reset"))] {
        let exchange = ask(vec![reply; 5]).await;
        assert_eq!((exchange.result, exchange.attempts), (result, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_caller_chose_is_kept() {
    let script = Script::new(vec![Ok((500, None)), Ok((201, None))]);
    let mut request = post();
    request.headers_mut().insert("idempotency-key", "mine".parse().unwrap());
    RetryLayer::new().layer(script.clone()).oneshot(request).await.unwrap();
    assert_eq!(script.keys(), [Some("mine".to_owned()), Some("mine".to_owned())]);
}

#[tokio::test]
async fn methods_that_are_idempotent_by_themselves_are_sent_unchanged() {
    let script = Script::new(vec![Ok((503, None))]);
    let mut request = post();
    *request.method_mut() = http::Method::PUT;
    assert_eq!(RetryLayer::new().layer(script.clone()).oneshot(request).await.unwrap().status(), 503);
    assert_eq!(script.keys(), [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_connection_the_retry_gets_the_response_of_the_first_attempt() {
    let server = Arc::new(Server::gated(layer().build(), run_number).await);
    let attempts = Runs::default();
    let http_client = tower::service_fn({
        let server = Arc::clone(&server);
        move |request: Request<Full<Bytes>>| {
            let (server, attempts) = (Arc::clone(&server), attempts.clone());
            async move {
                if attempts.next() > 1 {
                    return Ok(server.send(request).await.into_response());
                }
                // The first connection is cut while the handler runs.
                let mut connection = server.connect().await;
                let sending = tokio::spawn(async move { connection.send_request(request).await.map(drop) });
                server.gate.entered().await;
                sending.abort();
                server.gate.open();
                Err("cut off")
            }
        }
    });
    let client = RetryLayer::new().first_pause(Duration::from_millis(1)).layer(http_client);
    let answer = client.oneshot(request(Branch::Fingerprint, "a")).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (201, &b"run 1"[..]));
    assert_eq!(server.runs.count(), 1);
}
