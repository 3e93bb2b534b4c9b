//! Handlers that fail, responses with an unclear meaning, and stores that fail.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use idem_conformance::Fault;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, Span};
use idem_core::{
    AbandonOutcome, Answer, Attempt, CompleteOutcome, Engine, Key, Operation, ReleaseOutcome, RenewOutcome,
    ReservationStore, StoreError, StoreErrorKind, StoreFailurePolicy,
};
use idem_memory::{MemoryOptions, MemoryStore};

use crate::support::{
    Branch, Runs, Server, layer, layer_of, on_both_branches, request, run_number, store, text,
};

on_both_branches![
    after_an_unclear_failure_the_next_retry_runs_as_a_further_attempt,
    after_a_response_that_says_nothing_happened_the_next_retry_is_a_first_attempt,
    a_final_response_is_replayed,
    a_panic_in_classify_abandons_the_key_and_the_next_retry_runs,
    a_panic_in_the_body_abandons_the_key_and_the_next_retry_runs,
    an_unavailable_store_is_a_503_and_the_handler_does_not_run,
    a_full_store_is_a_503_and_the_handler_does_not_run,
    an_unreadable_record_is_a_500_without_retry_after,
    with_fail_open_the_handler_runs_although_the_store_is_unavailable,
    an_unacknowledged_completion_still_sends_the_handlers_response,
    an_answer_of_another_program_is_an_error_and_no_reason_to_run,
    a_layer_that_is_shut_down_refuses_with_503_and_waits_for_its_handlers,
    a_layer_that_is_shut_down_waits_for_unprotected_handlers,
];

/// Responds with the status that the body names; the body `panic` panics.
async fn as_named(run: usize, request: Request) -> Response {
    let attempt = request.extensions().get::<Attempt>().unwrap().number;
    let body = axum::body::to_bytes(request.into_body(), 100).await.unwrap();
    let body = std::str::from_utf8(&body).unwrap();
    assert_ne!(body, "panic", "on purpose");
    text(body.parse().unwrap(), format!("run {run}, attempt {attempt}"))
}

async fn after_an_unclear_failure_the_next_retry_runs_as_a_further_attempt(branch: Branch) {
    for name in ["500", "502", "504", "599", "panic"] {
        let server = Server::start(layer().build(), as_named).await;
        for attempt in 1..=3 {
            let answer = server.post(branch, name).await;
            if name == "panic" {
                answer.assert_problem(500, "handler_failed");
            } else {
                answer.assert_first(name.parse().unwrap(), &format!("run {attempt}, attempt {attempt}"));
            }
        }
        assert_eq!(server.runs.count(), 3, "{name}");
    }
}

async fn after_a_response_that_says_nothing_happened_the_next_retry_is_a_first_attempt(branch: Branch) {
    for status in [401, 402, 403, 404, 408, 409, 412, 423, 425, 428, 429, 451, 501, 503] {
        let server = Server::start(layer().build(), as_named).await;
        for run in 1..=3 {
            let answer = server.post(branch, &status.to_string()).await;
            answer.assert_first(status, &format!("run {run}, attempt 1"));
        }
    }
}

async fn a_final_response_is_replayed(branch: Branch) {
    for status in [200, 201, 202, 301, 303, 307, 400, 405, 406, 410, 411, 413, 414, 415, 422] {
        let server = Server::start(layer().build(), as_named).await;
        let name = status.to_string();
        server.post(branch, &name).await.assert_first(status, "run 1, attempt 1");
        server.post(branch, &name).await.assert_replay(status, "run 1, attempt 1");
    }
}

#[tokio::test]
async fn an_error_of_the_service_is_returned_and_the_next_retry_runs() {
    use tower::{Layer, ServiceExt};

    let layer = layer().build();
    let runs = Runs::default();
    let failing = runs.clone();
    let service =
        layer.layer(tower::service_fn(move |request: http::Request<idem_http::RequestBody<_>>| {
            let attempt = request.extensions().get::<Attempt>().unwrap().number;
            let run = failing.next();
            async move {
                if run < 3 { Err(format!("error of attempt {attempt}")) } else { Ok(text(200, "at last")) }
            }
        }));
    for run in 1..=2 {
        let failed = service.clone().oneshot(request(Branch::Key, "a")).await.map(drop);
        assert_eq!(failed, Err(format!("error of attempt {run}")));
    }
    assert_eq!(service.oneshot(request(Branch::Key, "a")).await.unwrap().status(), 200);
    assert_eq!(runs.count(), 3);
}

