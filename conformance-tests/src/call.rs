//! [`Call`] and [`Reply`]: what a store was asked about one key, and what it said, in a form that can be compared.

use crate::span;
use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, StateView};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, FencingToken, Fingerprint, Key, ReleaseOutcome, RenewOutcome,
    ReservationStore, StoreError,
};

/// A call of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Reserve(ReserveRequest),
    Renew { owner: OwnerToken, lease: Duration },
    Complete { owner: OwnerToken, completion: Completion },
    Release { owner: OwnerToken },
    Abandon { owner: OwnerToken },
    Get,
}

/// A store's answer to a [`Call`], taken apart: what it says, and the numbers in it that depend on a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) says: Says,
    pub(crate) fence: Option<FencingToken>,
    pub(crate) times: Vec<Duration>,
}

/// What a reply says, whichever operation it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Reserved { attempt: u32 },
    Stale,
    InFlight { attempt: u32 },
    LeaseExpired { attempt: u32 },
    FingerprintMismatch,
    Replay { answer: Answer, attempt: u32 },
    Renewed,
    Completed,
    AlreadyCompleted,
    AnswerConflict,
    Released,
    AlreadyReleased,
    Abandoned,
    Lost,
    Nothing,
    Running { attempt: u32, fingerprint: Fingerprint, abandoned: bool },
    Done { attempt: u32, fingerprint: Fingerprint, answer: Answer },
}

impl Call {
    /// The token that it is sent with.
    pub(crate) fn owner(&self) -> Option<OwnerToken> {
        match self {
            Self::Reserve(request) => Some(request.owner),
            Self::Renew { owner, .. }
            | Self::Complete { owner, .. }
            | Self::Release { owner }
            | Self::Abandon { owner } => Some(*owner),
            Self::Get => None,
        }
    }

    /// Sends it.
    pub(crate) async fn send(&self, store: &dyn ReservationStore, key: &Key) -> Result<Reply, StoreError> {
        Ok(match self {
            Self::Reserve(request) => store.reserve(key, request.clone()).await?.into(),
            Self::Renew { owner, lease } => store.renew(key, *owner, span(*lease)).await?.into(),
            Self::Complete { owner, completion } => {
                store.complete(key, *owner, completion.clone()).await?.into()
            }
            Self::Release { owner } => store.release(key, *owner).await?.into(),
            Self::Abandon { owner } => store.abandon(key, *owner).await?.into(),
            Self::Get => store.get(key).await?.into(),
        })
    }
}

impl Reply {
    pub(crate) fn new(says: Says) -> Self {
        Self { says, fence: None, times: Vec::new() }
    }
}

impl From<ReserveOutcome> for Reply {
    fn from(outcome: ReserveOutcome) -> Self {
        match outcome {
            ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                Self { says: Says::Reserved { attempt }, fence: Some(fence), times: vec![lease_left] }
            }
            ReserveOutcome::InFlight { attempt, lease_left } => {
                Self { times: vec![lease_left], ..Self::new(Says::InFlight { attempt }) }
            }
            ReserveOutcome::Stale => Self::new(Says::Stale),
            ReserveOutcome::LeaseExpired { attempt } => Self::new(Says::LeaseExpired { attempt }),
            ReserveOutcome::FingerprintMismatch => Self::new(Says::FingerprintMismatch),
            ReserveOutcome::Completed { answer, attempt } => Self::new(Says::Replay { answer, attempt }),
        }
    }
}

impl From<RenewOutcome> for Reply {
    fn from(outcome: RenewOutcome) -> Self {
        match outcome {
            RenewOutcome::Renewed { lease_left } => {
                Self { times: vec![lease_left], ..Self::new(Says::Renewed) }
            }
            RenewOutcome::AlreadyCompleted => Self::new(Says::AlreadyCompleted),
            RenewOutcome::Lost => Self::new(Says::Lost),
        }
    }
}

impl From<CompleteOutcome> for Reply {
    fn from(outcome: CompleteOutcome) -> Self {
        Self::new(match outcome {
            CompleteOutcome::Completed => Says::Completed,
            CompleteOutcome::AlreadyCompleted => Says::AlreadyCompleted,
            CompleteOutcome::AnswerConflict => Says::AnswerConflict,
            CompleteOutcome::Lost => Says::Lost,
        })
    }
}

impl From<ReleaseOutcome> for Reply {
    fn from(outcome: ReleaseOutcome) -> Self {
        Self::new(match outcome {
            ReleaseOutcome::Released => Says::Released,
            ReleaseOutcome::AlreadyReleased => Says::AlreadyReleased,
            ReleaseOutcome::AlreadyCompleted => Says::AlreadyCompleted,
            ReleaseOutcome::Lost => Says::Lost,
        })
    }
}

impl From<AbandonOutcome> for Reply {
    fn from(outcome: AbandonOutcome) -> Self {
        Self::new(match outcome {
            AbandonOutcome::Abandoned => Says::Abandoned,
            AbandonOutcome::AlreadyCompleted => Says::AlreadyCompleted,
            AbandonOutcome::Lost => Says::Lost,
        })
    }
}

impl From<Option<RecordView>> for Reply {
    fn from(view: Option<RecordView>) -> Self {
        let Some(RecordView { fence, attempt, fingerprint, state, expires_in, .. }) = view else {
            return Self::new(Says::Nothing);
        };
        let (says, times) = match state {
            StateView::InFlight { lease_left, abandoned } => {
                let lease_left = (!abandoned).then_some(lease_left);
                let times = lease_left.into_iter().chain([expires_in]).collect();
                (Says::Running { attempt, fingerprint, abandoned }, times)
            }
            StateView::Completed { answer, age } => {
                (Says::Done { attempt, fingerprint, answer }, vec![age, expires_in])
            }
        };
        Self { says, fence: Some(fence), times }
    }
}
