//! The transactional step, on SQLite: the effect and the completion are committed together, and the client gets what was
//! committed.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use idem_conformance::Fault;
use idem_core::{AbandonOutcome, Engine, Operation, Reservation, ReservationStore, StoreErrorKind, backend};
use idem_http::{ResponseEncoder, TransactionalStep};
use idem_sqlite::{SqliteStore, TransactionOutcome};
use tempfile::TempDir;

use crate::support::{
    Branch, Gate, Runs, Server, layer_of, on_both_branches, request, run_number, store, text,
};

on_both_branches![
    the_effect_and_the_response_are_committed_together_and_replayed,
    a_step_that_fails_is_rolled_back_and_the_next_retry_runs,
    a_panic_in_the_step_is_rolled_back_and_the_next_retry_runs,
    a_dropped_step_is_abandoned_and_its_success_becomes_a_500,
    a_handler_that_fails_after_its_commit_responds_with_the_committed_response,
    if_the_store_cannot_be_asked_about_a_step_the_handlers_response_is_sent,
    a_step_can_be_taken_once,
    a_step_that_is_not_taken_changes_nothing,
    a_response_over_the_limit_is_committed_and_not_kept,
    a_run_that_lost_its_lease_commits_nothing,
    a_run_that_lost_its_key_gets_409_while_the_new_owner_runs,
    a_run_that_lost_its_key_gets_409_after_the_new_owner_rolled_back,
    after_a_rollback_the_handlers_response_is_sent_while_the_next_request_runs,
];

#[derive(Clone)]
struct Shop {
    store: SqliteStore,
    directory: Arc<TempDir>,
    gate: Gate,
}

impl Shop {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("shop.db").display());
        let store = SqliteStore::connect(&url).await.unwrap();
        Self { store, directory: directory.into(), gate: Gate::closed() }
    }

    /// Serves a handler behind a layer on the shop's store.
    async fn serve<F, Fut>(&self, handler: F) -> Server
    where
        F: Fn(usize, Self, TransactionalStep) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let layer = layer_of(&Engine::builder(self.store.clone())).max_response_bytes(1000).build();
        let runs = Runs::default();
        let counted = runs.clone();
        let handler = async move |State(shop): State<Self>, step: TransactionalStep| {
            handler(counted.next(), shop, step).await
        };
        let router = Router::new().route("/things", post(handler)).with_state(self.clone()).layer(layer);
        Server::serve(router, runs).await
    }

    /// Creates a row and completes the request with `response`, which can panic or fail.
    async fn order(
        &self,
        step: TransactionalStep,
        response: impl FnOnce() -> Result<http::Response<Bytes>, &'static str> + Send + 'static,
    ) -> TransactionOutcome<(), &'static str> {
        let (reservation, encoder) = step.into_parts();
        let ordered = self.store.complete_reservation(reservation, move |connection| {
            let create = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY) STRICT";
            connection.execute_batch(create).map_err(|_| "no table")?;
            connection.execute("INSERT INTO orders DEFAULT VALUES", ()).map_err(|_| "no row")?;
            Ok(((), encoder.encode(response()?)))
        });
        ordered.await.unwrap()
    }

    /// Lets another process take the key over, as it would after the end of this run's lease.
    async fn lose(&self, reservation: &Reservation) {
        let abandoned = self.store.abandon(reservation.key(), backend::owner(reservation)).await.unwrap();
        assert_eq!(abandoned, AbandonOutcome::Abandoned);
    }

    /// Tries to complete a reservation that was lost.
    async fn complete_in_vain(&self, reservation: Reservation, encoder: ResponseEncoder) {
        let completed = self
            .store
            .complete_reservation(reservation, move |_| Ok::<_, &str>(((), encoder.encode(created(1)))));
        assert_eq!(completed.await.unwrap(), TransactionOutcome::Lost);
    }

    fn orders(&self) -> i64 {
        let path = self.directory.path().join("shop.db");
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM orders", (), |row| row.get(0)).unwrap_or(0)
    }
}

fn created(run: usize) -> http::Response<Bytes> {
    let created = http::Response::builder().status(201).header("location", "/orders/1");
    created.header("set-cookie", "session=1").body(format!("order of run {run}").into()).unwrap()
}

