//! Connections that the application already has.

use idem_core::StoreErrorKind;
use test_servers::redis::{Cluster, Kind, Server, Setup};

use super::*;

#[tokio::test]
async fn a_store_shares_the_applications_connection() {
    let server = Server::redis();
    let client = redis::Client::open(server.url()).unwrap();
    let multiplexed = client.get_multiplexed_async_connection().await.unwrap();
    let store = RedisStore::from_connection(multiplexed, RedisOptions::new()).await.unwrap();
    live(&store, "multiplexed").await;
    let manager = client.get_connection_manager().await.unwrap();
    let store = RedisStore::from_connection(manager, RedisOptions::new()).await.unwrap();
    live(&store, "manager").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_shares_the_applications_cluster_connection() {
    let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
    let nodes: Vec<_> = cluster.nodes.iter().map(Server::url).collect();
    let connection = redis::cluster::ClusterClient::new(nodes).unwrap().get_async_connection().await.unwrap();
    let store = RedisStore::from_connection(connection, RedisOptions::new()).await.unwrap();
    for n in 0..20 {
        live(&store, &n.to_string()).await;
    }
    assert_eq!(store.health().await.servers.len(), 3);
}

#[tokio::test]
async fn health_is_checked_on_an_applications_connection_too() {
    let server = Setup::new(Kind::Redis).set(&["maxmemory-policy", "allkeys-lru"]).start();
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let error = RedisStore::from_connection(connection, RedisOptions::new()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Misconfigured);
}

#[tokio::test]
async fn waiting_for_replicas_needs_connections_of_the_stores_own() {
    let server = Server::redis();
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let options = RedisOptions::new().replicas(1, Duration::from_secs(1));
    let error = RedisStore::from_connection(connection, options).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Misconfigured);
}
