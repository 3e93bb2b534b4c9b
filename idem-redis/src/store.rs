//! [`RedisStore`]: the trait, over the scripts.

use idem_core::store::Span;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use idem_core::store::transition::{self, MIN_TOMBSTONE};
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest};
use idem_core::{
    AbandonOutcome, CompleteOutcome, ExpiredLeasePolicy, Key, Operation, ReleaseOutcome, RenewOutcome,
    ReservationStore, StoreError,
};
use redis::{Cmd, Value};

use crate::address::Address;
use crate::error::{Cause, is_no_write, of_failure};
use crate::frame::{self, millis};
use crate::health::{Doctor, Health};
use crate::link::{Connection, Link};
use crate::replication::Pledge;
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
    doctor: Arc<Doctor>,
    options: Arc<Options>,
}

impl RedisStore {
    /// Connects to the server of a URL, with the default [`Options`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, Options::new()).await
    }

    /// Connects to the server of a URL.
    ///
    /// The URLs:
    ///
    /// | | |
    /// |---|---|
    /// | `redis://[[user]:password@]host[:port][/db]` | one server; `valkey://` is the same |
    /// | `redis+unix:/path[?db=1&user=..&password=..]` | one server on a Unix socket; `unix:` is the same |
    /// | `redis+sentinel://[[user]:password@]host[:port],host../service[/db][?sentinel_user=..&sentinel_password=..]` | the master that Sentinel names |
    /// | `redis+cluster://[[user]:password@]host[:port],host..` | a Cluster, found through any of these nodes |
    ///
    /// With `rediss` or `valkeys` instead, everything is TLS (feature `rustls`). User and password in front of the hosts are
    /// for the servers that keep the data; Sentinels have their own. All are percent-encoded.
    ///
    /// Fails as `Misconfigured` if the URL is none, the server refuses the login or is too old, or keeps no records (see
    /// [`HealthMode`](crate::HealthMode)); and as `Unavailable` or `Timeout` if it cannot be reached.
    pub async fn connect_with(url: &str, options: Options) -> Result<Self, StoreError> {
        let options = options.bounded();
        let address = Address::parse(url).map_err(|error| Cause::from(error).of(Operation::Connect))?;
        let link = Link::connect(&address, &options).await?;
        Self::over(link, options).await
    }

    /// A store over a connection that the application already has, and keeps alive itself: see [`Connection`].
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use idem_redis::{Options, RedisStore};
    ///
    /// let client = redis::Client::open("redis://127.0.0.1")?;
    /// let connection = client.get_connection_manager().await?;
    /// let store = RedisStore::from_connection(connection, Options::new()).await?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_connection(
        connection: impl Into<Connection>,
        options: Options,
    ) -> Result<Self, StoreError> {
        if options.replicas.is_some() {
            return Err(Cause::ReplicasOfOthers.of(Operation::Connect));
        }
        let options = options.bounded();
        Self::over(Link::over(connection.into(), &options), options).await
    }

    async fn over(link: Link, options: Options) -> Result<Self, StoreError> {
        let doctor = Doctor::first(&link, &options).await;
        let doctor = doctor.map_err(|ailment| Cause::from(ailment).of(Operation::Connect))?;
        Ok(Self { link, doctor, options: Arc::new(options) })
    }

    /// Looks at the servers that keep the records, now: their version, role, eviction, persistence.
    ///
    /// The store does so itself at connect and every [`health_interval`](Options::health_interval), and logs what has
    /// changed.
    pub async fn health(&self) -> Health {
        self.doctor.look(&self.link).await
    }

    /// Runs a script and reads its answer.
    async fn run<T>(
        &self,
        operation: Operation,
        script: &Script,
        name: &[u8],
        read: impl FnOnce(Value) -> Result<T, Cause> + Send,
        add: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<T, StoreError> {
        let replied = script.run(&self.link, name, add).await;
        let reply = replied.map_err(|failure| of_failure(&failure, operation))?;
        read(reply).map_err(|cause| cause.of(operation))
    }

    fn name(&self, key: &Key) -> Vec<u8> {
        key::name(&self.options.key_prefix, key)
    }

    /// What will tell whether replicas have the operation that comes next.
    async fn pledge(&self, name: &[u8], operation: Operation) -> Result<Option<Pledge>, StoreError> {
        self.link.pledge(name).await.map_err(|failure| of_failure(&failure, operation))
    }

    /// What can be told of a reservation by a server that does not write now: everything that changes nothing.
    async fn look_instead(
        &self,
        name: &[u8],
        request: &ReserveRequest,
        refused: StoreError,
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
        Err(refused)
    }
}

