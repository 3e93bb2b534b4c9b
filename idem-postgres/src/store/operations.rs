//! The operations on a record that exists: renew, complete, release, abandon and get.

use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, Record, RecordView, Span, State, Timestamp, transition};
use idem_core::{AbandonOutcome, CompleteOutcome, Key, ReleaseOutcome, RenewOutcome, StoreError};

use super::inner::{Retries, StoreInner};
use crate::error::{Cause, Failure};
use crate::record::{EncodedCompletion, Found, Grant};
use crate::sql::{Binary, Interval, Parameter, Statement};

/// A statement with its parameters.
type Call<'a> = (&'a Statement, &'a [Parameter<'a>]);

/// What to do after a statement found nothing to write and the record was read again.
enum Recheck<'s, T> {
    /// The operation has this outcome.
    Outcome(T),
    /// The record can be changed by now: send the statement again.
    Retry,
    /// There is no record: write a tombstone with this statement.
    WriteTombstone(T, Call<'s>),
}

impl<T> From<(T, transition::Change)> for Recheck<'_, T> {
    fn from((outcome, change): (T, transition::Change)) -> Self {
        if change.is_none() { Self::Outcome(outcome) } else { Self::Retry }
    }
}

impl StoreInner {
    pub(super) async fn renew(
        &self,
        key: &Key,
        owner: OwnerToken,
        lease: Span,
    ) -> Result<RenewOutcome, Failure> {
        if self.paused_heartbeats.contains(key, owner) {
            // The record is locked, so that nobody can take the key.
            return Ok(RenewOutcome::Renewed { lease_left: lease.into() });
        }
        let (digest, token, interval) = (Binary::from(key), Binary::from(owner), Interval::from(lease));
        let parameters: [Parameter<'_>; 4] = [&digest, &token, &interval, &None::<Binary<32>>];
        let mut connection = self.connection().await?;
        let mut retries = Retries::new();
        loop {
            if let Some(row) = connection.change(&self.sql.renew, &parameters).await? {
                let Grant { lease_left, .. } = Grant::decode(&row).map_err(Failure::Written)?;
                return Ok(RenewOutcome::Renewed { lease_left });
            }
            let found = self.find(&mut connection, key).await?;
            let (record, now) = record_and_time(found.as_ref());
            let (outcome, change) = transition::renew(record, owner, lease, now);
            if change.is_none() {
                return Ok(outcome);
            }
            if !retries.wait().await {
                // The record stays locked (INV-1). Nothing was extended; what is left was granted before.
                let lease_left = match record.map(|record| &record.state) {
                    Some(State::InFlight { lease_until, .. }) => lease_until.since(now),
                    _ => Duration::ZERO,
                };
                return Ok(RenewOutcome::Renewed { lease_left });
            }
        }
    }

    pub(super) async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, Failure> {
        let encoded = EncodedCompletion::new(key, owner, &completion, None);
        self.change(
            key,
            CompleteOutcome::Completed,
            (&self.sql.complete, &encoded.parameters()),
            |record, now| Ok(transition::complete(record, owner, completion.clone(), now).into()),
        )
        .await
    }

    pub(super) async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, Failure> {
        let (digest, token) = (Binary::from(key), Binary::from(owner));
        let (scope, name, kept) = (key.scope(), key.name(), Interval::from(transition::MIN_TOMBSTONE));
        let of_absent: [Parameter<'_>; 5] = [&digest, &scope, &name, &token, &kept];
        let of_present: [Parameter<'_>; 3] = [&digest, &token, &kept];
        let insert_tombstone: Call<'_> = (&self.sql.insert_tombstone, &of_absent);
        let write_tombstone: Call<'_> = (&self.sql.write_tombstone, &of_present);
        self.change(key, ReleaseOutcome::Released, (&self.sql.release, &of_present), |record, now| {
            Ok(match transition::release(record, owner, now)? {
                (outcome @ ReleaseOutcome::AlreadyReleased, Some(_)) => {
                    let statement = if record.is_none() { insert_tombstone } else { write_tombstone };
                    Recheck::WriteTombstone(outcome, statement)
                }
                result => result.into(),
            })
        })
        .await
    }

    pub(super) async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, Failure> {
        let (digest, token) = (Binary::from(key), Binary::from(owner));
        self.change(key, AbandonOutcome::Abandoned, (&self.sql.abandon, &[&digest, &token]), |record, now| {
            Ok(transition::abandon(record, owner, now).into())
        })
        .await
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<RecordView>, Failure> {
        let mut connection = self.connection().await?;
        let found = self.find(&mut connection, key).await?;
        Ok(found.and_then(|found| found.record.view(found.now)))
    }

    /// Sends a statement that returns a row if it changed the record. If it did not, reads the record and decides by
    /// `recheck` what to do.
    async fn change<'s, T>(
        &self,
        key: &Key,
        changed: T,
        (statement, parameters): Call<'s>,
        recheck: impl Fn(Option<&Record>, Timestamp) -> Result<Recheck<'s, T>, StoreError>,
    ) -> Result<T, Failure> {
        let mut connection = self.connection().await?;
        let mut retries = Retries::new();
        loop {
            if connection.change(statement, parameters).await?.is_some() {
                return Ok(changed);
            }
            let found = self.find(&mut connection, key).await?;
            let (record, now) = record_and_time(found.as_ref());
            match recheck(record, now).map_err(Failure::Store)? {
                Recheck::Outcome(outcome) => return Ok(outcome),
                Recheck::Retry => {}
                Recheck::WriteTombstone(outcome, (statement, parameters)) => {
                    if connection.change(statement, parameters).await?.is_some() {
                        return Ok(outcome);
                    }
                }
            }
            if !retries.wait().await {
                return Err(Cause::Contended.into());
            }
        }
    }
}

/// Without a record, the time does not matter.
fn record_and_time(found: Option<&Found>) -> (Option<&Record>, Timestamp) {
    match found {
        Some(found) => (Some(&found.record), found.now),
        None => (None, Timestamp::from_micros(0)),
    }
}
