//! What the layer is for: duplicates that arrive while the first request runs, or after it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use idem_conformance::Fault;
use idem_core::{Engine, ExpiredLeasePolicy, InFlightPolicy, Operation};
use idem_http::IdempotencyLayer;
use idem_memory::MemoryStore;

use crate::support::{
    Answer, App, Branch, Gate, Server, keyed, layer, layer_of, on_both_branches, request, run_number, scoped,
    store, text,
};

on_both_branches![
    a_duplicate_of_a_running_request_gets_409_and_does_not_run,
    a_duplicate_after_completion_gets_the_same_response,
    a_waiting_duplicate_gets_the_first_response,
    a_waiting_duplicate_gets_409_when_its_time_is_up,
    a_client_that_disconnects_cancels_nothing_and_its_retry_is_a_replay,
    retry_after_is_the_rest_of_the_lease_up_to_the_maximum,
    a_run_that_lost_its_lease_responds_with_the_accepted_response,
    a_run_that_lost_its_lease_and_failed_responds_with_the_accepted_response,
    a_run_that_lost_its_lease_responds_with_409_while_another_still_runs,
    an_expired_lease_that_may_not_be_taken_over_is_an_unknown_outcome,
    a_response_is_sent_only_after_its_completion,
];

fn waiting_layer(timeout: Duration) -> IdempotencyLayer {
    layer_of(&Engine::builder(store()).in_flight(InFlightPolicy::Wait { timeout })).build()
}

async fn a_duplicate_of_a_running_request_gets_409_and_does_not_run(branch: Branch) {
    let server = Server::gated(layer().build(), run_number).await;
    let (first, ()) = tokio::join!(server.post(branch, "a"), async {
        server.gate.entered().await;
        let duplicate = server.post(branch, "a").await;
        duplicate.assert_problem(409, "idempotency_key_in_progress");
        assert_eq!(duplicate.headers["retry-after"], "1");
        // Only now may the first run end.
        server.gate.release_one();
    });
    first.assert_first(201, "run 1");
    server.post(branch, "a").await.assert_replay(201, "run 1");
    assert_eq!(server.runs.count(), 1);
}

