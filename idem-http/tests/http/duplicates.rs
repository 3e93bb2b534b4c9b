//! What the layer is for: a duplicate that comes while the first request runs, and one that comes after it.

use std::time::Duration;

use axum::response::Response;
use idem_conformance::Fault;
use idem_core::{Engine, ExpiredLeasePolicy, InFlightPolicy, Operation};
use idem_memory::MemoryStore;

use crate::support::{
    Answer, Branch, Gate, Server, keyed, layer, layer_of, on_both_branches, request, store, text,
};

on_both_branches![
    while_the_first_is_held_in_its_handler_a_duplicate_is_answered_409_and_does_not_run,
    a_duplicate_after_completion_is_given_the_same_answer,
    a_waiting_duplicate_is_given_the_answer_of_the_first,
    a_waiting_duplicate_is_told_409_when_its_patience_ends,
    a_client_that_hangs_up_cancels_nothing_and_its_retry_is_a_replay,
    retry_after_is_the_rest_of_the_lease_up_to_the_cap,
    a_run_that_loses_its_lease_is_answered_with_what_was_accepted_and_never_with_its_own_body,
    a_run_that_loses_its_lease_and_fails_is_answered_with_what_was_accepted_too,
    a_run_that_loses_its_lease_while_another_still_runs_is_told_409,
    an_expired_lease_that_may_not_be_taken_over_is_an_unknown_outcome,
    a_response_waits_for_its_completion,
];

async fn while_the_first_is_held_in_its_handler_a_duplicate_is_answered_409_and_does_not_run(branch: Branch) {
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
    let (first, ()) = tokio::join!(server.post(branch, "a"), async {
        gate.somebody().await;
        let duplicate = server.post(branch, "a").await;
        duplicate.assert_problem(409, "idempotency_key_in_progress");
        assert_eq!(duplicate.headers["retry-after"], "1");
        // Only now may the first one end.
        gate.let_one_go();
    });
    first.assert_first(201, "run 1");
    server.post(branch, "a").await.assert_replay(201, "run 1");
    assert_eq!(server.runs.count(), 1);
}

async fn a_duplicate_after_completion_is_given_the_same_answer(branch: Branch) {
    let server = Server::start(layer().build(), |run, _| async move {
        let mut response = text(201, format!("run {run}"));
        response.headers_mut().insert("location", "/things/1".parse().unwrap());
        response
    })
    .await;
    let first = server.post(branch, "a").await;
    first.assert_first(201, "run 1");
    for _ in 0..3 {
        let replay = server.post(branch, "a").await;
        replay.assert_replay(201, "run 1");
        assert_eq!(replay.headers["location"], "/things/1");
    }
    server.post(branch, "b").await.assert_first(201, "run 2");
}

async fn a_waiting_duplicate_is_given_the_answer_of_the_first(branch: Branch) {
    let gate = Gate::closed();
    let held = gate.clone();
    let waiting = InFlightPolicy::Wait { timeout: Duration::from_secs(600) };
    let server =
        Server::start(layer_of(&Engine::builder(store()).in_flight(waiting)).build(), move |run, _| {
            let gate = held.clone();
            async move {
                gate.pass().await;
                text(201, format!("run {run}"))
            }
        })
        .await;
    let (first, second, ()) = tokio::join!(server.post(branch, "a"), server.post(branch, "a"), async {
        gate.somebody().await;
        gate.let_one_go();
    });
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert!(
        first.is_replay() != second.is_replay(),
        "one of them ran, and the other one waited or came late"
    );
    assert_eq!(server.runs.count(), 1);
}

async fn a_waiting_duplicate_is_told_409_when_its_patience_ends(branch: Branch) {
    let gate = Gate::closed();
    let held = gate.clone();
    let waiting = InFlightPolicy::Wait { timeout: Duration::from_millis(1) };
    let server =
        Server::start(layer_of(&Engine::builder(store()).in_flight(waiting)).build(), move |_, _| {
            let gate = held.clone();
            async move {
                gate.pass().await;
                text(201, "")
            }
        })
        .await;
    let (first, ()) = tokio::join!(server.post(branch, "a"), async {
        gate.somebody().await;
        server.post(branch, "a").await.assert_problem(409, "idempotency_key_in_progress");
        gate.let_one_go();
    });
    first.assert_first(201, "");
}

