//! A consumer of a Redis stream: a message that is delivered twice is processed once.
//!
//! The key is the message's own id, which the producer chose. (The id of the stream entry is a new one when the producer
//! sends a message twice.) An entry that is not acknowledged is delivered again, so the consumer decides after each
//! outcome: [`decide`].

use idem_core::{Attempt, Engine, ExecuteError, Fingerprint, Key, Outcome};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamReadReply};
use redis::{RedisResult, cmd};

/// What the consumer does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Acknowledge it: nothing is left to do.
    Acknowledge,
    /// Leave it: it is delivered again.
    Leave,
    /// Move it to another stream, for a person to look at, and acknowledge it.
    SetAside,
}

/// What to do after each outcome. The match has no wildcard arm, so that a new outcome does not compile unhandled.
#[allow(clippy::match_same_arms, reason = "each arm has its own reason")]
pub fn decide<T, E>(outcome: &Result<Outcome<T>, ExecuteError<E>>) -> Verdict {
    match outcome {
        // It is done, now or before.
        Ok(Outcome::Executed(_) | Outcome::Replayed(_) | Outcome::NotKept) => Verdict::Acknowledge,
        // Another consumer is running it, or has taken it over.
        Ok(Outcome::InFlight { .. } | Outcome::LeaseLost(_)) => Verdict::Leave,
        // It ran, but the store did not confirm it. The next delivery is replayed, or runs and sees attempt 2.
        Ok(Outcome::Unrecorded { .. }) => Verdict::Leave,
        // The producer used one id for two messages, or nobody knows what an earlier attempt did (`Refuse`).
        Ok(Outcome::FingerprintMismatch | Outcome::LeaseExpired { .. }) => Verdict::SetAside,
        // It ran without protection; only if the engine is set to fail open.
        Ok(Outcome::Unprotected(_)) => Verdict::Acknowledge,
        // The handler failed and the key is free, or the store cannot be reached: later.
        Err(ExecuteError::Handler(_) | ExecuteError::Store(_)) => Verdict::Leave,
        // The stored value is not of this type any more: a release changed it.
        Err(ExecuteError::Codec(_)) => Verdict::SetAside,
    }
}

/// Consumes one stream.
pub struct Consumer<H> {
    connection: MultiplexedConnection,
    engine: Engine,
    stream: &'static str,
    handler: H,
}

const GROUP: &str = "billing";

impl<H, F> Consumer<H>
where
    H: Fn(Attempt, String) -> F + Sync,
    F: Future<Output = Result<String, std::io::Error>> + Send,
{
    /// Joins the stream's consumer group. Creates the stream and the group if they do not exist.
    pub async fn join(
        mut connection: MultiplexedConnection,
        engine: Engine,
        stream: &'static str,
        handler: H,
    ) -> RedisResult<Self> {
        let mut create = cmd("XGROUP");
        create.arg(&["CREATE", stream, GROUP, "0", "MKSTREAM"]);
        match create.query_async::<()>(&mut connection).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            _ => Ok(Self { connection, engine, stream, handler }),
        }
    }

    /// Processes what another consumer left unacknowledged for at least `idle_ms` milliseconds, then what is new. Returns
    /// what became of each entry.
    pub async fn consume(&mut self, idle_ms: u64) -> RedisResult<Vec<Verdict>> {
        let mut claim = cmd("XAUTOCLAIM");
        claim.arg(self.stream).arg(GROUP).arg("me").arg(idle_ms).arg("0-0");
        let left: StreamAutoClaimReply = claim.query_async(&mut self.connection).await?;
        let mut read = cmd("XREADGROUP");
        read.arg(&["GROUP", GROUP, "me", "COUNT", "100", "STREAMS", self.stream, ">"]);
        let new: Option<StreamReadReply> = read.query_async(&mut self.connection).await?;
        let new = new.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);

        let mut verdicts = Vec::new();
        for entry in left.claimed.into_iter().chain(new) {
            let verdict = self.process(&entry).await;
            self.settle(&entry, verdict).await?;
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    async fn process(&self, entry: &StreamId) -> Verdict {
        let (Some(id), Some(body)) = (entry.get::<String>("id"), entry.get::<String>("body")) else {
            return Verdict::SetAside;
        };
        let Ok(key) = Key::new(self.stream, &id) else { return Verdict::SetAside };
        let fingerprint = Fingerprint::from_bytes_of(&body);
        let handler = |attempt| (self.handler)(attempt, body);
        decide(&self.engine.execute(&key, &fingerprint, handler).await)
    }

    async fn settle(&mut self, entry: &StreamId, verdict: Verdict) -> RedisResult<()> {
        if verdict == Verdict::Leave {
            return Ok(());
        }
        if verdict == Verdict::SetAside {
            let mut add = cmd("XADD");
            add.arg(format!("{}:aside", self.stream)).arg(&["*", "entry"]).arg(format!("{:?}", entry.map));
            add.query_async::<()>(&mut self.connection).await?;
        }
        cmd("XACK").arg(&[self.stream, GROUP, &entry.id]).query_async(&mut self.connection).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use idem_redis::RedisStore;
    use test_servers::redis::Server;

    use super::*;

    const STREAM: &str = "invoices";

    #[tokio::test]
    async fn a_message_that_arrives_twice_is_processed_once_and_one_that_failed_again() {
        let server = Server::redis();
        let client = redis::Client::open(server.url()).unwrap();
        let mut producer = client.get_multiplexed_async_connection().await.unwrap();
        let engine = Engine::builder(RedisStore::connect(&server.url()).await.unwrap()).build().unwrap();

        let runs = AtomicU32::new(0);
        let handler = async |_: Attempt, body: String| match (runs.fetch_add(1, Ordering::SeqCst), &*body) {
            (_, "bad") => Err(std::io::Error::other("not now")),
            (run, _) => Ok(format!("invoice {run}")),
        };
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let handler = |attempt, body| Box::pin(handler(attempt, body)) as std::pin::Pin<Box<_>>;
        let mut consumer = Consumer::join(connection, engine, STREAM, handler).await.unwrap();

        let messages = [("1", "100 EUR"), ("1", "100 EUR"), ("1", "900 EUR"), ("2", "bad")];
        for (id, body) in messages {
            let mut add = cmd("XADD");
            add.arg(&[STREAM, "*", "id", id, "body", body]);
            add.query_async::<()>(&mut producer).await.unwrap();
        }
        let verdicts = consumer.consume(0).await.unwrap();
        let expected = [Verdict::Acknowledge, Verdict::Acknowledge, Verdict::SetAside, Verdict::Leave];
        assert_eq!(verdicts, expected);
        assert_eq!(runs.load(Ordering::SeqCst), 2);

        // Only the entry that was left is delivered again.
        assert_eq!(consumer.consume(0).await.unwrap(), [Verdict::Leave]);
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }
}
