//! [`RedisStore`]: the trait, over the scripts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_core::transition::{self, MIN_TOMBSTONE};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Completion, ExpiredLeasePolicy, Key, Operation, OwnerToken, RecordView, ReleaseOutcome,
    RenewOutcome, ReservationStore, Reserve, ReserveOutcome, StoreError, check_lease,
};
use redis::{Cmd, Value};
use crate::address::Address;
use crate::error::{Cause, is_no_write, of_failure};
use crate::frame::{self, millis};
use crate::link::{Failure, Link};
use crate::script::{self, Script};
use crate::{Options, key, reply};

/// A store in Redis or Valkey. Clones share its connection; other processes may use the same server.
///
/// Every operation is one round trip, and one atomic step on the server, on the server's clock. An operation that was sent
/// is carried out, also if its future is dropped.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idem_core::Engine;
/// use idem_redis::RedisStore;
///
/// let store = RedisStore::connect("redis://127.0.0.1").await?;
/// let engine = Engine::builder(store).build()?;
/// # drop(engine);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    link: Link,
    options: Arc<Options>,
}

impl RedisStore {
    /// Connects to the server of a URL, with the default [`Options`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, Options::new()).await
    }

    /// Connects to the server of a URL.
    ///
    /// Fails as `Misconfigured` if the URL is none, or the server refuses the login; and as `Unavailable` or `Timeout` if
    /// it cannot be reached.
    pub async fn connect_with(url: &str, options: Options) -> Result<Self, StoreError> {
        let address = Address::parse(url).map_err(|error| Cause::from(error).of(Operation::Connect))?;
        let link = Link::connect(&address, &options).await?;
        Ok(Self { link, options: Arc::new(options) })
    }

    /// Runs a script and reads its answer.
    async fn run<T>(
        &self,
        operation: Operation,
        script: &Script,
        key: &Key,
        read: impl FnOnce(Value) -> Result<T, Cause> + Send,
        add: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<T, StoreError> {
        let name = self.name(key);
        let replied = script.run(&self.link, &name, add).await;
        let reply = replied.map_err(|failure| of_failure(&failure, operation))?;
        read(reply).map_err(|cause| cause.of(operation))
    }

    fn name(&self, key: &Key) -> Vec<u8> {
        key::name(&self.options.key_prefix, key)
    }

    /// What can be told of a reservation by a server that does not write now: everything that changes nothing.
    async fn look_instead(
        &self,
        name: &[u8],
        request: &Reserve,
        refused: Failure,
    ) -> Result<ReserveOutcome, StoreError> {
        const OPERATION: Operation = Operation::Reserve;
        let looked = script::GET.run(&self.link, name, |_| ()).await;
        let found = looked.map_err(|failure| of_failure(&failure, OPERATION))?;
        if let Some((frame, ttl)) = reply::get(found).map_err(|cause| cause.of(OPERATION))? {
            let (record, now) = frame.with(ttl);
            if let (outcome, None) = transition::reserve(Some(&record), request, now)? {
                return Ok(outcome);
            }
        }
        Err(of_failure(&refused, OPERATION))
    }
}

#[async_trait]
impl ReservationStore for RedisStore {
    async fn reserve(&self, key: &Key, request: Reserve) -> Result<ReserveOutcome, StoreError> {
        request.check()?;
        let name = self.name(key);
        let record = frame::new_in_flight(&request);
        let remembered = millis(request.lease) + millis(request.record_ttl);
        let takes_over = match request.on_expired_lease {
            ExpiredLeasePolicy::TakeOver => "1",
            ExpiredLeasePolicy::Refuse => "0",
        };
        let replied = script::RESERVE.run(&self.link, &name, |command| {
            command.arg(&record[..]).arg(remembered).arg(takes_over);
        });
        match replied.await {
            Ok(reply) => reply::reserve(reply, &request).map_err(|cause| cause.of(Operation::Reserve)),
            Err(refused) if is_no_write(&refused.error) => self.look_instead(&name, &request, refused).await,
            Err(failure) => Err(of_failure(&failure, Operation::Reserve)),
        }
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Duration) -> Result<RenewOutcome, StoreError> {
        check_lease(lease)?;
        let lease = millis(lease);
        self.run(Operation::Renew, &script::RENEW, key, reply::renew, |command| {
            command.arg(owner.as_bytes()).arg(lease);
        })
        .await
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        completion.check()?;
        let (bytes, max_answer_bytes) = (completion.answer.len(), self.options.max_answer_bytes);
        if bytes > max_answer_bytes {
            return Err(Cause::AnswerTooLarge { bytes, max_answer_bytes }.of(Operation::Complete));
        }
        let retention = millis(completion.retention);
        let kept_for = frame::kept_for(retention);
        let answer = frame::answer(&completion.answer);
        self.run(Operation::Complete, &script::COMPLETE, key, reply::complete, |command| {
            command.arg(owner.as_bytes()).arg(retention).arg(&kept_for).arg(&answer);
        })
        .await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.run(Operation::Release, &script::RELEASE, key, reply::release, |command| {
            command.arg(owner.as_bytes()).arg(millis(MIN_TOMBSTONE));
        })
        .await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.run(Operation::Abandon, &script::ABANDON, key, reply::abandon, |command| {
            command.arg(owner.as_bytes());
        })
        .await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        let found = self.run(Operation::Get, &script::GET, key, reply::get, |_| ()).await?;
        Ok(found.and_then(|(frame, ttl)| {
            let (record, now) = frame.with(ttl);
            record.view(now)
        }))
    }

    /// Removes nothing: the server removes what has expired, by itself.
    async fn sweep(&self, _limit: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

/// Shows what the records are called, never what is in them, nor where the server is: its URL may hold a password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("key_prefix", &self.options.key_prefix).finish_non_exhaustive()
    }
}
