//! "No limit", as people write it.

use std::sync::Arc;

use test_servers::redis::{Cluster, Kind, Server};

use super::*;

fn unlimited() -> Options {
    let span = Duration::MAX;
    Options::new()
        .command_timeout(span)
        .connect_timeout(span)
        .silent_after(span)
        .health_interval(span)
        .max_in_flight(usize::MAX)
        .max_answer_bytes(usize::MAX)
}

#[tokio::test]
async fn no_limit_is_a_setting_like_any_other() {
    let mut server = Server::redis();
    let store = connect(&server.url(), unlimited()).await;
    live(&store, "own").await;
    server.restart();
    live(&store, "own, again").await;

    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let store = RedisStore::from_connection(connection, unlimited()).await.unwrap();
    live(&store, "borrowed").await;
}

#[tokio::test]
async fn no_place_at_all_is_one_place() {
    let server = Server::redis();
    let mut options = Options::new();
    options.max_in_flight = 0;
    let store = connect(&server.url(), options).await;
    live(&store, "k").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_limit_is_a_setting_of_clusters_and_replicas_too() {
    let cluster = Arc::new(blocking(|| Cluster::start(Kind::Redis)).await);
    let store = connect(&cluster.url(), unlimited().replicas(1, Duration::MAX)).await;
    for n in 0..10 {
        live(&store, &n.to_string()).await;
    }
    // A redirection has a deadline of its own.
    let moving = Arc::clone(&cluster);
    blocking(move || moving.move_slot(0, 0, 1, || {})).await;
    for n in 0..200 {
        live(&store, &format!("moved {n}")).await;
    }
}
