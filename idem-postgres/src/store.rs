//! [`PostgresStore`]: the trait, each operation a statement or two.
//!
//! Every statement is a transaction of its own, so that nothing is ever half done and no connection is left in the midst
//! of something; made for READ COMMITTED, and right at every level that a role or a database may begin with. Answers that
//! change nothing come from one look at the record. What changes a record asks again, in the statement that does it, whether
//! it may: if not, no row comes back, and the operation looks anew, in a *new* statement with a new snapshot. A statement
//! that looked and wrote at once could see neither its own row nor the one that was in its way; of the two in a function
//! (`sql/schema/v1/reserve.sql`) each has a snapshot of its own.
//!
//! INV-1: no reservation, renewal or sweep waits for the lock of a row. A record that stays locked (by its owner's open
//! transaction) is in flight to a challenger, and still the owner's to its own heartbeat.
//! INV-2: what is written comes from `clock_timestamp()` of the statement that writes, read after the lock was had where
//! that decides who owns the key.
//! INV-3: an answer that changes nothing was true at the time before the look and at the time after it; between them lies
//! the snapshot.

use idem_core::store::Span;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, State, Timestamp, transition,
};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, Effect, Key, Operation, ReleaseOutcome, RenewOutcome,
    ReservationStore, StoreError, StoreErrorKind,
};

use crate::Options;
use crate::binary::Binary;
use crate::connection::{Held, Parameter};
use crate::error::{Cause, Failure};
use crate::guards::Guards;
use crate::interval::Interval;
use crate::names::Names;
use crate::patience::Patience;
use crate::row::{self, Found, RowError, state};
use crate::statement::{SqlTexts, Statement};

/// A row has to fit into 1 GiB wherever the server has it in its hands, the rest of it as well.
const LONGEST_ANSWER: usize = 1_000_000_000;
/// Records that one statement of a sweep removes: few, so that it holds their locks shortly.
pub(crate) const SWEEP_BATCH: usize = 1000;

/// A store in a table of a Postgres database. Clones share its pool of connections.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idem_core::Engine;
/// use idem_postgres::PostgresStore;
///
/// let store = PostgresStore::connect("postgres://shop:secret@db.example/shop").await?;
/// let engine = Engine::builder(store).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones share.
pub(crate) struct Inner {
    pub(crate) pool: Pool,
    pub(crate) options: Options,
    pub(crate) names: Names,
    pub(crate) sql: SqlTexts,
    /// The keys that are held by open transactions of this process.
    pub(crate) guards: Guards,
    /// Whether the server can notice, in the midst of a statement, that its client is gone. Known once it is open.
    pub(crate) notices_clients: OnceLock<bool>,
    /// Looking and inserting in one transaction was not serializable once, and is done apart from then on.
    pub(crate) looks_apart: AtomicBool,
}

impl Inner {
    pub(crate) async fn connection(&self) -> Result<Held, Failure> {
        Held::take(&self.pool, self.options.statements, self.options.pool_timeout).await
    }

