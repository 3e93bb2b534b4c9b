//! [`Link`]: one way to send a command, whatever the servers are.

use idem_core::{Effect, Operation, StoreError};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, Value};

use crate::Options;
use crate::address::Address;
use crate::error::of_failure;

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Link(MultiplexedConnection);

/// A command failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: RedisError,
    pub(crate) effect: Effect,
}

impl Link {
    pub(crate) async fn connect(address: &Address, _options: &Options) -> Result<Self, StoreError> {
        let opened = async {
            let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(std::time::Duration::from_secs(10)));
            redis::Client::open(address.0.clone())?.get_multiplexed_async_connection_with_config(&config).await
        };
        let opened = opened.await.map_err(|error| {
            of_failure(&Failure { error, effect: Effect::NotApplied }, Operation::Connect)
        });
        Ok(Self(opened?))
    }

    /// One command, one round trip.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        let reply = self.0.clone().send_packed_command(command).await;
        reply.and_then(Value::extract_error).map_err(|error| {
            let effect = match error.kind() {
                ErrorKind::Server(_) | ErrorKind::Extension => Effect::NotApplied,
                _ => Effect::Unknown,
            };
            Failure { error, effect }
        })
    }
}
