//! Settings without a limit, and limits of zero.

use std::sync::Arc;

use test_servers::redis::{Cluster, Kind, Server};

use super::*;

fn unlimited() -> RedisOptions {
    let span = Duration::MAX;
    RedisOptions::new()
        .command_timeout(span)
        .connect_timeout(span)
        .stall_timeout(span)
        .health_interval(span)
        .max_in_flight(usize::MAX)
        .max_answer_bytes(usize::MAX)
}

#[tokio::test]
async fn unlimited_settings_work() {
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
async fn a_limit_of_zero_commands_in_flight_counts_as_one() {
    let server = Server::redis();
    let store = connect(&server.url(), RedisOptions::new().max_in_flight(0)).await;
    live(&store, "k").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlimited_settings_work_with_clusters_and_replicas() {
    let cluster = Arc::new(blocking(|| Cluster::start(Kind::Redis)).await);
    let store = connect(&cluster.url(), unlimited().replicas(1, Duration::MAX)).await;
    for n in 0..10 {
        live(&store, &n.to_string()).await;
    }
    // Redirections have a deadline of their own.
    let moving = Arc::clone(&cluster);
    blocking(move || moving.move_slot(0, 0, 1, || {})).await;
    for n in 0..200 {
        live(&store, &format!("moved {n}")).await;
    }
}
