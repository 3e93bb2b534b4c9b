//! The transactional step, on SQLite: the effect and the completion are committed together, and the client is answered
//! from what was committed.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use idem_core::Engine;
use idem_http::TransactionalStep;
use idem_sqlite::{SqliteStore, TransactionOutcome};
use tempfile::TempDir;

use crate::support::{Branch, Gate, Runs, Server, layer_of, on_both_branches, request, text};

on_both_branches![
    the_effect_and_the_answer_are_committed_together_and_replayed,
    a_step_that_fails_is_rolled_back_and_the_very_next_retry_runs,
    a_panic_inside_of_the_step_is_rolled_back_and_the_very_next_retry_runs,
    a_step_that_is_taken_and_dropped_is_abandoned_and_its_success_is_not_believed,
    a_handler_that_fails_after_its_commit_is_answered_with_what_was_committed,
    a_step_can_be_taken_once,
    a_step_that_is_not_taken_changes_nothing,
    an_answer_over_the_limit_is_committed_and_not_kept,
    a_run_that_lost_its_lease_commits_nothing,
    while_the_run_that_took_the_key_is_running_the_loser_is_told_so_whatever_its_handler_says,
    a_run_that_lost_its_key_to_one_that_was_rolled_back_is_told_to_ask_again,
    after_a_roll_back_the_handlers_own_answer_is_sent_even_if_the_next_request_is_running,
];

#[derive(Clone)]
struct Shop {
    store: SqliteStore,
    directory: std::sync::Arc<TempDir>,
}

impl Shop {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("shop.db").display());
        Self { store: SqliteStore::connect(&url).await.unwrap(), directory: directory.into() }
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
            handler(counted.one_more(), shop, step).await
        };
        let router = Router::new().route("/things", post(handler)).with_state(self.clone()).layer(layer);
        Server::serve(router, runs).await
    }

    /// Creates a row and completes the request with `response`, which a panic or an error can prevent.
    async fn order(
        &self,
        step: TransactionalStep,
        response: impl FnOnce() -> Result<http::Response<Bytes>, &'static str> + Send + 'static,
    ) -> TransactionOutcome<(), &'static str> {
        let (reservation, recorder) = step.into_parts();
        let ordered = self.store.complete_reservation(reservation, move |connection| {
            let create = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY) STRICT";
            connection.execute_batch(create).map_err(|_| "no table")?;
            connection.execute("INSERT INTO orders DEFAULT VALUES", ()).map_err(|_| "no row")?;
            Ok(((), recorder.record(response()?)))
        });
        ordered.await.unwrap()
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