    /// The record of a key, expired or not (INV-3).
    pub(crate) async fn look(&self, held: &mut Held, key: &Key) -> Result<Option<Found>, Failure> {
        let digest = Binary::digest(key);
        let parameters: [Parameter<'_>; 1] = [&digest];
        let mut patience = Patience::default();
        loop {
            let row = match held.query_opt(&self.sql.look, &parameters).await {
                Err(failure) if failure.is_conflict() && patience.wait().await => continue,
                row => row?,
            };
            let Some(row) = row else { return Ok(None) };
            let found = row::decode(&row)?;
            let (before, after) = found.between;
            // Time passes in microseconds there, so that it is nearly always the same, and hardly ever not the next time.
            if phase(&found, before) == phase(&found, after) || !patience.wait().await {
                return Ok(Some(found));
            }
        }
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, Failure> {
        if self.guards.holds(key, owner) {
            // Its record is locked, and nobody can take the key.
            return Ok(RenewOutcome::Renewed { lease_left: lease.into() });
        }
        let (digest, token, span) = (Binary::digest(key), Binary(*owner.as_bytes()), Interval::of(lease));
        let mut held = self.connection().await?;
        let mut patience = Patience::default();
        loop {
            let parameters: [Parameter<'_>; 4] = [&digest, &token, &span, &None::<Binary<32>>];
            if let Some(row) = held.change(&self.sql.renew, &parameters).await? {
                let (_, _, lease_until, now) =
                    row::decode_grant(&row).map_err(|error| written(error, Operation::Renew))?;
                return Ok(RenewOutcome::Renewed { lease_left: lease_until.since(now) });
            }
            let found = self.look(&mut held, key).await?;
            let record = found.as_ref().map(|found| &found.record);
            let now = found.as_ref().map_or(Timestamp::from_micros(0), |found| found.between.1);
            let (outcome, change) = transition::renew(record, owner, lease, now);
            if change.is_none() {
                return Ok(outcome);
            }
            if !patience.wait().await {
                // It stays locked (INV-1). What is left is what was granted before: nothing was extended.
                let lease_left = match record.map(|record| &record.state) {
                    Some(State::InFlight { lease_until, .. }) => lease_until.since(now),
                    _ => Duration::ZERO,
                };
                return Ok(RenewOutcome::Renewed { lease_left });
            }
        }
    }

    /// Writes by a statement that gives a row if it did; otherwise looks why it did not, and if there is no reason any
    /// more, does it again.
    async fn change<'s, T>(
        &self,
        operation: Operation,
        key: &Key,
        done: T,
        (statement, parameters): Sent<'s>,
        told: impl Fn(Option<&Record>, Timestamp) -> Result<Told<'s, T>, StoreError>,
    ) -> Result<T, Failure> {
        let mut held = self.connection().await?;
        let mut patience = Patience::default();
        loop {
            if held.change(statement, parameters).await?.is_some() {
                return Ok(done);
            }
            let found = self.look(&mut held, key).await?;
            let record = found.as_ref().map(|found| &found.record);
            let now = found.as_ref().map_or(Timestamp::from_micros(0), |found| found.between.1);
            match told(record, now).map_err(Failure::Store)? {
                Told::Outcome(outcome) => return Ok(outcome),
                Told::Again => {}
                Told::Bury(outcome, (statement, parameters)) => {
                    if held.change(statement, parameters).await?.is_some() {
                        return Ok(outcome);
                    }
                }
            }
            if !patience.wait().await {
                return Err(Failure::Store(Cause::Contended.of(operation)));
            }
        }
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, Failure> {
        let written = WrittenCompletion::new(key, owner, &completion, None);
        self.change(
            Operation::Complete,
            key,
            CompleteOutcome::Completed,
            (&self.sql.complete, &written.parameters()),
            |record, now| Ok(Told::of(transition::complete(record, owner, completion.clone(), now))),
        )
        .await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, Failure> {
        let (digest, token) = (Binary::digest(key), Binary(*owner.as_bytes()));
        let (scope, name, kept) = (key.scope(), key.name(), Interval::of(transition::MIN_TOMBSTONE));
        let of_absent: [Parameter<'_>; 5] = [&digest, &scope, &name, &token, &kept];
        let of_expired: [Parameter<'_>; 3] = [&digest, &token, &kept];
        let tombstone: Sent<'_> = (&self.sql.insert_tombstone, &of_absent);
        let grave: Sent<'_> = (&self.sql.bury, &of_expired);
        self.change(
            Operation::Release,
            key,
            ReleaseOutcome::Released,
            (&self.sql.release, &of_expired),
            |record, now| {
                Ok(match transition::release(record, owner, now)? {
                    (outcome @ ReleaseOutcome::AlreadyReleased, Some(_)) => {
                        Told::Bury(outcome, if record.is_none() { tombstone } else { grave })
                    }
                    told => Told::of(told),
                })
            },
        )
        .await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, Failure> {
        let (digest, token) = (Binary::digest(key), Binary(*owner.as_bytes()));
        self.change(
            Operation::Abandon,
            key,
            AbandonOutcome::Abandoned,
            (&self.sql.abandon, &[&digest, &token]),
            |record, now| Ok(Told::of(transition::abandon(record, owner, now))),
        )
        .await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, Failure> {
        let mut held = self.connection().await?;
        let found = self.look(&mut held, key).await?;
        Ok(found.and_then(|found| found.record.view(found.between.1)))
    }

    /// Removes one batch. How many that were.
    pub(crate) async fn sweep_batch(&self, at_most: usize) -> Result<usize, Failure> {
        let mut held = self.connection().await?;
        let limit = i64::try_from(at_most.min(SWEEP_BATCH)).unwrap_or(1);
        let row = held.change(&self.sql.sweep, &[&limit]).await?;
        let removed: i64 = match row {
            Some(row) => row.try_get(0).map_err(|_| RowError::Malformed("count"))?,
            None => 0,
        };
        Ok(usize::try_from(removed).unwrap_or(0))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, Failure> {
        let mut removed = 0;
        while removed < limit {
            let batch = (limit - removed).min(SWEEP_BATCH);
            match self.sweep_batch(batch).await {
                Ok(swept) => {
                    removed += swept;
                    if swept < batch {
                        break;
                    }
                }
                // What the batches before it removed is removed, so that this is no failure without effect.
                Err(_) if removed > 0 => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(removed)
    }
}

#[async_trait]
impl ReservationStore for PostgresStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.inner.reserve(key, &request).await.map_err(|failure| failure.of(Operation::Reserve))
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.inner.renew(key, owner, lease).await.map_err(|failure| failure.of(Operation::Renew))
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        check_answer(&completion.answer, self.inner.options.max_answer_bytes)?;
        self.inner.complete(key, owner, completion).await.map_err(|failure| failure.of(Operation::Complete))
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.inner.release(key, owner).await.map_err(|failure| failure.of(Operation::Release))
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.inner.abandon(key, owner).await.map_err(|failure| failure.of(Operation::Abandon))
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.inner.get(key).await.map_err(|failure| failure.of(Operation::Get))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.sweep(limit).await.map_err(|failure| failure.of(Operation::Sweep))
    }
}

/// Shows which table it is, and nothing of how the server is reached: that may be a secret.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.inner.names.schema())
            .field("table", &self.inner.names.table())
            .finish_non_exhaustive()
    }
}

/// A statement with its parameters.
type Sent<'a> = (&'a Statement, &'a [Parameter<'a>]);

/// What a look says after a statement had found nothing to write.
enum Told<'s, T> {
    /// That it was right.
    Outcome(T),
    /// That there is something now.
    Again,
    /// That there is no record, and a tombstone is to be made, by this.
    Bury(T, Sent<'s>),
}

impl<T> Told<'_, T> {
    fn of((outcome, change): (T, Option<Record>)) -> Self {
        if change.is_none() { Self::Outcome(outcome) } else { Self::Again }
    }
}

/// A completion as the parameters of its statement.
pub(crate) struct WrittenCompletion<'a> {
    pub(crate) digest: Binary<32>,
    pub(crate) owner: Binary<16>,
    pub(crate) state: i8,
    pub(crate) codec: Option<i16>,
    pub(crate) schema: Option<i64>,
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) retention: Interval,
    pub(crate) transaction: Option<i64>,
}

impl<'a> WrittenCompletion<'a> {
    /// `transaction` is the one in which alone it may be written.
    pub(crate) fn new(
        key: &Key,
        owner: OwnerToken,
        completion: &'a Completion,
        transaction: Option<i64>,
    ) -> Self {
        let (state, codec, schema, body) = match &completion.answer {
            Answer::Value(response) => (
                state::COMPLETED,
                Some(i16::from(response.format.codec)),
                Some(i64::from(response.format.schema)),
                Some(&response.body[..]),
            ),
            Answer::NotKept => (state::NOT_KEPT, None, None, None),
        };
        let retention = Interval::of(completion.retention);
        Self {
            digest: Binary::digest(key),
            owner: Binary(*owner.as_bytes()),
            state,
            codec,
            schema,
            body,
            retention,
            transaction,
        }
    }

    /// In the order of `sql/complete.sql`.
    pub(crate) fn parameters(&self) -> [Parameter<'_>; 8] {
        [
            &self.digest,
            &self.owner,
            &self.state,
            &self.codec,
            &self.schema,
            &self.body,
            &self.retention,
            &self.transaction,
        ]
    }
}

/// Which of its times lie behind a record.
pub(crate) fn phase(found: &Found, now: Timestamp) -> (bool, bool) {
    let is_lease_over = match found.record.state {
        State::InFlight { lease_until, .. } => now >= lease_until,
        State::Completed { .. } | State::Released => false,
    };
    (found.record.is_expired(now), is_lease_over)
}

/// What was written and cannot be read is not without effect.
pub(crate) fn written(error: RowError, operation: Operation) -> Failure {
    Failure::Store(StoreError::new(StoreErrorKind::Corrupt, Effect::Unknown, operation).with_source(error))
}

/// Refuses an answer that is too long to be kept.
pub(crate) fn check_answer(answer: &Answer, max_answer_bytes: usize) -> Result<(), StoreError> {
    let max_answer_bytes = max_answer_bytes.min(LONGEST_ANSWER);
    if answer.len() > max_answer_bytes {
        let bytes = answer.len();
        return Err(Cause::AnswerTooLarge { bytes, max_answer_bytes }.of(Operation::Complete));
    }
    Ok(())
}
