//! The key: missing, malformed, quoted or bare; and the methods and protocols that need none.

use axum::extract::Request;
use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use idem_core::Engine;
use idem_http::{
    IdempotencyKey, IdempotencyLayer, IdempotencyLayerBuilder, ProblemSpec, Scoped, WireOptions,
};

use crate::support::{Branch, Server, layer, request, run_number, scoped, store, text};

fn with_keys(keys: &[&[u8]]) -> http::Request<Full<Bytes>> {
    let mut request = request(Branch::Fingerprint, "payload");
    for key in keys {
        request.headers_mut().append("idempotency-key", http::HeaderValue::from_bytes(key).unwrap());
    }
    request
}

/// A layer only for requests with a key.
fn by_key() -> IdempotencyLayerBuilder<Scoped> {
    scoped(IdempotencyLayer::builder(Engine::builder(store()).build().unwrap()))
}

#[tokio::test]
async fn a_missing_key_is_refused_if_required_with_a_link_to_the_documentation() {
    let mut options = WireOptions::default();
    options.described_by = Some(http::Uri::from_static("https://example.com/idempotency"));
    let server = Server::start(by_key().require_key().wire_options(options).build(), run_number).await;
    let refused = server.send(with_keys(&[])).await;
    refused.assert_problem(400, "idempotency_key_missing");
    assert_eq!(refused.headers["link"], "<https://example.com/idempotency>; rel=\"describedby\"");
    assert_eq!(server.runs.count(), 0);
    server.send(with_keys(&[b"a"])).await.assert_first(201, "run 1");
}

#[tokio::test]
async fn a_request_without_a_key_bypasses_the_layer_if_none_is_required() {
    let server = Server::start(by_key().build(), run_number).await;
    server.send(with_keys(&[])).await.assert_first(201, "run 1");
    server.send(with_keys(&[])).await.assert_first(201, "run 2");
}

#[tokio::test]
async fn an_empty_malformed_long_or_doubled_key_is_refused_and_does_not_run() {
    let server = Server::start(layer().build(), run_number).await;
    let too_long = [b'x'; 256];
    let invalid: [&[&[u8]]; 9] = [
        &[b""],
        &[b"\"\""],
        &[b"\"open"],
        &[b"a\"b"],
        &[b"tab\there"],
        &[b"k\xc3\xa4se"],
        &[&too_long],
        &[b"a", b"b"],
        &[b"a", b"a"],
    ];
    for keys in invalid {
        server.send(with_keys(keys)).await.assert_problem(400, "idempotency_key_invalid");
    }
    assert_eq!(server.runs.count(), 0);
}

#[tokio::test]
async fn the_quoted_and_the_bare_form_are_one_key() {
    let server = Server::start(layer().build(), run_number).await;
    server.send(with_keys(&[b"\"8e03978e\""])).await.assert_first(201, "run 1");
    server.send(with_keys(&[b"8e03978e"])).await.assert_replay(201, "run 1");
    server.send(with_keys(&[b"8E03978E"])).await.assert_first(201, "run 2");
}

#[tokio::test]
async fn the_handler_sees_the_key_if_the_client_sent_one() {
    let server = Server::start(layer().build(), |_, request: Request| async move {
        let key = request.extensions().get::<IdempotencyKey>().map(|key| key.as_str().to_owned());
        text(200, format!("{key:?}"))
    })
    .await;
    server.send(with_keys(&[b"\"a\""])).await.assert_first(200, "Some(\"a\")");
    server.send(with_keys(&[])).await.assert_first(200, "None");
}

#[tokio::test]
async fn a_clients_key_cannot_name_a_request_without_a_key() {
    let server = Server::start(layer().build(), run_number).await;
    server.send(with_keys(&[])).await.assert_first(201, "run 1");
    // The name under which the layer stores the same request without a key.
    let fingerprint = idem_core::Fingerprint::from_parts([&b"POST"[..], b"/things", b"", b"payload"]);
    let name = fingerprint.as_bytes().map(|byte| format!("{byte:02x}")).concat();
    server.send(with_keys(&[name.as_bytes()])).await.assert_first(201, "run 2");
    server.send(with_keys(&[])).await.assert_replay(201, "run 1");
}

#[tokio::test]
async fn safe_and_idempotent_methods_bypass_the_layer_even_with_a_key() {
    let server = Server::start(layer().build(), run_number).await;
    let mut runs = 0;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        for _ in 0..2 {
            runs += 1;
            let mut request = request(Branch::Key, "a");
            *request.method_mut() = method.clone();
            server.send(request).await.assert_first(201, &format!("run {runs}"));
        }
    }
}

#[tokio::test]
async fn only_the_configured_methods_are_guarded() {
    let server = Server::start(layer().methods([Method::PUT]).build(), run_number).await;
    let put = || {
        let mut request = request(Branch::Key, "a");
        *request.method_mut() = Method::PUT;
        request
    };
    server.send(put()).await.assert_first(201, "run 1");
    server.send(put()).await.assert_replay(201, "run 1");
    server.post(Branch::Key, "a").await.assert_first(201, "run 2");
    server.post(Branch::Key, "a").await.assert_first(201, "run 3");
}

#[tokio::test]
async fn grpc_and_upgrades_bypass_the_layer_and_an_offer_of_http_2_does_not() {
    let server = Server::start(layer().build(), run_number).await;
    let with = |headers: &[(&'static str, &'static str)]| {
        let mut request = request(Branch::Key, "a");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request
    };
    for run in 1..=2 {
        let grpc = with(&[("content-type", "application/grpc+proto")]);
        server.send(grpc).await.assert_first(201, &format!("run {run}"));
    }
    for run in 3..=4 {
        let websocket = with(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        server.send(websocket).await.assert_first(201, &format!("run {run}"));
    }
    // Some clients send this offer with their first request.
    let offer = || with(&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]);
    server.send(offer()).await.assert_first(201, "run 5");
    server.send(offer()).await.assert_replay(201, "run 5");
}

#[tokio::test]
async fn header_names_codes_and_statuses_are_configurable() {
    let mut options = WireOptions::default();
    options.key_header = http::HeaderName::from_static("x-token");
    options.replayed_header = http::HeaderName::from_static("x-again");
    options.reused = ProblemSpec::new(http::StatusCode::CONFLICT, "token_reused", "The token was used.");
    let server = Server::start(by_key().wire_options(options).build(), run_number).await;
    let with = |body: &'static str| {
        let mut request = request(Branch::Fingerprint, body);
        request.headers_mut().insert("x-token", "a".parse().unwrap());
        request
    };
    server.send(with("one")).await.assert_first(201, "run 1");
    assert_eq!(server.send(with("one")).await.headers["x-again"], "true");
    server.send(with("two")).await.assert_problem(409, "token_reused");
}