async fn a_client_that_hangs_up_cancels_nothing_and_its_retry_is_a_replay(branch: Branch) {
    let (gate, ended) = (Gate::closed(), Gate::closed());
    let (held, told) = (gate.clone(), ended.clone());
    let server = Server::start(layer().build(), move |run, _| {
        let (gate, ended) = (held.clone(), told.clone());
        async move {
            gate.pass().await;
            ended.pass().await;
            text(201, format!("run {run}"))
        }
    })
    .await;
    ended.open();
    let mut connection = server.connect().await;
    let hanging_up =
        tokio::spawn(async move { connection.send_request(request(branch, "a")).await.map(drop) });
    gate.somebody().await;
    hanging_up.abort();
    assert!(hanging_up.await.unwrap_err().is_cancelled());

    gate.let_one_go();
    ended.somebody().await;
    let retry = loop {
        // The handler has ended, and its answer is being stored.
        let retry = server.post(branch, "a").await;
        if retry.status != 409 {
            break retry;
        }
    };
    retry.assert_replay(201, "run 1");
    assert_eq!(server.runs.count(), 1);
}

async fn retry_after_is_the_rest_of_the_lease_up_to_the_cap(branch: Branch) {
    for (cap, expected) in [(20, "20"), (600, "60")] {
        let gate = Gate::closed();
        let held = gate.clone();
        let layer = layer().retry_after_at_most(Duration::from_secs(cap)).build();
        let server = Server::start(layer, move |_, _| {
            let gate = held.clone();
            async move {
                gate.pass().await;
                text(201, "")
            }
        })
        .await;
        tokio::join!(server.post(branch, "a"), async {
            gate.somebody().await;
            assert_eq!(server.post(branch, "a").await.headers["retry-after"], expected);
            gate.let_one_go();
        });
    }
}

/// Two engines on one store, and the first one's lease is over when it says so: a process that was paused.
struct TwoProcesses {
    paused: Server,
    other: Server,
    gate: Gate,
    other_gate: Gate,
}

/// Its own engine abandons the key at a shutdown, and its handler runs on: so does a process that was paused.
async fn two_processes(loser: u16) -> (TwoProcesses, idem_http::IdempotencyLayer) {
    let store = store();
    let (gate, other_gate) = (Gate::closed(), Gate::closed());
    let (held, other_held) = (gate.clone(), other_gate.clone());
    let handler = |status, name: &'static str, gate: Gate| {
        move |_: usize, _: axum::extract::Request| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                text(status, name)
            }
        }
    };
    let layer = layer_of(&Engine::builder(std::sync::Arc::clone(&store))).build();
    let paused = Server::start(layer.clone(), handler(loser, "of the paused one", held)).await;
    let other = Server::start(
        layer_of(&Engine::builder(store)).build(),
        handler(201, "of the other one", other_held),
    )
    .await;
    (TwoProcesses { paused, other, gate, other_gate }, layer)
}

async fn a_run_that_loses_its_lease_is_answered_with_what_was_accepted_and_never_with_its_own_body(
    branch: Branch,
) {
    loses_to_an_accepted_answer(branch, 201).await;
}

async fn a_run_that_loses_its_lease_and_fails_is_answered_with_what_was_accepted_too(branch: Branch) {
    for status in [404, 500] {
        loses_to_an_accepted_answer(branch, status).await;
    }
}

async fn loses_to_an_accepted_answer(branch: Branch, status: u16) {
    let (processes, layer) = two_processes(status).await;
    let (loser, ()) = tokio::join!(processes.paused.post(branch, "a"), async {
        processes.gate.somebody().await;
        let _ = layer.shutdown(Duration::ZERO).await;
        processes.other_gate.open();
        processes.other.post(branch, "a").await.assert_first(201, "of the other one");
        processes.gate.let_one_go();
    });
    loser.assert_replay(201, "of the other one");
}

async fn a_run_that_loses_its_lease_while_another_still_runs_is_told_409(branch: Branch) {
    let (processes, layer) = two_processes(201).await;
    let paused = async {
        let loser = processes.paused.post(branch, "a").await;
        processes.other_gate.open();
        loser
    };
    let (loser, winner, ()) = tokio::join!(
        paused,
        async {
            processes.gate.somebody().await;
            let _ = layer.shutdown(Duration::ZERO).await;
            processes.other.post(branch, "a").await
        },
        async {
            processes.other_gate.somebody().await;
            processes.gate.let_one_go();
        }
    );
    loser.assert_problem(409, "idempotency_key_in_progress");
    winner.assert_first(201, "of the other one");
}

