//! axum, sqlx and Postgres: the order and the response to its request commit in one transaction.
//!
//! A crash leaves both or neither, so the client's retry gets the response, or runs as if it were the first. The layer
//! answers with what was committed, whatever the handler returns.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header::AUTHORIZATION};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use idem_core::Engine;
use idem_http::extract::TransactionalStep;
use idem_http::{IdempotencyLayer, Scope, ScopeError};
use idem_postgres::PostgresStore;
use idem_postgres::sqlx::ReservationExt;
use sqlx::PgPool;

/// The state of the service.
#[derive(Clone)]
pub struct Shop {
    /// The store, which has its own pool.
    pub store: PostgresStore,
    /// The service's pool, on the same database.
    pub pool: PgPool,
}

/// The authenticated customer.
#[derive(Clone)]
struct Customer(String);

/// The routes of the service.
pub fn app(shop: Shop) -> Result<Router, Box<dyn std::error::Error>> {
    let engine = Engine::builder(shop.store.clone()).build()?;
    let idempotency = IdempotencyLayer::builder(engine)
        .scope(|parts| {
            let customer = parts.extensions.get::<Customer>().ok_or(ScopeError::unauthenticated())?;
            Scope::principal(&customer.0)
        })
        .require_key()
        .build();
    let orders = Router::new().route("/orders", post(order));
    // The last layer is the outermost: it authenticates before a key is looked up.
    Ok(orders.route_layer(idempotency).route_layer(from_fn(authenticate)).with_state(shop))
}

async fn order(State(shop): State<Shop>, step: TransactionalStep, body: String) -> Response {
    let (reservation, encoder) = step.into_parts();
    // Each early return drops the transaction, which rolls it back.
    let Ok(mut transaction) = reservation.begin_sqlx_transaction(&shop.store, &shop.pool).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let insert = sqlx::query_scalar("INSERT INTO orders (item) VALUES ($1) RETURNING id").bind(body);
    let id: i64 = match insert.fetch_one(&mut *transaction).await {
        Ok(id) => id,
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let response = axum::http::Response::new(format!("order {id}"));
    match transaction.complete(encoder.encode(response.clone())).await {
        Ok(()) => response.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// A real service checks a token here.
async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let customer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let customer = Customer(customer.ok_or(StatusCode::UNAUTHORIZED)?.to_owned());
    request.extensions_mut().insert(customer);
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use test_servers::postgres::Postgres;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn ten_requests_with_one_key_make_one_order_and_get_its_number() {
        let server = Postgres::start().await;
        let store = PostgresStore::connect(&server.url()).await.unwrap();
        let pool = PgPool::connect(&server.url()).await.unwrap();
        let create = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, item text)";
        sqlx::query(create).execute(&pool).await.unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/orders", listener.local_addr().unwrap());
        let app = app(Shop { store, pool: pool.clone() }).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });

        let client = reqwest::Client::new();
        let mut answers = Vec::new();
        while answers.len() < 10 {
            let request =
                client.post(&url).header("authorization", "alice").header("idempotency-key", "\"k-1\"");
            let response = request.body("coffee").send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            answers.push(response.text().await.unwrap());
        }
        assert!(answers.iter().all(|answer| answer == "order 1"), "{answers:?}");
        let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&pool).await.unwrap();
        assert_eq!(orders, 1);
    }
}
