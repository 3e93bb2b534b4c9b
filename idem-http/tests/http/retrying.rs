//! The client's side: one key for every logical request, kept across its retries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use idem_http::client::RetryLayer;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use crate::support::{Branch, Gate, Server, layer, text};

/// A status and a `Retry-After`, or an error of the connection.
type Told = Result<(u16, Option<&'static str>), &'static str>;
type Answers = Vec<Told>;

/// A server that gives these answers in turn, and remembers the keys that it was sent.
#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<std::vec::IntoIter<Told>>>,
    keys: Arc<Mutex<Vec<Option<String>>>>,
}

impl Script {
    fn of(answers: Answers) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter())), keys: Arc::default() }
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
        let answer = self.answers.lock().unwrap().next().expect("no further request is expected");
        std::future::ready(answer.map(|(status, retry_after)| {
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

/// What the client is answered, how long it took, and how often it asked.
async fn ask(answers: Answers) -> (Result<u16, &'static str>, Duration, usize) {
    let script = Script::of(answers);
    let (client, started) = (RetryLayer::new().layer(script.clone()), Instant::now());
    let answer = client.oneshot(post()).await.map(|response| response.status().as_u16());
    let keys = script.keys();
    assert!(keys.iter().all(|key| *key == keys[0] && key.is_some()), "{keys:?}");
    (answer, started.elapsed(), keys.len())
}

#[tokio::test(start_paused = true)]
async fn every_retry_has_the_key_of_the_first_try_and_every_request_another() {
    let script = Script::of(vec![Err("reset"), Ok((503, None)), Ok((201, None)), Ok((201, None))]);
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
    let answers = vec![Ok((409, Some("2"))), Ok((503, Some("3"))), Ok((429, Some("0"))), Ok((201, None))];
    assert_eq!(ask(answers).await, (Ok(201), Duration::from_secs(5), 4));
    // Up to a bound of the client's own.
    assert_eq!(
        ask(vec![Ok((503, Some("86400"))), Ok((201, None))]).await,
        (Ok(201), Duration::from_secs(30), 2)
    );
}

#[tokio::test(start_paused = true)]
async fn what_asking_again_cannot_change_is_not_asked_again() {
    for status in [200, 303, 400, 401, 403, 404, 422, 501] {
        assert_eq!(ask(vec![Ok((status, Some("1")))]).await, (Ok(status), Duration::ZERO, 1));
    }
    // A conflict that names no time is not one that will pass.
    assert_eq!(ask(vec![Ok((409, None))]).await, (Ok(409), Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_is_the_answer_whatever_it_is() {
    let (answer, _, asked) = ask(vec![Ok((500, None)); 5]).await;
    assert_eq!((answer, asked), (Ok(500), 5));
    let (answer, _, asked) = ask(vec![Err("reset"); 5]).await;
    assert_eq!((answer, asked), (Err("reset"), 5));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_caller_chose_is_kept() {
    let script = Script::of(vec![Ok((500, None)), Ok((201, None))]);
    let mut request = post();
    request.headers_mut().insert("idempotency-key", "mine".parse().unwrap());
    RetryLayer::new().layer(script.clone()).oneshot(request).await.unwrap();
    assert_eq!(script.keys(), [Some("mine".to_owned()), Some("mine".to_owned())]);
}

#[tokio::test]
async fn methods_that_are_idempotent_by_themselves_are_passed_on_as_they_are() {
    let script = Script::of(vec![Ok((503, None))]);
    let mut request = post();
    *request.method_mut() = http::Method::PUT;
    assert_eq!(RetryLayer::new().layer(script.clone()).oneshot(request).await.unwrap().status(), 503);
    assert_eq!(script.keys(), [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn against_the_layer_a_client_that_was_cut_off_is_given_the_answer_of_its_first_try() {
    let gate = Gate::closed();
    let held = gate.clone();
    let server = Server::start(layer().build(), move |run, _| {
        let gate = held.clone();
        async move {
            gate.pass().await;
            text(201, format!("run {run}"))
        }
    })
    .await;
    let server = Arc::new(server);
    let tries = crate::support::Runs::default();
    let http_client = tower::service_fn({
        let (server, gate) = (Arc::clone(&server), gate.clone());
        move |request: Request<Full<Bytes>>| {
            let (server, gate, tries) = (Arc::clone(&server), gate.clone(), tries.clone());
            async move {
                if tries.one_more() > 1 {
                    return Ok(server.send(request).await.into_response());
                }
                // The first connection is cut while the handler runs.
                let mut connection = server.connect().await;
                let sending = tokio::spawn(async move { connection.send_request(request).await.map(drop) });
                gate.somebody().await;
                sending.abort();
                gate.open();
                Err("cut off")
            }
        }
    });
    let client = RetryLayer::new().first_pause(Duration::from_millis(1)).layer(http_client);
    let request = crate::support::request(Branch::Fingerprint, "a");
    let answer = client.oneshot(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (201, &b"run 1"[..]));
    assert_eq!(server.runs.count(), 1);
}
