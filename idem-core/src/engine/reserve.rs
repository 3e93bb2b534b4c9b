//! [`Request::reserve`]: reserves a key at the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::engine::retry::{RetryPolicy, retry};
use crate::engine::settlement::ReleaseOnDrop;
use crate::engine::shared::Shared;
use crate::engine::single_flight::SharedResult;
use crate::error::{Effect, Operation, StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::policy::ExpiredLeasePolicy;
use crate::store::{FencingToken, OwnerToken, ReserveOutcome, ReserveRequest};

/// How often a reservation is tried whose token is stale, or whose lease is over when the grant arrives. A new token can
/// be stale only if its own release overtook it, so a second stale one should not be possible.
const RESERVE_TRIES: usize = 3;

/// One request of one caller.
pub(crate) struct Request<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) key: &'a Key,
    pub(crate) fingerprint: &'a Fingerprint,
    /// An operator takes over whatever the engine's policy is.
    pub(crate) is_operator: bool,
    /// Captured at the beginning, for what has to be done after the caller is gone.
    pub(crate) runtime: Option<Handle>,
}

/// What the store answered to a reservation.
pub(crate) enum Reserved {
    Granted(Grant),
    InFlight {
        lease_left: Duration,
    },
    /// Something that is true for every caller of this request.
    Result(SharedResult),
}

/// What the store said when it granted a key.
#[derive(Clone, Copy)]
pub(crate) struct Grant {
    pub(crate) owner: OwnerToken,
    pub(crate) attempt: u32,
    pub(crate) fence: FencingToken,
    pub(crate) lease_left: Duration,
    /// When the reservation was sent.
    pub(crate) sent_at: Instant,
}

impl<'a> Request<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, key: &'a Key, fingerprint: &'a Fingerprint) -> Self {
        Self { shared, key, fingerprint, is_operator: false, runtime: Handle::try_current().ok() }
    }

    /// Reserves the key with a new token.
    pub(crate) async fn reserve(&self) -> Result<Reserved, StoreError> {
        let settings = &self.shared.settings;
        let mut owner = OwnerToken::random();
        for _ in 0..RESERVE_TRIES {
            let (outcome, sent_at) = self.send(owner).await?;
            return Ok(match outcome {
                ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                    // The answer may have taken longer than the lease. The same token again renews it.
                    let may_be_over = settings.lease.as_duration() <= settings.reserve_timeout;
                    if may_be_over && sent_at.elapsed() >= lease_left {
                        continue;
                    }
                    Reserved::Granted(Grant { owner, attempt, fence, lease_left, sent_at })
                }
                ReserveOutcome::Stale => {
                    owner = OwnerToken::random();
                    continue;
                }
                ReserveOutcome::InFlight { lease_left, .. } => Reserved::InFlight { lease_left },
                ReserveOutcome::LeaseExpired { attempt } => {
                    Reserved::Result(SharedResult::LeaseExpired { attempt })
                }
                ReserveOutcome::FingerprintMismatch => Reserved::Result(SharedResult::FingerprintMismatch),
                ReserveOutcome::Completed { answer, .. } => Reserved::Result(SharedResult::Answered(answer)),
            });
        }
        drop(self.release_on_drop(owner));
        Err(StoreError::new(StoreErrorKind::Timeout, Effect::Unknown, Operation::Reserve)
            .with_source("each lease was over before its grant arrived; make the lease longer"))
    }

    /// Sends a reservation. Returns the outcome, and when the sending that was answered began.
    async fn send(&self, owner: OwnerToken) -> Result<(ReserveOutcome, Instant), StoreError> {
        let settings = &self.shared.settings;
        let expired_lease =
            if self.is_operator { ExpiredLeasePolicy::TakeOver } else { settings.expired_lease };
        let request = ReserveRequest::new(owner, *self.fingerprint, settings.lease)
            .record_ttl(settings.record_ttl)
            .on_expired_lease(expired_lease);
        let mut sent_at = Instant::now();
        let mut is_first = true;
        let send = || {
            if !std::mem::take(&mut is_first) {
                sent_at = Instant::now();
            }
            self.shared.store.reserve(self.key, request.clone())
        };
        let release_on_drop = self.release_on_drop(owner);
        let result = retry(Operation::Reserve, settings.reserve_timeout, RetryPolicy::IfUnknown, send).await;
        match &result {
            Err(error) if error.effect == Effect::Unknown => drop(release_on_drop),
            _ => release_on_drop.disarm(),
        }
        Ok((result?, sent_at))
    }

    fn release_on_drop(&self, owner: OwnerToken) -> ReleaseOnDrop<'_> {
        ReleaseOnDrop {
            shared: self.shared,
            runtime: self.runtime.as_ref(),
            key: self.key,
            owner,
            is_operator: self.is_operator,
            is_armed: true,
        }
    }
}