async fn the_effect_and_the_answer_are_committed_together_and_replayed(branch: Branch) {
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

async fn a_step_that_fails_is_rolled_back_and_the_very_next_retry_runs(branch: Branch) {
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

async fn a_panic_inside_of_the_step_is_rolled_back_and_the_very_next_retry_runs(branch: Branch) {
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

async fn a_step_that_is_taken_and_dropped_is_abandoned_and_its_success_is_not_believed(branch: Branch) {
    let shop = Shop::open().await;
    let server = shop
        .serve(async |run, shop: Shop, step| {
            let attempt = step.attempt().number;
            if run == 1 {
                drop(step);
                return text(200, "success, it says");
            }
            assert_eq!(attempt, 2);
            let _ = shop.order(step, move || Ok(created(run))).await;
            text(200, "")
        })
        .await;
    server.post(branch, "a").await.assert_problem(500, "idempotency_step_not_committed");
    server.post(branch, "a").await.assert_first(201, "order of run 2");
}

async fn a_handler_that_fails_after_its_commit_is_answered_with_what_was_committed(branch: Branch) {
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
    answer.assert_first(500, "the transactional step of this request was taken before");
}

async fn a_step_that_is_not_taken_changes_nothing(branch: Branch) {
    let shop = Shop::open().await;
    let layer = layer_of(&Engine::builder(shop.store.clone())).build();
    let server = Server::start(layer, |run, _| async move { text(201, format!("run {run}")) }).await;
    server.post(branch, "a").await.assert_first(201, "run 1");
    server.post(branch, "a").await.assert_replay(201, "run 1");
}

async fn an_answer_over_the_limit_is_committed_and_not_kept(branch: Branch) {
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
    let winner = std::sync::Arc::new(winner);
    let other = std::sync::Arc::clone(&winner);
    let loser = shop
        .serve(move |_, shop: Shop, step| {
            let other = std::sync::Arc::clone(&other);
            async move {
                let (reservation, recorder) = step.into_parts();
                // Another process takes the key over, as it would after this one's lease.
                shop.store_abandons(&reservation).await;
                other.post(branch, "a").await.assert_first(201, "order of run 2");
                let done = shop.store.complete_reservation(reservation, move |_| {
                    Ok::<_, &str>(((), recorder.record(created(1))))
                });
                assert_eq!(done.await.unwrap(), TransactionOutcome::Lost);
                text(200, "success, it says")
            }
        })
        .await;
    loser.send(request(branch, "a")).await.assert_replay(201, "order of run 2");
    assert_eq!(shop.orders(), 1);
}

async fn while_the_run_that_took_the_key_is_running_the_loser_is_told_so_whatever_its_handler_says(
    branch: Branch,
) {
    let shop = Shop::open().await;
    for status in [200, 409, 503] {
        let gate = Gate::closed();
        let held = gate.clone();
        let server = shop
            .serve(move |run, shop: Shop, step| {
                let gate = held.clone();
                async move {
                    if run > 1 {
                        gate.pass().await;
                        let _ = shop.order(step, move || Ok(created(run))).await;
                        return text(200, "");
                    }
                    let (reservation, recorder) = step.into_parts();
                    shop.store_abandons(&reservation).await;
                    gate.pass().await;
                    let done = shop.store.complete_reservation(reservation, move |_| {
                        Ok::<_, &str>(((), recorder.record(created(1))))
                    });
                    assert_eq!(done.await.unwrap(), TransactionOutcome::Lost);
                    text(status, "what the loser says")
                }
            })
            .await;
        let name = status.to_string();
        let loser = async {
            let answer = server.post(branch, &name).await;
            gate.let_one_go();
            answer
        };
        let winner = async {
            // The first one is held with a key that is up for takeover.
            gate.somebody().await;
            let (answer, ()) = tokio::join!(server.post(branch, &name), async {
                gate.somebody().await;
                gate.let_one_go();
            });
            answer
        };
        let (loser, winner) = tokio::join!(loser, winner);
        loser.assert_problem(409, "idempotency_key_in_progress");
        winner.assert_first(201, "order of run 2");
    }
}

async fn a_run_that_lost_its_key_to_one_that_was_rolled_back_is_told_to_ask_again(branch: Branch) {
    let shop = Shop::open().await;
    for status in [200, 409] {
        let gate = Gate::closed();
        let held = gate.clone();
        let server = shop
            .serve(move |run, shop: Shop, step| {
                let gate = held.clone();
                async move {
                    if run == 2 {
                        let rolled_back = shop.order(step, || Err("sold out")).await;
                        assert_eq!(rolled_back, TransactionOutcome::RolledBack("sold out"));
                        return text(409, "sold out");
                    }
                    let (reservation, recorder) = step.into_parts();
                    shop.store_abandons(&reservation).await;
                    gate.pass().await;
                    let done = shop.store.complete_reservation(reservation, move |_| {
                        Ok::<_, &str>(((), recorder.record(created(1))))
                    });
                    assert_eq!(done.await.unwrap(), TransactionOutcome::Lost);
                    text(status, "what the loser says")
                }
            })
            .await;
        let name = status.to_string();
        let (loser, ()) = tokio::join!(server.post(branch, &name), async {
            gate.somebody().await;
            server.post(branch, &name).await.assert_first(409, "sold out");
            gate.let_one_go();
        });
        loser.assert_problem(409, "idempotency_key_in_progress");
    }
}

async fn after_a_roll_back_the_handlers_own_answer_is_sent_even_if_the_next_request_is_running(
    branch: Branch,
) {
    let shop = Shop::open().await;
    let gate = Gate::closed();
    let held = gate.clone();
    let server = shop
        .serve(move |run, shop: Shop, step| {
            let gate = held.clone();
            async move {
                let response = move || if run == 1 { Err("sold out") } else { Ok(created(run)) };
                if run > 1 {
                    gate.pass().await;
                }
                match shop.order(step, response).await {
                    TransactionOutcome::RolledBack(error) => {
                        gate.pass().await;
                        text(409, error)
                    }
                    _ => text(200, ""),
                }
            }
        })
        .await;
    let first = async {
        let answer = server.post(branch, "a").await;
        gate.let_one_go();
        answer
    };
    let second = async {
        gate.somebody().await;
        let (answer, ()) = tokio::join!(server.post(branch, "a"), async {
            gate.somebody().await;
            gate.let_one_go();
        });
        answer
    };
    let (first, second) = tokio::join!(first, second);
    first.assert_first(409, "sold out");
    second.assert_first(201, "order of run 2");
}

impl Shop {
    async fn store_abandons(&self, reservation: &idem_core::Reservation) {
        use idem_core::ReservationStore;

        let abandoned =
            self.store.abandon(reservation.key(), idem_core::backend::owner(&reservation)).await.unwrap();
        assert_eq!(abandoned, idem_core::AbandonOutcome::Abandoned);
    }
}