async fn a_duplicate_after_completion_gets_the_same_response(branch: Branch) {
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

async fn a_waiting_duplicate_gets_the_first_response(branch: Branch) {
    let server = Server::gated(waiting_layer(Duration::from_secs(600)), run_number).await;
    let (first, second, ()) = tokio::join!(server.post(branch, "a"), server.post(branch, "a"), async {
        server.gate.entered().await;
        server.gate.release_one();
    });
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert!(first.is_replay() != second.is_replay(), "one of them ran, and the other one did not");
    assert_eq!(server.runs.count(), 1);
}

async fn a_waiting_duplicate_gets_409_when_its_time_is_up(branch: Branch) {
    let server = Server::gated(waiting_layer(Duration::from_millis(1)), run_number).await;
    let (first, ()) = tokio::join!(server.post(branch, "a"), async {
        server.gate.entered().await;
        server.post(branch, "a").await.assert_problem(409, "idempotency_key_in_progress");
        server.gate.release_one();
    });
    first.assert_first(201, "run 1");
}

async fn a_client_that_disconnects_cancels_nothing_and_its_retry_is_a_replay(branch: Branch) {
    let ended = Gate::closed();
    ended.open();
    let ending = ended.clone();
    let server = Server::gated(layer().build(), move |run, _| {
        let ended = ending.clone();
        async move {
            ended.enter().await;
            text(201, format!("run {run}"))
        }
    })
    .await;
    let mut connection = server.connect().await;
    let disconnecting =
        tokio::spawn(async move { connection.send_request(request(branch, "a")).await.map(drop) });
    server.gate.entered().await;
    disconnecting.abort();
    assert!(disconnecting.await.unwrap_err().is_cancelled());

    server.gate.release_one();
    ended.entered().await;
    let retry = loop {
        // The handler has ended, and its response may not be stored yet.
        let retry = server.post(branch, "a").await;
        if retry.status != 409 {
            break retry;
        }
    };
    retry.assert_replay(201, "run 1");
    assert_eq!(server.runs.count(), 1);
}

async fn retry_after_is_the_rest_of_the_lease_up_to_the_maximum(branch: Branch) {
    for (max, expected) in [(20, "20"), (600, "60")] {
        let layer = layer().max_retry_after(Duration::from_secs(max)).build();
        let server = Server::gated(layer, run_number).await;
        tokio::join!(server.post(branch, "a"), async {
            server.gate.entered().await;
            assert_eq!(server.post(branch, "a").await.headers["retry-after"], expected);
            server.gate.release_one();
        });
    }
}

/// Two processes on one store. The first one is paused for longer than its lease.
struct TwoProcesses {
    paused: Server,
    paused_layer: IdempotencyLayer,
    other: Server,
}

impl TwoProcesses {
    /// The paused process responds with this status.
    async fn start(paused_status: u16) -> Self {
        let store = store();
        let new_layer = || layer_of(&Engine::builder(Arc::clone(&store))).build();
        let paused_layer = new_layer();
        let paused = move |_, _: Request| async move { text(paused_status, "of the paused process") };
        let other = |_, _: Request| async { text(201, "of the other process") };
        Self {
            paused: Server::gated(paused_layer.clone(), paused).await,
            paused_layer,
            other: Server::gated(new_layer(), other).await,
        }
    }

    /// Waits for the handler of the paused process, and ends its lease: its engine abandons the key, and its handler
    /// runs on, as in a process that was paused.
    async fn end_the_lease(&self) {
        self.paused.gate.entered().await;
        let _ = self.paused_layer.shutdown(Duration::ZERO).await;
    }
}

async fn a_run_that_lost_its_lease_responds_with_the_accepted_response(branch: Branch) {
    loses_to_an_accepted_response(branch, 201).await;
}

async fn a_run_that_lost_its_lease_and_failed_responds_with_the_accepted_response(branch: Branch) {
    for status in [404, 500] {
        loses_to_an_accepted_response(branch, status).await;
    }
}

async fn loses_to_an_accepted_response(branch: Branch, status: u16) {
    let processes = TwoProcesses::start(status).await;
    let (loser, ()) = tokio::join!(processes.paused.post(branch, "a"), async {
        processes.end_the_lease().await;
        processes.other.gate.open();
        processes.other.post(branch, "a").await.assert_first(201, "of the other process");
        processes.paused.gate.release_one();
    });
    loser.assert_replay(201, "of the other process");
}

async fn a_run_that_lost_its_lease_responds_with_409_while_another_still_runs(branch: Branch) {
    let processes = TwoProcesses::start(201).await;
    let (loser, winner, ()) = tokio::join!(
        async {
            let loser = processes.paused.post(branch, "a").await;
            processes.other.gate.open();
            loser
        },
        async {
            processes.end_the_lease().await;
            processes.other.post(branch, "a").await
        },
        async {
            processes.other.gate.entered().await;
            processes.paused.gate.release_one();
        }
    );
    loser.assert_problem(409, "idempotency_key_in_progress");
    winner.assert_first(201, "of the other process");
}

async fn an_expired_lease_that_may_not_be_taken_over_is_an_unknown_outcome(branch: Branch) {
    let settings = Engine::builder(store()).expired_lease(ExpiredLeasePolicy::Refuse);
    let server = Server::start(layer_of(&settings).build(), |_, _| async { panic!("on purpose") }).await;
    server.post(branch, "a").await.assert_problem(500, "handler_failed");
    // What the handler did before its panic is unknown.
    server.post(branch, "a").await.assert_problem(409, "idempotency_outcome_unknown");
    assert_eq!(server.runs.count(), 1);
}

async fn a_response_is_sent_only_after_its_completion(branch: Branch) {
    let store = store();
    // The first completion is never acknowledged. The engine sends it again; only then is the response sent.
    store.next(Operation::Complete, Fault::ReplyLost);
    let layer = layer_of(&Engine::builder(Arc::clone(&store))).build();
    let server = Server::start(layer, run_number).await;
    server.post(branch, "a").await.assert_first(201, "run 1");
    server.post(branch, "a").await.assert_replay(201, "run 1");
}

#[tokio::test]
async fn the_same_key_with_another_payload_is_refused_and_sees_nothing() {
    let server = Server::gated(layer().build(), |_, _| async { text(201, "a secret") }).await;
    let (first, while_it_ran) = tokio::join!(server.post(Branch::Key, "a"), async {
        server.gate.entered().await;
        let refused = server.send(keyed(Branch::Key, "a", "another payload")).await;
        server.gate.release_one();
        refused
    });
    first.assert_first(201, "a secret");
    let after = server.send(keyed(Branch::Key, "a", "another payload")).await;
    after.assert_problem(422, "idempotency_key_reused");
    // The response does not show whether the first request still runs.
    let visible = |answer: &Answer| (answer.status, answer.headers.len(), answer.body.clone());
    assert_eq!(visible(&while_it_ran), visible(&after));
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
async fn a_response_is_forgotten_after_its_retention_and_a_fingerprint_after_its_window() {
    let store = Arc::new(MemoryStore::new());
    let engine = |seconds| {
        let settings = Engine::builder(Arc::clone(&store));
        settings.retention(Duration::from_secs(seconds)).build().unwrap()
    };
    let layer = scoped(IdempotencyLayer::builder(engine(86_400)).fingerprint(engine(120))).build();
    let app = App::new(layer, |_, _| async { Response::new("ran".into()) });
    let is_replay = async |branch| app.ask(request(branch, "a")).await.is_replay();
    assert!(!is_replay(Branch::Key).await && !is_replay(Branch::Fingerprint).await);
    tokio::time::advance(Duration::from_secs(119)).await;
    assert!(is_replay(Branch::Key).await && is_replay(Branch::Fingerprint).await);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(is_replay(Branch::Key).await && !is_replay(Branch::Fingerprint).await);
    tokio::time::advance(Duration::from_secs(86_400)).await;
    assert!(!is_replay(Branch::Key).await);
}
