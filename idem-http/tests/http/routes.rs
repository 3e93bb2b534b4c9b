//! The operation that a key belongs to: inside an axum router the matched route, outside it the path.

use axum::Router;
use axum::routing::post;
use idem_core::Engine;
use idem_http::extract::{Attempt, IdempotencyKey};
use idem_http::{IdempotencyLayer, Scope};
use tower::{Layer, ServiceExt};

use crate::support::{Answer, Branch, Runs, Server, layer, request, store, text};

fn to(path: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = request(Branch::Key, "a");
    *request.uri_mut() = path.parse().unwrap();
    request
}

fn counting(runs: &Runs) -> Router {
    let handler = || {
        let runs = runs.clone();
        post(async move || text(201, format!("run {}", runs.next())))
    };
    Router::new().route("/{kind}", handler()).route("/other/{kind}", handler())
}

#[tokio::test]
async fn inside_a_router_a_key_belongs_to_the_route() {
    let runs = Runs::default();
    let server = Server::serve(counting(&runs).layer(layer().build()), runs.clone()).await;
    server.send(to("/db")).await.assert_first(201, "run 1");
    server.send(to("/db")).await.assert_replay(201, "run 1");
    // Another request to the same operation.
    server.send(to("/cache")).await.assert_problem(422, "idempotency_key_reused");
    // Another operation.
    server.send(to("/other/db")).await.assert_first(201, "run 2");
}

#[tokio::test]
async fn outside_a_router_a_key_belongs_to_the_path() {
    let runs = Runs::default();
    let service = layer().build().layer(counting(&runs));
    let ask = async |path| {
        let request = to(path).map(axum::body::Body::new);
        Answer::read(service.clone().oneshot(request).await.unwrap()).await
    };
    ask("/db").await.assert_first(201, "run 1");
    ask("/cache").await.assert_first(201, "run 2");
    ask("/db").await.assert_replay(201, "run 1");
}

#[tokio::test]
async fn the_same_route_in_two_nested_routers_is_two_operations() {
    let runs = Runs::default();
    let layer = layer().build();
    let nested = || counting(&runs).layer(layer.clone());
    let router = Router::new().nest("/v1", nested()).nest("/v2", nested());
    let server = Server::serve(router, runs.clone()).await;
    server.send(to("/v1/db")).await.assert_first(201, "run 1");
    server.send(to("/v2/db")).await.assert_first(201, "run 2");
    server.send(to("/v1/db")).await.assert_replay(201, "run 1");
    server.send(to("/v2/cache")).await.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_layer_that_is_applied_twice_guards_once() {
    let runs = Runs::default();
    let layer = layer().build();
    let router = Router::new().nest("/v1", counting(&runs).layer(layer.clone())).layer(layer);
    let server = Server::serve(router, runs.clone()).await;
    server.send(to("/v1/db")).await.assert_first(201, "run 1");
    server.send(to("/v1/db")).await.assert_replay(201, "run 1");
}

#[tokio::test]
async fn the_service_can_name_the_operation() {
    let engine = Engine::builder(store()).build().unwrap();
    let builder = IdempotencyLayer::builder(engine).scope(|_| Scope::principal("me"));
    let layer = builder.operation(|_| "one for all".to_owned()).build();
    let runs = Runs::default();
    let server = Server::serve(counting(&runs).layer(layer), runs.clone()).await;
    server.send(to("/db")).await.assert_first(201, "run 1");
    server.send(to("/other/db")).await.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn handlers_extract_the_attempt_and_the_key() {
    async fn handler(attempt: Attempt, key: Option<IdempotencyKey>) -> String {
        assert_eq!(attempt.downstream_key().len(), 32);
        format!("attempt {} of {:?}", attempt.number, key.map(|key| key.as_str().to_owned()))
    }
    let router = Router::new().route("/things", post(handler)).layer(layer().build());
    let server = Server::serve(router, Runs::default()).await;
    server.post(Branch::Key, "a").await.assert_first(200, "attempt 1 of Some(\"a\")");
    server.post(Branch::Fingerprint, "a").await.assert_first(200, "attempt 1 of None");
}

#[tokio::test]
async fn extracting_an_attempt_without_a_guard_is_a_500() {
    let router = Router::new().route("/things", post(async |_: Attempt| "never"));
    let server = Server::serve(router, Runs::default()).await;
    assert_eq!(server.post(Branch::Key, "a").await.status, 500);
}
