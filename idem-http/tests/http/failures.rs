//! Handlers that fail, responses that prove nothing, and a store that cannot be asked.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use idem_conformance::Fault;
use idem_core::{Attempt, Engine, Operation, StoreErrorKind, StoreFailurePolicy};
use idem_memory::{MemoryOptions, MemoryStore};

use crate::support::{Branch, Gate, Runs, Server, layer, layer_of, on_both_branches, request, store, text};

on_both_branches![
    after_what_proves_nothing_the_very_next_retry_runs_and_is_told_so,
    after_what_says_that_nothing_happened_the_very_next_retry_runs_as_a_first_attempt,
    what_the_same_request_gets_again_is_replayed,
    a_hook_that_panics_abandons_and_the_very_next_retry_runs,
    a_body_that_panics_abandons_and_the_very_next_retry_runs,
    a_store_that_is_down_is_a_503_and_the_handler_does_not_run,
    a_store_that_is_full_is_a_503_and_the_handler_does_not_run,
    a_store_that_cannot_be_read_is_a_500_that_asks_for_no_retry,
    a_store_that_is_down_may_be_run_past_where_the_engine_says_so,
    a_completion_that_is_not_acknowledged_is_the_handlers_response_all_the_same,
    an_answer_of_another_program_is_an_error_and_never_a_reason_to_run,
    a_shut_down_layer_refuses_with_503_and_drains_what_runs,
    a_shut_down_layer_waits_for_what_runs_without_protection,
];

/// Answers with the status that its body names and the number of its attempt; `panic` panics.
async fn told(run: usize, request: Request) -> Response {
    let attempt = request.extensions().get::<Attempt>().unwrap().number;
    let body = axum::body::to_bytes(request.into_body(), 100).await.unwrap();
    let body = std::str::from_utf8(&body).unwrap();
    assert_ne!(body, "panic", "on purpose");
    text(body.parse().unwrap(), format!("run {run}, attempt {attempt}"))
}

async fn after_what_proves_nothing_the_very_next_retry_runs_and_is_told_so(branch: Branch) {
    for told_to in ["500", "502", "504", "599", "panic"] {
        let server = Server::start(layer().build(), told).await;
        for attempt in 1..=3 {
            let answer = server.post(branch, told_to).await;
            if told_to == "panic" {
                answer.assert_problem(500, "handler_failed");
            } else {
                answer.assert_first(told_to.parse().unwrap(), &format!("run {attempt}, attempt {attempt}"));
            }
        }
        assert_eq!(server.runs.count(), 3, "{told_to}");
    }
}

async fn after_what_says_that_nothing_happened_the_very_next_retry_runs_as_a_first_attempt(branch: Branch) {
    for status in [401, 402, 403, 404, 408, 409, 412, 423, 425, 428, 429, 451, 501, 503] {
        let server = Server::start(layer().build(), told).await;
        for run in 1..=3 {
            let answer = server.post(branch, &status.to_string()).await;
            answer.assert_first(status, &format!("run {run}, attempt 1"));
        }
    }
}

async fn what_the_same_request_gets_again_is_replayed(branch: Branch) {
    for status in [200, 201, 202, 301, 303, 307, 400, 405, 406, 410, 411, 413, 414, 415, 422] {
        let server = Server::start(layer().build(), told).await;
        let name = status.to_string();
        server.post(branch, &name).await.assert_first(status, "run 1, attempt 1");
        server.post(branch, &name).await.assert_replay(status, "run 1, attempt 1");
    }
}