async fn a_panic_in_classify_abandons_the_key_and_the_next_retry_runs(branch: Branch) {
    let calls = Runs::default();
    let classify = move |response: &http::response::Parts| {
        assert!(calls.next() > 1, "on purpose");
        idem_http::Disposition::default_for(response)
    };
    let server = Server::start(layer().classify(classify).build(), as_named).await;
    server.post(branch, "201").await.assert_problem(500, "handler_failed");
    server.post(branch, "201").await.assert_first(201, "run 2, attempt 2");
}

async fn a_panic_in_the_body_abandons_the_key_and_the_next_retry_runs(branch: Branch) {
    /// A body that panics when it is polled.
    struct Panicking;

    impl http_body::Body for Panicking {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
            panic!("on purpose")
        }
    }

    let server = Server::start(layer().build(), |run, _| async move {
        if run == 1 { Response::new(axum::body::Body::new(Panicking)) } else { text(201, "at last") }
    })
    .await;
    server.post(branch, "a").await.assert_problem(500, "handler_failed");
    server.post(branch, "a").await.assert_first(201, "at last");
    server.post(branch, "a").await.assert_replay(201, "at last");
}

async fn an_unavailable_store_is_a_503_and_the_handler_does_not_run(branch: Branch) {
    let store = store();
    let settings = Engine::builder(Arc::clone(&store)).reserve_timeout(Duration::from_millis(20));
    let server = Server::start(layer_of(&settings).build(), as_named).await;
    for fault in [
        Fault::Refused(StoreErrorKind::Unavailable),
        Fault::Refused(StoreErrorKind::Timeout),
        Fault::RequestLost,
        Fault::NeverArrives,
    ] {
        store.set(Operation::Reserve, Some(fault));
        let refused = server.post(branch, "201").await;
        refused.assert_problem(503, "idempotency_store_unavailable");
        assert_eq!(refused.headers["retry-after"], "1");
    }
    store.set(Operation::Reserve, None);
    assert_eq!(server.runs.count(), 0);
    server.post(branch, "201").await.assert_first(201, "run 1, attempt 1");
}

async fn a_full_store_is_a_503_and_the_handler_does_not_run(branch: Branch) {
    let store = MemoryStore::with_options(MemoryOptions::new().max_records(0));
    let settings = Engine::builder(store).reserve_timeout(Duration::from_millis(20));
    let server = Server::start(layer_of(&settings).build(), as_named).await;
    server.post(branch, "201").await.assert_problem(503, "idempotency_store_unavailable");
    assert_eq!(server.runs.count(), 0);
}

async fn an_unreadable_record_is_a_500_without_retry_after(branch: Branch) {
    let store = store();
    let server = Server::start(layer_of(&Engine::builder(Arc::clone(&store))).build(), as_named).await;
    for kind in [StoreErrorKind::Corrupt, StoreErrorKind::Incompatible, StoreErrorKind::Misconfigured] {
        store.set(Operation::Reserve, Some(Fault::Refused(kind)));
        let refused = server.post(branch, "201").await;
        refused.assert_problem(500, "idempotency_store_failed");
        assert!(!refused.headers.contains_key("retry-after"));
    }
    assert_eq!(server.runs.count(), 0);
}

async fn with_fail_open_the_handler_runs_although_the_store_is_unavailable(branch: Branch) {
    let store = store();
    let settings = Engine::builder(Arc::clone(&store))
        .store_failure(StoreFailurePolicy::FailOpen)
        .reserve_timeout(Duration::from_millis(20));
    let server = Server::start(layer_of(&settings).build(), |run, request: Request| async move {
        let unprotected = request.extensions().get::<Attempt>().unwrap().is_unprotected();
        text(201, format!("run {run}, unprotected: {unprotected}"))
    })
    .await;
    store.set(Operation::Reserve, Some(Fault::Refused(StoreErrorKind::Unavailable)));
    server.post(branch, "a").await.assert_first(201, "run 1, unprotected: true");
    store.set(Operation::Reserve, None);
    server.post(branch, "a").await.assert_first(201, "run 2, unprotected: false");
}

