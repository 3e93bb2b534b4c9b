//! Ten thousand requests of one key.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use idem_core::{Engine, InFlightPolicy};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::support::{
    Answer, Branch, Gate, Runs, Server, layer, layer_of, on_both_branches, request, store, text,
};

on_both_branches![
    of_ten_thousand_requests_of_one_key_one_runs_and_the_others_are_refused_or_replayed,
    ten_thousand_waiting_requests_of_one_key_are_all_given_the_answer_of_one_run,
    of_two_hundred_connections_that_ask_at_once_one_runs,
];

fn app(layer: idem_http::IdempotencyLayer, gate: &Gate) -> (Router, Runs) {
    let runs = Runs::default();
    let (counted, gate) = (runs.clone(), gate.clone());
    let handler = move || {
        let run = counted.one_more();
        let gate = gate.clone();
        async move {
            gate.pass().await;
            text(201, format!("run {run}"))
        }
    };
    (Router::new().fallback(handler).layer(layer), runs)
}

async fn ask(app: Router, branch: Branch) -> Answer {
    Answer::read(app.oneshot(request(branch, "hot").map(Body::new)).await.unwrap()).await
}

async fn of_ten_thousand_requests_of_one_key_one_runs_and_the_others_are_refused_or_replayed(branch: Branch) {
    let gate = Gate::closed();
    let (app, runs) = app(layer().build(), &gate);
    let mut asking = JoinSet::new();
    asking.spawn(ask(app.clone(), branch));
    gate.somebody().await;
    for _ in 0..5_000 {
        asking.spawn(ask(app.clone(), branch));
    }
    // All but the one that is held are answered while it runs.
    for _ in 0..5_000 {
        asking.join_next().await.unwrap().unwrap().assert_problem(409, "idempotency_key_in_progress");
    }
    gate.let_one_go();
    asking.join_next().await.unwrap().unwrap().assert_first(201, "run 1");
    for _ in 0..5_000 {
        asking.spawn(ask(app.clone(), branch));
    }
    while let Some(answer) = asking.join_next().await {
        answer.unwrap().assert_replay(201, "run 1");
    }
    assert_eq!(runs.count(), 1);
}

async fn ten_thousand_waiting_requests_of_one_key_are_all_given_the_answer_of_one_run(branch: Branch) {
    let gate = Gate::closed();
    let waiting = InFlightPolicy::Wait { timeout: Duration::from_secs(600) };
    let (app, runs) = app(layer_of(&Engine::builder(store()).in_flight(waiting)).build(), &gate);
    let mut asking = JoinSet::new();
    for _ in 0..10_000 {
        asking.spawn(ask(app.clone(), branch));
    }
    gate.somebody().await;
    gate.let_one_go();
    let mut first = 0;
    while let Some(answer) = asking.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (201, &b"run 1"[..]));
        first += usize::from(!answer.is_replay());
    }
    assert_eq!((first, runs.count()), (1, 1));
}

async fn of_two_hundred_connections_that_ask_at_once_one_runs(branch: Branch) {
    let gate = Gate::closed();
    let (app, runs) = app(layer().build(), &gate);
    let server = Arc::new(Server::serve(app, runs).await);
    let at_once = Arc::new(tokio::sync::Barrier::new(200));
    let mut asking = JoinSet::new();
    for _ in 0..200 {
        let (server, at_once) = (Arc::clone(&server), Arc::clone(&at_once));
        asking.spawn(async move {
            let mut connection = server.connect().await;
            at_once.wait().await;
            Answer::read(connection.send_request(request(branch, "hot")).await.unwrap()).await
        });
    }
    for _ in 0..199 {
        asking.join_next().await.unwrap().unwrap().assert_problem(409, "idempotency_key_in_progress");
    }
    gate.let_one_go();
    asking.join_next().await.unwrap().unwrap().assert_first(201, "run 1");
    assert_eq!(server.runs.count(), 1);
}