#[tokio::test]
async fn an_error_of_the_service_goes_out_as_it_is_and_the_very_next_retry_runs() {
    use tower::{Layer, ServiceExt};

    let layer = layer().build();
    let runs = Runs::default();
    let failing = runs.clone();
    let service =
        layer.layer(tower::service_fn(move |request: http::Request<idem_http::RequestBody<_>>| {
            let attempt = request.extensions().get::<Attempt>().unwrap().number;
            let run = failing.one_more();
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

async fn a_hook_that_panics_abandons_and_the_very_next_retry_runs(branch: Branch) {
    let decisions = Runs::default();
    let decide = move |response: &http::response::Parts| {
        assert!(decisions.one_more() > 1, "on purpose");
        idem_http::Disposition::of(response)
    };
    let server = Server::start(layer().decide(decide).build(), told).await;
    server.post(branch, "201").await.assert_problem(500, "handler_failed");
    server.post(branch, "201").await.assert_first(201, "run 2, attempt 2");
}

async fn a_body_that_panics_abandons_and_the_very_next_retry_runs(branch: Branch) {
    /// A body that panics when it is asked for anything.
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

async fn a_store_that_is_down_is_a_503_and_the_handler_does_not_run(branch: Branch) {
    let store = store();
    let settings = Engine::builder(Arc::clone(&store)).reserve_timeout(Duration::from_millis(20));
    let server = Server::start(layer_of(&settings).build(), told).await;
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

async fn a_store_that_is_full_is_a_503_and_the_handler_does_not_run(branch: Branch) {
    let store = MemoryStore::with_options(MemoryOptions::new().max_records(0));
    let settings = Engine::builder(store).reserve_timeout(Duration::from_millis(20));
    let server = Server::start(layer_of(&settings).build(), told).await;
    server.post(branch, "201").await.assert_problem(503, "idempotency_store_unavailable");
    assert_eq!(server.runs.count(), 0);
}

async fn a_store_that_cannot_be_read_is_a_500_that_asks_for_no_retry(branch: Branch) {
    let store = store();
    let server = Server::start(layer_of(&Engine::builder(Arc::clone(&store))).build(), told).await;
    for kind in [StoreErrorKind::Corrupt, StoreErrorKind::Incompatible, StoreErrorKind::Misconfigured] {
        store.set(Operation::Reserve, Some(Fault::Refused(kind)));
        let refused = server.post(branch, "201").await;
        refused.assert_problem(500, "idempotency_store_failed");
        assert!(!refused.headers.contains_key("retry-after"));
    }
    assert_eq!(server.runs.count(), 0);
}

async fn a_store_that_is_down_may_be_run_past_where_the_engine_says_so(branch: Branch) {
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

async fn a_completion_that_is_not_acknowledged_is_the_handlers_response_all_the_same(branch: Branch) {
    let store = store();
    let settings = Engine::builder(Arc::clone(&store)).complete_timeout(Duration::from_millis(20));
    let server = Server::start(layer_of(&settings).build(), told).await;
    store.set(Operation::Complete, Some(Fault::Refused(StoreErrorKind::Unavailable)));
    server.post(branch, "201").await.assert_first(201, "run 1, attempt 1");
    // Nothing was recorded but the reservation, and nobody else runs beside it as long as its lease lasts.
    server.post(branch, "201").await.assert_problem(409, "idempotency_key_in_progress");
    assert_eq!(server.runs.count(), 1);
}

async fn an_answer_of_another_program_is_an_error_and_never_a_reason_to_run(branch: Branch) {
    /// A store whose every answer is of a later version of this layer.
    #[derive(Debug)]
    struct Later(MemoryStore);

    #[async_trait::async_trait]
    impl idem_core::ReservationStore for Later {
        async fn reserve(
            &self,
            key: &idem_core::Key,
            request: idem_core::store::ReserveRequest,
        ) -> Result<idem_core::store::ReserveOutcome, idem_core::StoreError> {
            let mut outcome = self.0.reserve(key, request).await?;
            if let idem_core::store::ReserveOutcome::Completed {
                answer: idem_core::Answer::Value(response),
                ..
            } = &mut outcome
            {
                response.format.schema += 1;
            }
            Ok(outcome)
        }
        async fn renew(
            &self,
            key: &idem_core::Key,
            owner: idem_core::store::OwnerToken,
            lease: idem_core::store::Span,
        ) -> Result<idem_core::RenewOutcome, idem_core::StoreError> {
            self.0.renew(key, owner, lease).await
        }
        async fn complete(
            &self,
            key: &idem_core::Key,
            owner: idem_core::store::OwnerToken,
            completion: idem_core::store::Completion,
        ) -> Result<idem_core::CompleteOutcome, idem_core::StoreError> {
            self.0.complete(key, owner, completion).await
        }
        async fn release(
            &self,
            key: &idem_core::Key,
            owner: idem_core::store::OwnerToken,
        ) -> Result<idem_core::ReleaseOutcome, idem_core::StoreError> {
            self.0.release(key, owner).await
        }
        async fn abandon(
            &self,
            key: &idem_core::Key,
            owner: idem_core::store::OwnerToken,
        ) -> Result<idem_core::AbandonOutcome, idem_core::StoreError> {
            self.0.abandon(key, owner).await
        }
        async fn get(
            &self,
            key: &idem_core::Key,
        ) -> Result<Option<idem_core::store::RecordView>, idem_core::StoreError> {
            self.0.get(key).await
        }
        async fn sweep(&self, limit: usize) -> Result<usize, idem_core::StoreError> {
            self.0.sweep(limit).await
        }
    }

    let server = Server::start(layer_of(&Engine::builder(Later(MemoryStore::new()))).build(), told).await;
    server.post(branch, "201").await.assert_first(201, "run 1, attempt 1");
    server.post(branch, "201").await.assert_problem(500, "idempotency_store_failed");
    assert_eq!(server.runs.count(), 1);
}

async fn a_shut_down_layer_refuses_with_503_and_drains_what_runs(branch: Branch) {
    let gate = Gate::closed();
    let held = gate.clone();
    let layer = layer().build();
    let server = Server::start(layer.clone(), move |run, _| {
        let gate = held.clone();
        async move {
            gate.pass().await;
            text(201, format!("run {run}"))
        }
    })
    .await;
    let (first, report) = tokio::join!(server.post(branch, "a"), async {
        gate.somebody().await;
        let shutdown = layer.shutdown(Duration::from_secs(600));
        let (report, ()) = tokio::join!(shutdown, async {
            server.post(branch, "b").await.assert_problem(503, "idempotency_store_unavailable");
            gate.let_one_go();
        });
        report
    });
    first.assert_first(201, "run 1");
    let fingerprints = report.fingerprints.unwrap();
    assert_eq!((report.keys.abandoned, fingerprints.abandoned), (0, 0));
    assert_eq!(server.runs.count(), 1);
}

async fn a_shut_down_layer_waits_for_what_runs_without_protection(branch: Branch) {
    let store = store();
    store.set(Operation::Reserve, Some(Fault::Refused(StoreErrorKind::Unavailable)));
    let settings = Engine::builder(store)
        .store_failure(StoreFailurePolicy::FailOpen)
        .reserve_timeout(Duration::from_millis(20));
    let layer = layer_of(&settings).build();
    let (gate, ended) = (Gate::closed(), Runs::default());
    let (held, ending) = (gate.clone(), ended.clone());
    let server = Server::start(layer.clone(), move |run, _| {
        let (gate, ended) = (held.clone(), ending.clone());
        async move {
            gate.pass().await;
            ended.one_more();
            text(201, format!("run {run}"))
        }
    })
    .await;
    let mut connection = server.connect().await;
    let mut asking = Box::pin(connection.send_request(request(branch, "a")));
    tokio::select! {
        _ = &mut asking => unreachable!("the handler is held"),
        () = gate.somebody() => {}
    }
    // Its client hangs up, so that no connection is left that would wait for it.
    drop((asking, connection));
    assert_eq!(layer.shutdown(Duration::ZERO).await.unprotected, 1);
    let (report, ()) = tokio::join!(layer.shutdown(Duration::from_secs(600)), async { gate.let_one_go() });
    assert_eq!((report.unprotected, ended.count()), (0, 1));
}
