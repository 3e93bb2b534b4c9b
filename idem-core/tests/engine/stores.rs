//! Stores whose answers [`TestStore`](crate::support::TestStore) cannot give.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, Span, State, Timestamp,
};
use idem_core::{
    AbandonOutcome, CompleteOutcome, FencingToken, Key, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError,
};

use crate::support::fingerprint;

/// Shows a lease that is over and still refuses the key, as a store does while another process locks the record. Panics
/// when it is called in a hot loop.
#[derive(Debug, Default)]
pub(crate) struct LockedStore {
    reservations: AtomicUsize,
}

impl LockedStore {
    pub(crate) fn reservations(&self) -> usize {
        self.reservations.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl ReservationStore for LockedStore {
    async fn reserve(&self, _: &Key, _: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        let calls = self.reservations.fetch_add(1, Ordering::SeqCst);
        assert!(calls < 10_000, "called in a hot loop");
        tokio::task::yield_now().await;
        Ok(ReserveOutcome::InFlight { attempt: 1, lease_left: Duration::from_micros(1) })
    }

    async fn get(&self, _: &Key) -> Result<Option<RecordView>, StoreError> {
        let record = Record {
            owner: OwnerToken::from_bytes([1; 16]),
            fence: FencingToken::MIN,
            attempt: 1,
            fingerprint: fingerprint(),
            state: State::InFlight {
                lease_until: Timestamp::from_micros(10),
                lease: Span::MIN,
                record_ttl: Span::MAX,
                abandoned: false,
            },
            expires_at: Timestamp::from_micros(1000),
        };
        Ok(record.view(Timestamp::from_micros(11)))
    }

    async fn renew(&self, _: &Key, _: OwnerToken, _: Span) -> Result<RenewOutcome, StoreError> {
        Ok(RenewOutcome::Lost)
    }

    async fn complete(&self, _: &Key, _: OwnerToken, _: Completion) -> Result<CompleteOutcome, StoreError> {
        Ok(CompleteOutcome::Lost)
    }

    async fn release(&self, _: &Key, _: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        Ok(ReleaseOutcome::Lost)
    }

    async fn abandon(&self, _: &Key, _: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        Ok(AbandonOutcome::Lost)
    }

    async fn sweep(&self, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}
