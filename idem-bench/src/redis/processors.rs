//! What floor and subject take of the processors: the explanation of the figures, since server and client share them.

use std::cell::Cell;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use super::server::spent;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, nanos};

/// Reads how much processor time the server and this process have taken.
pub(super) struct Processors<'r> {
    runtime: &'r Runtime,
    connection: MultiplexedConnection,
}

/// What one side has taken in all of its rounds.
#[derive(Debug, Default)]
pub(super) struct Bill {
    server: Cell<Duration>,
    client: Cell<Duration>,
    items: Cell<u64>,
}

impl<'r> Processors<'r> {
    pub(super) fn new(runtime: &'r Runtime, connection: MultiplexedConnection) -> Self {
        Self { runtime, connection }
    }

    /// Runs a round of this many items, and adds its processor time.
    pub(super) fn charge(&self, bill: &Bill, items: u64, round: impl FnOnce() -> f64) -> f64 {
        let (server, client) = self.spent();
        let took = round();
        let (server_then, client_then) = self.spent();
        bill.server.update(|sum| sum + server_then.saturating_sub(server));
        bill.client.update(|sum| sum + client_then.saturating_sub(client));
        bill.items.update(|sum| sum + items);
        took
    }

    fn spent(&self) -> (Duration, Duration) {
        let mut connection = self.connection.clone();
        let server = self.runtime.block_on(spent(&mut connection));
        let client = clock_gettime(ClockId::ProcessCPUTime).try_into();
        (
            server.unwrap_or_else(|error| panic!("the server does not tell its times: {error}")),
            client.unwrap_or_else(|_| panic!("no process has taken less than nothing")),
        )
    }
}

impl Bill {
    /// Microseconds of the server and of this process for each item.
    fn each(&self) -> [Spread; 2] {
        #[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 items")]
        let items = self.items.get() as f64;
        [&self.server, &self.client].map(|sum| Spread::single(nanos(sum.get()) / items / 1e3))
    }
}

/// What both have taken, as a figure that explains another.
pub(super) fn explained(id: &'static str, what: &str, floor: &Bill, subject: &Bill) -> Figure {
    let [floor_server, floor_client] = floor.each();
    let [server, client] = subject.each();
    Figure {
        id,
        what: format!("processor time of {what}: server and client together"),
        unit: "us",
        target: Target::Untargeted,
        value: Spread::single(server.median + client.median),
        comparisons: vec![
            ("server", server),
            ("client", client),
            ("floor's server", floor_server),
            ("floor's client", floor_client),
        ],
        flush: None,
    }
}
