//! The operations: each is one script.

use async_trait::async_trait;
use idem_core::store::transition::{self, MIN_TOMBSTONE};
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, Span};
use idem_core::{
    AbandonOutcome, CompleteOutcome, ExpiredLeasePolicy, Key, Operation, ReleaseOutcome, RenewOutcome,
    ReservationStore, StoreError,
};
use redis::{Cmd, Value};

use super::RedisStore;
use crate::error::{Cause, is_no_write};
use crate::link::ReplicationWait;
use crate::record::{self, millis};
use crate::script::{self, Script, reply};

#[async_trait]
impl ReservationStore for RedisStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        const OPERATION: Operation = Operation::Reserve;
        let name = self.name(key);
        if let Some(problem) = self.monitor.refusal() {
            let refused = Cause::from(problem).into_store_error(OPERATION);
            return Box::pin(self.read_instead(&name, &request, refused)).await;
        }
        let wait = self.replication_wait(&name, OPERATION).await?;
        let record = record::new_in_flight(&request);
        let kept = millis(request.lease) + millis(request.record_ttl);
        let replied = script::RESERVE.run(&self.link, &name, |command| {
            command.arg(&record[..]).arg(kept);
            if request.on_expired_lease == ExpiredLeasePolicy::Refuse {
                command.arg("refuse");
            }
        });
        match replied.await {
            Ok(reply) => {
                let outcome =
                    reply::reserve(reply, &request).map_err(|cause| cause.into_store_error(OPERATION))?;
                if let ReserveOutcome::Reserved { .. } = outcome {
                    replicated(wait, OPERATION).await?;
                }
                Ok(outcome)
            }
            Err(failure) if is_no_write(&failure.error) => {
                let refused = failure.into_store_error(OPERATION);
                // Boxed, so that the rare case does not make every reservation's future larger.
                Box::pin(self.read_instead(&name, &request, refused)).await
            }
            Err(failure) => Err(failure.into_store_error(OPERATION)),
        }
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        const OPERATION: Operation = Operation::Renew;
        let name = self.name(key);
        let wait = self.replication_wait(&name, OPERATION).await?;
        let read = |reply| reply::renew(reply, owner);
        let outcome = self
            .run(OPERATION, &script::RENEW, &name, read, |command| {
                command.arg(owner.as_bytes()).arg(millis(lease));
            })
            .await?;
        if let RenewOutcome::Renewed { .. } = outcome {
            replicated(wait, OPERATION).await?;
        }
        Ok(outcome)
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        const OPERATION: Operation = Operation::Complete;
        completion.check(self.options.max_answer_bytes)?;
        let retention = millis(completion.retention);
        let (kept_for, answer) = (record::kept_for(retention), record::answer(&completion.answer));
        let name = self.name(key);
        let wait = self.replication_wait(&name, OPERATION).await?;
        let read = |reply| reply::complete(reply, owner);
        let outcome = self
            .run(OPERATION, &script::COMPLETE, &name, read, |command| {
                command.arg(owner.as_bytes()).arg(retention).arg(&kept_for).arg(&answer);
            })
            .await?;
        // A completion that is sent again waits for the replicas again.
        if let CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted = outcome {
            replicated(wait, OPERATION).await?;
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
            let (record, now) = frame.with_ttl(ttl);
            record.view(now)
        }))
    }

    /// Removes nothing: the server removes expired records by itself.
    async fn sweep(&self, _limit: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

impl RedisStore {
    fn name(&self, key: &Key) -> Vec<u8> {
        record::name(&self.options.key_prefix, key)
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
        let reply = replied.map_err(|failure| failure.into_store_error(operation))?;
        read(reply).map_err(|cause| cause.into_store_error(operation))
    }

    /// Answers a reservation without writing, if that is possible: a replay or a refusal changes nothing. Else `refused`.
    async fn read_instead(
        &self,
        name: &[u8],
        request: &ReserveRequest,
        refused: StoreError,
    ) -> Result<ReserveOutcome, StoreError> {
        let found = self.run(Operation::Reserve, &script::GET, name, reply::get, |_| ()).await?;
        if let Some((frame, ttl)) = found {
            let (record, now) = frame.with_ttl(ttl);
            if let (outcome, None) = transition::reserve(Some(&record), request, now)? {
                return Ok(outcome);
            }
        }
        Err(refused)
    }

    /// Prepares to wait for replicas, before an operation is sent.
    async fn replication_wait(
        &self,
        name: &[u8],
        operation: Operation,
    ) -> Result<Option<ReplicationWait>, StoreError> {
        self.link.replication_wait(name).await.map_err(|failure| failure.into_store_error(operation))
    }
}

/// Waits until replicas have the operation, if the options ask for that.
async fn replicated(wait: Option<ReplicationWait>, operation: Operation) -> Result<(), StoreError> {
    match wait {
        None => Ok(()),
        // Boxed, so that an option that few use does not make every operation's future larger.
        Some(wait) => Box::pin(wait.finish()).await.map_err(|failure| failure.into_store_error(operation)),
    }
}
