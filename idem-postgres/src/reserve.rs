//! [`Inner::reserve`]: how a key is reserved.
//!
//! The record is looked at, and if there is none one is inserted: two statements of the server's, which `sql/reserve.sql`
//! sends it as one. A record that leaves its key free is claimed by a third. If that writes nothing, somebody was
//! faster, and all of it is done again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use idem_core::store::{ReserveOutcome, ReserveRequest, State, transition};
use idem_core::{Key, Operation};
use tokio_postgres::Row;

use crate::binary::Binary;
use crate::connection::{Held, Parameter};
use crate::error::{Cause, Failure};
use crate::interval::Interval;
use crate::patience::Patience;
use crate::row::{self, FirstGrant, Found, Reserved};
use crate::store::{Inner, phase, written};

/// What a challenger is told of a lease that is over while its record stays locked: nobody knows how long the owner's
/// transaction takes. At most the lease itself.
const LOCKED_LEASE_LEFT: Duration = Duration::from_secs(1);

impl Inner {
    /// Reserves, over and over until it is told something.
    pub(crate) async fn reserve(
        &self,
        key: &Key,
        request: &ReserveRequest,
    ) -> Result<ReserveOutcome, Failure> {
        let (digest, owner) = (Binary::digest(key), Binary(*request.owner.as_bytes()));
        let fingerprint = Binary(*request.fingerprint.as_bytes());
        let (lease, record_ttl) = (Interval::of(request.lease), Interval::of(request.record_ttl));

        let (scope, name) = (key.scope(), key.name());
        let absent: [Parameter<'_>; 7] = [&digest, &scope, &name, &owner, &fingerprint, &lease, &record_ttl];

        let mut held = self.connection().await?;
        let mut patience = Patience::default();
        loop {
            let found = match self.look_or_insert(&mut held, key, &absent).await? {
                Reserved::Granted(FirstGrant { fence, lease_left }) => {
                    return Ok(ReserveOutcome::Reserved { attempt: 1, fence, lease_left });
                }
                Reserved::Not if patience.wait().await => continue,
                Reserved::Not => return Err(Failure::Store(Cause::Contended.of(Operation::Reserve))),
                Reserved::Found(found) => found,
            };
            let Found { record, between, is_cut } = found;
            let told = transition::reserve(Some(&record), request, between.1).map_err(Failure::Store)?;
            let outcome = match told {
                (outcome, None) => {
                    if is_cut {
                        // If it is locked, whoever has the lock writes it.
                        held.change(&self.sql.cut, &[&digest]).await?;
                    }
                    return Ok(outcome);
                }
                (outcome, Some(_)) => outcome,
            };
            let is_own = record.owner == request.owner && !record.is_expired(between.1);
            let written = if is_own {
                let parameters: [Parameter<'_>; 4] = [&digest, &owner, &lease, &fingerprint];
                held.change(&self.sql.renew, &parameters).await?
            } else {
                let parameters: [Parameter<'_>; 5] = [&digest, &owner, &fingerprint, &lease, &record_ttl];
                held.change(&self.sql.claim, &parameters).await?
            };
            if let Some(row) = written {
                return granted(&row);
            }
            if patience.wait().await {
                continue;
            }
            // It stays locked (INV-1).
            return Ok(match (outcome, record.state) {
                (ReserveOutcome::Reserved { attempt, fence, .. }, State::InFlight { lease_until, .. })
                    if is_own =>
                {
                    ReserveOutcome::Reserved { attempt, fence, lease_left: lease_until.since(between.1) }
                }
                (_, State::InFlight { lease, .. }) => {
                    let lease_left = LOCKED_LEASE_LEFT.min(lease.into());
                    ReserveOutcome::InFlight { attempt: record.attempt, lease_left }
                }
                // Others are about to take it.
                (_, State::Completed { .. } | State::Released) => {
                    let lease_left = LOCKED_LEASE_LEFT.min(request.lease.into());
                    ReserveOutcome::InFlight { attempt: record.attempt, lease_left }
                }
            });
        }
    }

    /// The record of a key, or if there is none a reservation with these parameters (INV-3 of `store`).
    async fn look_or_insert(
        &self,
        held: &mut Held,
        key: &Key,
        absent: &[Parameter<'_>],
    ) -> Result<Reserved, Failure> {
        let unreadable = |error| written(error, Operation::Reserve);
        if self.looks_apart.load(Ordering::Relaxed) {
            if let Some(found) = self.look(held, key).await? {
                return Ok(Reserved::Found(found));
            }
            let row = held.change(&self.sql.insert, absent).await?;
            let grant = row.as_ref().map(row::decode_inserted).transpose().map_err(unreadable)?;
            return Ok(grant.flatten().map_or(Reserved::Not, Reserved::Granted));
        }
        // One statement is one transaction. Where sessions begin as SERIALIZABLE, those of neighbouring keys that look and
        // then write are in each other's way, every other one of them, and are not if both are done apart.
        let Some(row) = held.change(&self.sql.reserve, absent).await? else {
            self.looks_apart.store(true, Ordering::Relaxed);
            return Ok(Reserved::Not);
        };
        match row::decode_reserved(&row).map_err(unreadable)?? {
            Reserved::Found(found) if phase(&found, found.between.0) != phase(&found, found.between.1) => {
                Ok(Reserved::Not)
            }
            reserved => Ok(reserved),
        }
    }
}

fn granted(row: &Row) -> Result<ReserveOutcome, Failure> {
    let (attempt, fence, lease_until, now) =
        row::decode_grant(row).map_err(|error| written(error, Operation::Reserve))?;
    Ok(ReserveOutcome::Reserved { attempt, fence, lease_left: lease_until.since(now) })
}
