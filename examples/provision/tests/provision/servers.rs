//! Servers for the stores that need one. Each test starts its own.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_postgres::Client;

/// A Postgres for tests that are not async.
pub(crate) struct Postgres {
    server: test_servers::postgres::Postgres,
    runtime: Runtime,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(test_servers::postgres::Postgres::start());
        Self { server, runtime }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// A connection, and the runtime that its queries are awaited on.
    pub(crate) fn client(&self) -> (Client, Handle) {
        (self.runtime.block_on(self.server.client()), self.runtime.handle().clone())
    }
}
