//! [`StoreInner::reserve`]: how a key is reserved.
//!
//! The record is read, and inserted if there is none: two statements on the server, which `sql/reserve.sql` sends as one. If
//! the record leaves its key free, a third statement claims it. If that writes nothing, another caller was faster, and
//! everything starts again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use idem_core::Key;
use idem_core::store::{ReserveOutcome, ReserveRequest, State, transition};

use super::inner::{Retries, StoreInner};
use crate::connection::PooledConnection;
use crate::error::{Cause, Failure};
use crate::record::{FindOrInsert, Found, Grant};
use crate::sql::{Binary, Interval, Parameter};

/// The `lease_left` of an owner whose lease is over while its record stays locked, because nobody knows how long its
/// transaction takes. Shorter if the lease itself is shorter.
const LOCKED_LEASE_LEFT: Duration = Duration::from_secs(1);

impl StoreInner {
    pub(super) async fn reserve(
        &self,
        key: &Key,
        request: &ReserveRequest,
    ) -> Result<ReserveOutcome, Failure> {
        let (digest, owner) = (Binary::from(key), Binary::from(request.owner));
        let fingerprint = Binary(*request.fingerprint.as_bytes());
        let (lease, record_ttl) = (Interval::from(request.lease), Interval::from(request.record_ttl));
        let (scope, name) = (key.scope(), key.name());
        let to_insert: [Parameter<'_>; 7] =
            [&digest, &scope, &name, &owner, &fingerprint, &lease, &record_ttl];

        let mut connection = self.connection().await?;
        let mut retries = Retries::new();
        loop {
            let Found { record, now, is_clamped, .. } =
                match self.find_or_insert(&mut connection, key, &to_insert).await? {
                    FindOrInsert::Inserted(grant) => return Ok(grant.into()),
                    FindOrInsert::Found(found) => found,
                    FindOrInsert::Raced if retries.wait().await => continue,
                    FindOrInsert::Raced => {
                        return Err(Cause::Contended.into());
                    }
                };
            let (outcome, change) =
                transition::reserve(Some(&record), request, now).map_err(Failure::Store)?;
            if change.is_none() {
                if is_clamped {
                    // If the record is locked, the transaction that locks it writes it.
                    connection.change(&self.sql.clamp, &[&digest]).await?;
                }
                return Ok(outcome);
            }
            let is_own = record.owner == request.owner && !record.is_expired(now);
            let row = if is_own {
                let parameters: [Parameter<'_>; 4] = [&digest, &owner, &lease, &fingerprint];
                connection.change(&self.sql.renew, &parameters).await?
            } else {
                let parameters: [Parameter<'_>; 5] = [&digest, &owner, &fingerprint, &lease, &record_ttl];
                connection.change(&self.sql.claim, &parameters).await?
            };
            if let Some(row) = row {
                return Ok(Grant::decode(&row).map_err(Failure::Written)?.into());
            }
            if retries.wait().await {
                continue;
            }
            // The record stays locked (INV-1).
            return Ok(match (outcome, record.state) {
                (ReserveOutcome::Reserved { attempt, fence, .. }, State::InFlight { lease_until, .. })
                    if is_own =>
                {
                    ReserveOutcome::Reserved { attempt, fence, lease_left: lease_until.since(now) }
                }
                (_, state) => {
                    let longest = match state {
                        State::InFlight { lease, .. } => lease,
                        // Another caller is taking the key.
                        State::Completed { .. } | State::Released => request.lease,
                    };
                    let lease_left = LOCKED_LEASE_LEFT.min(longest.into());
                    ReserveOutcome::InFlight { attempt: record.attempt, lease_left }
                }
            });
        }
    }

    /// Reads the record of a key, or inserts a reservation if there is none (INV-3 of the module `store`).
    async fn find_or_insert(
        &self,
        connection: &mut PooledConnection,
        key: &Key,
        to_insert: &[Parameter<'_>],
    ) -> Result<FindOrInsert, Failure> {
        if self.inserts_separately.load(Ordering::Relaxed) {
            if let Some(found) = self.find(connection, key).await? {
                return Ok(FindOrInsert::Found(found));
            }
            let row = connection.change(&self.sql.insert, to_insert).await?;
            let grant = row.as_ref().map(Grant::decode_inserted).transpose().map_err(Failure::Written)?;
            return Ok(grant.flatten().map_or(FindOrInsert::Raced, FindOrInsert::Inserted));
        }
        // One statement is one transaction. Where SERIALIZABLE is the default, transactions of neighboring keys that read and
        // then write conflict with each other about every second time. Two transactions do not.
        let Some(row) = connection.change(&self.sql.reserve, to_insert).await? else {
            self.inserts_separately.store(true, Ordering::Relaxed);
            return Ok(FindOrInsert::Raced);
        };
        Ok(match FindOrInsert::decode(&row).map_err(Failure::Written)?? {
            FindOrInsert::Found(found) if !found.is_stable() => FindOrInsert::Raced,
            result => result,
        })
    }
}