async fn an_expired_lease_that_may_not_be_taken_over_is_an_unknown_outcome(branch: Branch) {
    let settings = Engine::builder(store()).expired_lease(ExpiredLeasePolicy::Refuse);
    let server = Server::start(layer_of(&settings).build(), |_, _| async { panic!("on purpose") }).await;
    server.post(branch, "a").await.assert_problem(500, "handler_failed");
    // Nobody knows what the panicking handler did.
    server.post(branch, "a").await.assert_problem(409, "idempotency_outcome_unknown");
    assert_eq!(server.runs.count(), 1);
}

async fn a_response_waits_for_its_completion(branch: Branch) {
    let store = store();
    // The first completion is never acknowledged: the engine sends it again, and only then is the response sent.
    store.next(Operation::Complete, Fault::ReplyLost);
    let server = Server::start(
        layer_of(&Engine::builder(std::sync::Arc::clone(&store))).build(),
        |run, _| async move { text(201, format!("run {run}")) },
    )
    .await;
    server.post(branch, "a").await.assert_first(201, "run 1");
    server.post(branch, "a").await.assert_replay(201, "run 1");
}

#[tokio::test]
async fn the_same_key_with_another_payload_is_refused_and_shown_nothing() {
    let gate = Gate::closed();
    let held = gate.clone();
    let server = Server::start(layer().build(), move |_, _| {
        let gate = held.clone();
        async move {
            gate.pass().await;
            text(201, "a secret")
        }
    })
    .await;
    let while_it_runs = async {
        gate.somebody().await;
        let refused = server.send(keyed(Branch::Key, "a", "another payload")).await;
        gate.let_one_go();
        refused
    };
    let (first, while_it_ran) = tokio::join!(server.post(Branch::Key, "a"), while_it_runs);
    first.assert_first(201, "a secret");
    let after = server.send(keyed(Branch::Key, "a", "another payload")).await;
    after.assert_problem(422, "idempotency_key_reused");
    // Whether the other one still runs is not to be seen either.
    let seen = |answer: &Answer| (answer.status, answer.headers.len(), answer.body.clone());
    assert_eq!(seen(&while_it_ran), seen(&after));
    assert_eq!(server.runs.count(), 1);
}

#[tokio::test]
async fn the_query_is_part_of_the_payload() {
    let server = Server::start(layer().build(), |_, _| async { text(201, "") }).await;
    let with = |uri: &str| {
        let mut request = request(Branch::Key, "a");
        *request.uri_mut() = uri.parse().unwrap();
        request
    };
    server.send(with("/things?size=1")).await.assert_first(201, "");
    server.send(with("/things?size=2")).await.assert_problem(422, "idempotency_key_reused");
    server.send(with("/things?size=1")).await.assert_replay(201, "");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_forgotten_after_its_retention_and_a_fingerprint_after_its_window() {
    use tower::ServiceExt;

    let store = std::sync::Arc::new(MemoryStore::new());
    let engine = |seconds| {
        let settings = Engine::builder(std::sync::Arc::clone(&store));
        settings.retention(Duration::from_secs(seconds)).build().unwrap()
    };
    let builder = idem_http::IdempotencyLayer::builder(engine(86_400)).fingerprint(engine(120));
    let layer = crate::support::scoped(builder).build();
    let handler = || async { Response::new(axum::body::Body::from("ran")) };
    let service = axum::Router::new().fallback(handler).layer(layer);
    let ask = async |branch| {
        let request = request(branch, "a").map(axum::body::Body::new);
        Answer::read(service.clone().oneshot(request).await.unwrap()).await.is_replay()
    };
    assert!(!ask(Branch::Key).await && !ask(Branch::Fingerprint).await);
    tokio::time::advance(Duration::from_secs(119)).await;
    assert!(ask(Branch::Key).await && ask(Branch::Fingerprint).await);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(ask(Branch::Key).await && !ask(Branch::Fingerprint).await);
    tokio::time::advance(Duration::from_secs(86_400)).await;
    assert!(!ask(Branch::Key).await);
}
