//! [`Floor`]: the cheapest ways to do such work with the server's own commands.
//!
//! *Fenced*: `SET NX GET` takes the key, and one script writes the answer if the claim is still there. That is the least that
//! lets only the owner complete. *Unsafe*: `GET`, `SETNX`, `SET`, as services do it: a crash blocks the key forever, and
//! a late writer overwrites an answer. Neither knows leases, attempts, fences or fingerprints, nor hashes a key.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};

use crate::load::Request;

const DAY: u64 = 86_400_000;
const ANSWER: &str = include_str!("floor.lua");

#[derive(Clone)]
pub(super) struct Floor {
    connection: MultiplexedConnection,
    answer: String,
}

impl Floor {
    pub(super) async fn new(mut connection: MultiplexedConnection) -> redis::RedisResult<Self> {
        let answer = redis::cmd("SCRIPT").arg("LOAD").arg(ANSWER).query_async(&mut connection).await?;
        Ok(Self { connection, answer })
    }

    /// Claims the key and answers it: two round trips.
    pub(super) async fn fenced(&mut self, request: &Request) {
        let claim = claim(request);
        let mut set = command("SET", request.key.as_bytes());
        set.arg(&claim[..]).arg("NX").arg("GET").arg("PX").arg(DAY);
        assert_eq!(self.ask(&set).await, Value::Nil, "the key is new");
        let mut answer = Cmd::with_capacity(7, 384);
        answer.arg("EVALSHA").arg(&self.answer).arg("1").arg(request.key.as_bytes());
        answer.arg(&claim[..]).arg(&request.answer[..]).arg(DAY);
        assert_eq!(self.ask(&answer).await, Value::Int(1), "the claim is ours");
    }

    /// Looks, claims and answers: three round trips.
    pub(super) async fn unfenced(&mut self, request: &Request) {
        assert_eq!(self.ask(&command("GET", request.key.as_bytes())).await, Value::Nil, "the key is new");
        let mut claim = command("SETNX", request.key.as_bytes());
        claim.arg("running");
        assert_eq!(self.ask(&claim).await, Value::Int(1), "the key is free");
        let mut set = command("SET", request.key.as_bytes());
        set.arg(&request.answer[..]).arg("PX").arg(DAY);
        assert_eq!(self.ask(&set).await, Value::Okay);
    }

    /// Claims the key of a request that somebody has claimed: what a duplicate costs at the least.
    pub(super) async fn refused(&mut self, request: &Request) {
        let mut set = command("SET", request.key.as_bytes());
        set.arg(&claim(request)[..]).arg("NX").arg("GET").arg("PX").arg(DAY);
        assert!(matches!(self.ask(&set).await, Value::BulkString(_)), "the key is claimed");
    }

    /// Reads an answer.
    pub(super) async fn look_up(&mut self, key: &[u8], answer: &Bytes) {
        let Value::BulkString(found) = self.ask(&command("GET", key)).await else { panic!("no answer") };
        assert!(found == answer[..], "another answer");
    }

    /// Claims the key, and leaves it at that.
    pub(super) async fn claim(&mut self, request: &Request) {
        let mut set = command("SET", request.key.as_bytes());
        set.arg(&claim(request)[..]).arg("NX").arg("GET").arg("PX").arg(DAY);
        assert_eq!(self.ask(&set).await, Value::Nil, "the key is new");
    }

    async fn ask(&mut self, command: &Cmd) -> Value {
        self.connection
            .send_packed_command(command)
            .await
            .unwrap_or_else(|error| panic!("the floor failed: {error}"))
    }
}

/// A token and a fingerprint, as long as ours.
fn claim(request: &Request) -> [u8; 48] {
    let mut claim = [7; 48];
    claim[..16].copy_from_slice(request.owner.as_bytes());
    claim
}

fn command(name: &str, key: &[u8]) -> Cmd {
    let mut command = Cmd::with_capacity(7, 256);
    command.arg(name).arg(key);
    command
}