async fn an_unacknowledged_completion_still_sends_the_handlers_response(branch: Branch) {
    let store = store();
    let settings = Engine::builder(Arc::clone(&store)).complete_timeout(Duration::from_millis(20));
    let server = Server::start(layer_of(&settings).build(), as_named).await;
    store.set(Operation::Complete, Some(Fault::Refused(StoreErrorKind::Unavailable)));
    server.post(branch, "201").await.assert_first(201, "run 1, attempt 1");
    // Only the reservation was recorded. No other request runs until its lease ends.
    server.post(branch, "201").await.assert_problem(409, "idempotency_key_in_progress");
    assert_eq!(server.runs.count(), 1);
}

async fn an_answer_of_another_program_is_an_error_and_no_reason_to_run(branch: Branch) {
    /// A store whose answers all come from a later version of this layer.
    #[derive(Debug)]
    struct Later(MemoryStore);

    #[async_trait::async_trait]
    impl ReservationStore for Later {
        async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
            let mut outcome = self.0.reserve(key, request).await?;
            if let ReserveOutcome::Completed { answer: Answer::Value(response), .. } = &mut outcome {
                response.format.schema += 1;
            }
            Ok(outcome)
        }
        async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
            self.0.renew(key, owner, lease).await
        }
        async fn complete(
            &self,
            key: &Key,
            owner: OwnerToken,
            completion: Completion,
        ) -> Result<CompleteOutcome, StoreError> {
            self.0.complete(key, owner, completion).await
        }
        async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
            self.0.release(key, owner).await
        }
        async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
            self.0.abandon(key, owner).await
        }
        async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
            self.0.get(key).await
        }
        async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
            self.0.sweep(limit).await
        }
    }

    let server = Server::start(layer_of(&Engine::builder(Later(MemoryStore::new()))).build(), as_named).await;
    server.post(branch, "201").await.assert_first(201, "run 1, attempt 1");
    server.post(branch, "201").await.assert_problem(500, "idempotency_store_failed");
    assert_eq!(server.runs.count(), 1);
}

async fn a_layer_that_is_shut_down_refuses_with_503_and_waits_for_its_handlers(branch: Branch) {
    let layer = layer().build();
    let server = Server::gated(layer.clone(), run_number).await;
    let (first, report) = tokio::join!(server.post(branch, "a"), async {
        server.gate.entered().await;
        let shutdown = layer.shutdown(Duration::from_secs(600));
        let (report, ()) = tokio::join!(shutdown, async {
            server.post(branch, "b").await.assert_problem(503, "idempotency_store_unavailable");
            server.gate.release_one();
        });
        report
    });
    first.assert_first(201, "run 1");
    let fingerprints = report.fingerprints.unwrap();
    assert_eq!((report.keys.abandoned, fingerprints.abandoned), (0, 0));
    assert_eq!(server.runs.count(), 1);
}

async fn a_layer_that_is_shut_down_waits_for_unprotected_handlers(branch: Branch) {
    let store = store();
    store.set(Operation::Reserve, Some(Fault::Refused(StoreErrorKind::Unavailable)));
    let settings = Engine::builder(store)
        .store_failure(StoreFailurePolicy::FailOpen)
        .reserve_timeout(Duration::from_millis(20));
    let layer = layer_of(&settings).build();
    let ended = Runs::default();
    let ending = ended.clone();
    let server = Server::gated(layer.clone(), move |run, _| {
        ending.next();
        async move { text(201, format!("run {run}")) }
    })
    .await;
    let mut connection = server.connect().await;
    let mut asking = Box::pin(connection.send_request(request(branch, "a")));
    tokio::select! {
        _ = &mut asking => unreachable!("the handler is held"),
        () = server.gate.entered() => {}
    }
    // The client disconnects, so that no connection is left that would wait for the handler.
    drop((asking, connection));
    assert_eq!(layer.shutdown(Duration::ZERO).await.unprotected, 1);
    let (report, ()) =
        tokio::join!(layer.shutdown(Duration::from_secs(600)), async { server.gate.release_one() });
    assert_eq!((report.unprotected, ended.count()), (0, 1));
}