async fn the_effect_and_the_response_are_committed_together_and_replayed(branch: Branch) {
    let shop = Shop::open().await;
    let server = shop
        .serve(async |run, shop: Shop, step| {
            assert_eq!(shop.order(step, move || Ok(created(run))).await, TransactionOutcome::Completed(()));
            text(202, "this is not what was committed")
        })
        .await;
    let first = server.post(branch, "a").await;
    first.assert_first(201, "order of run 1");
    let replay = server.post(branch, "a").await;
    replay.assert_replay(201, "order of run 1");
    for answer in [first, replay] {
        assert_eq!(answer.headers["location"], "/orders/1");
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    assert_eq!(shop.orders(), 1);
}

async fn a_step_that_fails_is_rolled_back_and_the_next_retry_runs(branch: Branch) {
    let shop = Shop::open().await;
    let server = shop
        .serve(async |run, shop: Shop, step| {
            let attempt = step.attempt().number;
            let response = move || if run < 3 { Err("sold out") } else { Ok(created(run)) };
            match shop.order(step, response).await {
                TransactionOutcome::RolledBack(error) => text(409, format!("{error} in attempt {attempt}")),
                _ => text(200, ""),
            }
        })
        .await;
    server.post(branch, "a").await.assert_first(409, "sold out in attempt 1");
    server.post(branch, "a").await.assert_first(409, "sold out in attempt 1");
    server.post(branch, "a").await.assert_first(201, "order of run 3");
    assert_eq!(shop.orders(), 1);
}

async fn a_panic_in_the_step_is_rolled_back_and_the_next_retry_runs(branch: Branch) {
    let shop = Shop::open().await;
    let server = shop
        .serve(async |run, shop: Shop, step| {
            let response = move || {
                assert!(run > 1, "on purpose");
                Ok(created(run))
            };
            let _ = shop.order(step, response).await;
            text(200, "")
        })
        .await;
    server.post(branch, "a").await.assert_problem(500, "handler_failed");
    server.post(branch, "a").await.assert_first(201, "order of run 2");
    assert_eq!(shop.orders(), 1);
}

async fn a_dropped_step_is_abandoned_and_its_success_becomes_a_500(branch: Branch) {
    let shop = Shop::open().await;
    let server = shop
        .serve(async |run, shop: Shop, step| {
            let attempt = step.attempt().number;
            if run == 1 {
                drop(step);
                return text(200, "a success that was not committed");
            }
            assert_eq!(attempt, 2);
            let _ = shop.order(step, move || Ok(created(run))).await;
            text(200, "")
        })
        .await;
    server.post(branch, "a").await.assert_problem(500, "idempotency_step_not_committed");
    server.post(branch, "a").await.assert_first(201, "order of run 2");
}

async fn a_handler_that_fails_after_its_commit_responds_with_the_committed_response(branch: Branch) {
    let shop = Shop::open().await;
    let server = shop
        .serve(async |run, shop: Shop, step| {
            let _ = shop.order(step, move || Ok(created(run))).await;
            panic!("after the commit, on purpose");
        })
        .await;
    server.post(branch, "a").await.assert_first(201, "order of run 1");
    server.post(branch, "a").await.assert_replay(201, "order of run 1");
    assert_eq!((shop.orders(), server.runs.count()), (1, 1));
}

async fn if_the_store_cannot_be_asked_about_a_step_the_handlers_response_is_sent(branch: Branch) {
    let store = store();
    let settings = Engine::builder(Arc::clone(&store)).reserve_timeout(std::time::Duration::from_millis(20));
    let handler = async |step: TransactionalStep| {
        let (reservation, encoder) = step.into_parts();
        let _ = reservation.complete(encoder.encode(created(1))).await;
        text(202, "what the handler says")
    };
    let router = Router::new().route("/things", post(handler)).layer(layer_of(&settings).build());
    let server = Server::serve(router, Runs::default()).await;
    store.set(Operation::Get, Some(Fault::Refused(StoreErrorKind::Unavailable)));
    server.post(branch, "a").await.assert_first(202, "what the handler says");
    store.set(Operation::Get, None);
    server.post(branch, "a").await.assert_replay(201, "order of run 1");
}

async fn a_step_can_be_taken_once(branch: Branch) {
    let shop = Shop::open().await;
    let layer = layer_of(&Engine::builder(shop.store.clone())).build();
    let handler = async |first: TransactionalStep, _: TransactionalStep| {
        drop(first);
        "never"
    };
    let router = Router::new().route("/things", post(handler)).layer(layer);
    let server = Server::serve(router, Runs::default()).await;
    let answer = server.post(branch, "a").await;
    answer.assert_first(500, "the transactional step of this request was already taken");
}

async fn a_step_that_is_not_taken_changes_nothing(branch: Branch) {
    let shop = Shop::open().await;
    let server = Server::start(layer_of(&Engine::builder(shop.store.clone())).build(), run_number).await;
    server.post(branch, "a").await.assert_first(201, "run 1");
    server.post(branch, "a").await.assert_replay(201, "run 1");
}

async fn a_response_over_the_limit_is_committed_and_not_kept(branch: Branch) {
    let shop = Shop::open().await;
    let server = shop
        .serve(async |_, shop: Shop, step| {
            let _ = shop.order(step, || Ok(http::Response::new("x".repeat(1001).into()))).await;
            text(200, "")
        })
        .await;
    server.post(branch, "a").await.assert_first(200, &"x".repeat(1001));
    server.post(branch, "a").await.assert_problem(409, "idempotency_response_not_kept");
    assert_eq!(shop.orders(), 1);
}

async fn a_run_that_lost_its_lease_commits_nothing(branch: Branch) {
    let shop = Shop::open().await;
    let winner = shop
        .serve(async |_, shop: Shop, step| {
            let _ = shop.order(step, || Ok(created(2))).await;
            text(200, "")
        })
        .await;
    let winner = Arc::new(winner);
    let loser = shop
        .serve(move |_, shop: Shop, step| {
            let winner = Arc::clone(&winner);
            async move {
                let (reservation, encoder) = step.into_parts();
                shop.lose(&reservation).await;
                winner.post(branch, "a").await.assert_first(201, "order of run 2");
                shop.complete_in_vain(reservation, encoder).await;
                text(200, "a success that was not committed")
            }
        })
        .await;
    loser.send(request(branch, "a")).await.assert_replay(201, "order of run 2");
    assert_eq!(shop.orders(), 1);
}

async fn a_run_that_lost_its_key_gets_409_while_the_new_owner_runs(branch: Branch) {
    for status in [200, 409, 503] {
        let shop = Shop::open().await;
        let server = shop
            .serve(move |run, shop: Shop, step: TransactionalStep| async move {
                if run > 1 {
                    shop.gate.enter().await;
                    let _ = shop.order(step, move || Ok(created(run))).await;
                    return text(200, "");
                }
                let (reservation, encoder) = step.into_parts();
                shop.lose(&reservation).await;
                shop.gate.enter().await;
                shop.complete_in_vain(reservation, encoder).await;
                text(status, "what the loser says")
            })
            .await;
        let loser = async {
            let answer = server.post(branch, "a").await;
            shop.gate.release_one();
            answer
        };
        let winner = async {
            // The gate holds the first run, whose key can be taken over.
            shop.gate.entered().await;
            let (answer, ()) = tokio::join!(server.post(branch, "a"), async {
                shop.gate.entered().await;
                shop.gate.release_one();
            });
            answer
        };
        let (loser, winner) = tokio::join!(loser, winner);
        loser.assert_problem(409, "idempotency_key_in_progress");
        winner.assert_first(201, "order of run 2");
    }
}

async fn a_run_that_lost_its_key_gets_409_after_the_new_owner_rolled_back(branch: Branch) {
    for status in [200, 409] {
        let shop = Shop::open().await;
        let server = shop
            .serve(move |run, shop: Shop, step: TransactionalStep| async move {
                if run == 2 {
                    let rolled_back = shop.order(step, || Err("sold out")).await;
                    assert_eq!(rolled_back, TransactionOutcome::RolledBack("sold out"));
                    return text(409, "sold out");
                }
                let (reservation, encoder) = step.into_parts();
                shop.lose(&reservation).await;
                shop.gate.enter().await;
                shop.complete_in_vain(reservation, encoder).await;
                text(status, "what the loser says")
            })
            .await;
        let (loser, ()) = tokio::join!(server.post(branch, "a"), async {
            shop.gate.entered().await;
            server.post(branch, "a").await.assert_first(409, "sold out");
            shop.gate.release_one();
        });
        loser.assert_problem(409, "idempotency_key_in_progress");
    }
}

async fn after_a_rollback_the_handlers_response_is_sent_while_the_next_request_runs(branch: Branch) {
    let shop = Shop::open().await;
    let server = shop
        .serve(async |run, shop: Shop, step| {
            let response = move || if run == 1 { Err("sold out") } else { Ok(created(run)) };
            if run > 1 {
                shop.gate.enter().await;
            }
            match shop.order(step, response).await {
                TransactionOutcome::RolledBack(error) => {
                    shop.gate.enter().await;
                    text(409, error)
                }
                _ => text(200, ""),
            }
        })
        .await;
    let first = async {
        let answer = server.post(branch, "a").await;
        shop.gate.release_one();
        answer
    };
    let second = async {
        shop.gate.entered().await;
        let (answer, ()) = tokio::join!(server.post(branch, "a"), async {
            shop.gate.entered().await;
            shop.gate.release_one();
        });
        answer
    };
    let (first, second) = tokio::join!(first, second);
    first.assert_first(409, "sold out");
    second.assert_first(201, "order of run 2");
}