/// Waits until replicas have what was done, if that was asked for.
async fn replicated(pledge: Option<Pledge>, operation: Operation) -> Result<(), StoreError> {
    match pledge {
        None => Ok(()),
        // Boxed, so that what not everybody asks for does not make every operation's future larger.
        Some(pledge) => Box::pin(pledge.kept()).await.map_err(|failure| of_failure(&failure, operation)),
    }
}

#[async_trait]
impl ReservationStore for RedisStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        let name = self.name(key);
        if let Some(ailment) = self.doctor.refusal() {
            let refused = Cause::from(ailment).of(Operation::Reserve);
            return Box::pin(self.look_instead(&name, &request, refused)).await;
        }
        let pledge = self.pledge(&name, Operation::Reserve).await?;
        let record = frame::new_in_flight(&request);
        let remembered = millis(request.lease) + millis(request.record_ttl);
        let replied = script::RESERVE.run(&self.link, &name, |command| {
            command.arg(&record[..]).arg(remembered);
            if request.on_expired_lease == ExpiredLeasePolicy::Refuse {
                command.arg("refuse");
            }
        });
        match replied.await {
            Ok(reply) => {
                let outcome =
                    reply::reserve(reply, &request).map_err(|cause| cause.of(Operation::Reserve))?;
                if let ReserveOutcome::Reserved { .. } = outcome {
                    replicated(pledge, Operation::Reserve).await?;
                }
                Ok(outcome)
            }
            Err(failure) if is_no_write(&failure.error) => {
                let refused = of_failure(&failure, Operation::Reserve);
                // Boxed, so that the rare way does not make every reservation's future larger.
                Box::pin(self.look_instead(&name, &request, refused)).await
            }
            Err(failure) => Err(of_failure(&failure, Operation::Reserve)),
        }
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        let (name, lease) = (self.name(key), millis(lease));
        let pledge = self.pledge(&name, Operation::Renew).await?;
        let outcome = self
            .run(
                Operation::Renew,
                &script::RENEW,
                &name,
                |reply| reply::renew(reply, owner),
                |command| {
                    command.arg(owner.as_bytes()).arg(lease);
                },
            )
            .await?;
        if let RenewOutcome::Renewed { .. } = outcome {
            replicated(pledge, Operation::Renew).await?;
        }
        Ok(outcome)
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        let (bytes, max_answer_bytes) = (completion.answer.len(), self.options.max_answer_bytes);
        if bytes > max_answer_bytes {
            return Err(Cause::AnswerTooLarge { bytes, max_answer_bytes }.of(Operation::Complete));
        }
        let retention = millis(completion.retention);
        let kept_for = frame::kept_for(retention);
        let answer = frame::answer(&completion.answer);
        let name = self.name(key);
        let pledge = self.pledge(&name, Operation::Complete).await?;
        let outcome = self
            .run(
                Operation::Complete,
                &script::COMPLETE,
                &name,
                |reply| reply::complete(reply, owner),
                |command| {
                    command.arg(owner.as_bytes()).arg(retention).arg(&kept_for).arg(&answer);
                },
            )
            .await?;
        // Sent again, it asks again.
        if let CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted = outcome {
            replicated(pledge, Operation::Complete).await?;
        }
        Ok(outcome)
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        let read = |reply| reply::release(reply, owner);
        self.run(Operation::Release, &script::RELEASE, &self.name(key), read, |command| {
            command.arg(owner.as_bytes()).arg(millis(MIN_TOMBSTONE));
        })
        .await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        let read = |reply| reply::abandon(reply, owner);
        self.run(Operation::Abandon, &script::ABANDON, &self.name(key), read, |command| {
            command.arg(owner.as_bytes());
        })
        .await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        let found = self.run(Operation::Get, &script::GET, &self.name(key), reply::get, |_| ()).await?;
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
