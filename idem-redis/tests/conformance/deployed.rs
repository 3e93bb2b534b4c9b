//! [`Deployed`]: a Cluster or a Sentinel group for each case, in real time. On a moved clock such servers would call each
//! other dead.

use std::sync::Arc;

use idem_conformance::{Ability, Clock, Harness, Instance};
use idem_core::ReservationStore;
use idem_redis::RedisStore;
use test_servers::redis::{Cluster, Kind, SentinelGroup, Server};

/// Servers that are one store.
pub(crate) trait Deployment: Send + Sync + Sized + 'static {
    /// Starts them. Blocks.
    fn start() -> Self;
    fn url(&self) -> String;
    fn servers(&self) -> &[Server];
}

/// The suite over such servers.
pub(crate) struct Deployed<D>(std::marker::PhantomData<fn() -> D>);

impl<D> Deployed<D> {
    pub(crate) fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

#[async_trait::async_trait]
impl<D: Deployment> Harness for Deployed<D> {
    async fn fresh(&self) -> Box<dyn Instance> {
        // The runtime of a case may have only one thread.
        let deployment = std::thread::spawn(D::start).join().unwrap();
        let store = connect(&deployment.url()).await;
        Box::new(Opened { deployment, store })
    }

    fn clock(&self) -> Clock {
        Clock::Real
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        Some(16 << 20)
    }

    fn removes_by_itself(&self) -> bool {
        true
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::FlushScripts => None,
            _ => Some("the suite over one server covers it; it does not depend on the number of servers"),
        }
    }
}

struct Opened<D> {
    deployment: D,
    store: Arc<RedisStore>,
}

#[async_trait::async_trait]
impl<D: Deployment> Instance for Opened<D> {
    fn store(&self) -> Arc<dyn ReservationStore> {
        self.store.clone()
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        connect(&self.deployment.url()).await
    }

    async fn flush_scripts(&self) {
        for server in self.deployment.servers() {
            server.command(&["SCRIPT", "FLUSH"]);
        }
    }
}

async fn connect(url: &str) -> Arc<RedisStore> {
    Arc::new(RedisStore::connect(url).await.unwrap())
}

impl Deployment for Cluster {
    fn start() -> Self {
        Self::start(Kind::Redis)
    }

    fn url(&self) -> String {
        self.url()
    }

    fn servers(&self) -> &[Server] {
        &self.nodes
    }
}

impl Deployment for SentinelGroup {
    fn start() -> Self {
        Self::start()
    }

    fn url(&self) -> String {
        self.url()
    }

    fn servers(&self) -> &[Server] {
        &self.servers
    }
}
