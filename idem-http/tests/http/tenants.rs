//! Tenants share nothing.

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::Full;
use idem_core::Engine;
use idem_http::{IdempotencyLayer, Scope, ScopeError};

use crate::support::{Branch, Gate, Server, layer, on_both_branches, request, store, text};

on_both_branches![
    the_same_request_of_two_tenants_runs_twice_and_each_gets_its_own_response,
    a_request_that_runs_for_one_tenant_is_not_in_progress_for_another,
    a_request_without_a_scope_is_refused_before_anything_else,
];

fn of(tenant: &'static str, request: http::Request<Full<Bytes>>) -> http::Request<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    parts.headers.insert("tenant", tenant.parse().unwrap());
    http::Request::from_parts(parts, body)
}

async fn for_its_tenant(run: usize, request: Request) -> Response {
    text(201, format!("run {run} for {}", request.headers()["tenant"].to_str().unwrap()))
}

async fn the_same_request_of_two_tenants_runs_twice_and_each_gets_its_own_response(branch: Branch) {
    let server = Server::start(layer().build(), for_its_tenant).await;
    server.send(of("a", request(branch, "x"))).await.assert_first(201, "run 1 for a");
    server.send(of("b", request(branch, "x"))).await.assert_first(201, "run 2 for b");
    server.send(of("a", request(branch, "x"))).await.assert_replay(201, "run 1 for a");
    server.send(of("b", request(branch, "x"))).await.assert_replay(201, "run 2 for b");
}

async fn a_request_that_runs_for_one_tenant_is_not_in_progress_for_another(branch: Branch) {
    let gate = Gate::closed();
    let held = gate.clone();
    let server = Server::start(layer().build(), move |run, request: Request| {
        let gate = held.clone();
        async move {
            if request.headers()["tenant"] == "a" {
                gate.enter().await;
            }
            for_its_tenant(run, request).await
        }
    })
    .await;
    let (first, ()) = tokio::join!(server.send(of("a", request(branch, "x"))), async {
        gate.entered().await;
        server.send(of("b", request(branch, "x"))).await.assert_first(201, "run 2 for b");
        gate.release_one();
    });
    first.assert_first(201, "run 1 for a");
}

async fn a_request_without_a_scope_is_refused_before_anything_else(branch: Branch) {
    let engine = || Engine::builder(store()).build().unwrap();
    let layer = IdempotencyLayer::builder(engine())
        .fingerprint(engine())
        .scope(|parts| match parts.headers.get("tenant").map(http::HeaderValue::as_bytes) {
            Some(b"banned") => Err(ScopeError::refused(http::StatusCode::FORBIDDEN)),
            Some(tenant) => Scope::principal(tenant),
            None => Err(ScopeError::unauthenticated()),
        })
        .build();
    let server = Server::start(layer, for_its_tenant).await;
    server.send(of("a", request(branch, "x"))).await.assert_first(201, "run 1 for a");
    server.send(request(branch, "x")).await.assert_problem(401, "idempotency_scope_refused");
    server.send(of("", request(branch, "x"))).await.assert_problem(401, "idempotency_scope_refused");
    server.send(of("banned", request(branch, "x"))).await.assert_problem(403, "idempotency_scope_refused");
    let mut invalid = request(branch, "x");
    invalid.headers_mut().insert("idempotency-key", "\"open".parse().unwrap());
    server.send(invalid).await.assert_problem(401, "idempotency_scope_refused");
    assert_eq!(server.runs.count(), 1);
}

#[tokio::test]
async fn outer_layers_authorise_every_replay() {
    use axum::Router;
    use axum::middleware::{Next, from_fn};

    async fn authorise(request: Request, next: Next) -> Response {
        if request.headers().contains_key("revoked") { text(403, "revoked") } else { next.run(request).await }
    }

    let runs = crate::support::Runs::default();
    let counted = runs.clone();
    let router = Router::new()
        .fallback(move || async move { text(201, format!("run {}", counted.next())) })
        .layer(layer().build())
        .layer(from_fn(authorise));
    let server = Server::serve(router, runs).await;
    server.post(Branch::Key, "a").await.assert_first(201, "run 1");
    let mut revoked = request(Branch::Key, "a");
    revoked.headers_mut().insert("revoked", "yes".parse().unwrap());
    server.send(revoked).await.assert_first(403, "revoked");
    server.post(Branch::Key, "a").await.assert_replay(201, "run 1");
}

#[tokio::test]
async fn an_unscoped_layer_shares_responses_between_all_clients() {
    let layer = IdempotencyLayer::builder(Engine::builder(store()).build().unwrap()).unscoped().build();
    let server = Server::start(layer, for_its_tenant).await;
    server.send(of("a", request(Branch::Key, "x"))).await.assert_first(201, "run 1 for a");
    server.send(of("b", request(Branch::Key, "x"))).await.assert_replay(201, "run 1 for a");
}
