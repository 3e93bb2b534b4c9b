//! Ten thousand requests with one key.

use std::sync::Arc;
use std::time::Duration;

use idem_core::{Engine, InFlightPolicy};
use tokio::task::JoinSet;

use crate::support::{
    Answer, App, Branch, Server, layer, layer_of, on_both_branches, request, run_number, store,
};

on_both_branches![
    of_ten_thousand_requests_with_one_key_one_runs_and_the_others_get_409_or_a_replay,
    ten_thousand_waiting_requests_with_one_key_all_get_the_response_of_one_run,
    of_two_hundred_requests_sent_at_once_one_runs,
];

async fn ask(app: Arc<App>, branch: Branch) -> Answer {
    app.ask(request(branch, "hot")).await
}

async fn of_ten_thousand_requests_with_one_key_one_runs_and_the_others_get_409_or_a_replay(branch: Branch) {
    let app = Arc::new(App::gated(layer().build(), run_number));
    let mut asking = JoinSet::new();
    asking.spawn(ask(Arc::clone(&app), branch));
    app.gate.entered().await;
    for _ in 0..5_000 {
        asking.spawn(ask(Arc::clone(&app), branch));
    }
    // While the first request is held, all others get their responses.
    for _ in 0..5_000 {
        asking.join_next().await.unwrap().unwrap().assert_problem(409, "idempotency_key_in_progress");
    }
    app.gate.release_one();
    asking.join_next().await.unwrap().unwrap().assert_first(201, "run 1");
    for _ in 0..5_000 {
        asking.spawn(ask(Arc::clone(&app), branch));
    }
    while let Some(answer) = asking.join_next().await {
        answer.unwrap().assert_replay(201, "run 1");
    }
    assert_eq!(app.runs.count(), 1);
}

async fn ten_thousand_waiting_requests_with_one_key_all_get_the_response_of_one_run(branch: Branch) {
    let waiting = InFlightPolicy::Wait { timeout: Duration::from_secs(600) };
    let layer = layer_of(&Engine::builder(store()).in_flight(waiting)).build();
    let app = Arc::new(App::gated(layer, run_number));
    let mut asking = JoinSet::new();
    for _ in 0..10_000 {
        asking.spawn(ask(Arc::clone(&app), branch));
    }
    app.gate.entered().await;
    app.gate.release_one();
    let mut first = 0;
    while let Some(answer) = asking.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (201, &b"run 1"[..]));
        first += usize::from(!answer.is_replay());
    }
    assert_eq!((first, app.runs.count()), (1, 1));
}

async fn of_two_hundred_requests_sent_at_once_one_runs(branch: Branch) {
    let server = Arc::new(Server::gated(layer().build(), run_number).await);
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
    server.gate.release_one();
    asking.join_next().await.unwrap().unwrap().assert_first(201, "run 1");
    assert_eq!(server.runs.count(), 1);
}
