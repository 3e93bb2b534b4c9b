//! [`Call`] and [`Reply`]: a call of one key and the reply to it, in a form that can be compared.

use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, StateView};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, FencingToken, Fingerprint, Key, ReleaseOutcome, RenewOutcome,
    ReservationStore, StoreError,
};

use crate::values::span;

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

/// A store's reply to a [`Call`]. What depends on a clock is apart from the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) kind: ReplyKind,
    pub(crate) fence: Option<FencingToken>,
    pub(crate) times: Vec<Duration>,
}

/// The replies of all operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
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
    /// Its token.
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
    pub(crate) fn new(kind: ReplyKind) -> Self {
        Self { kind, fence: None, times: Vec::new() }
    }
}

impl From<ReserveOutcome> for Reply {
    fn from(outcome: ReserveOutcome) -> Self {
        match outcome {
            ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                Self { kind: ReplyKind::Reserved { attempt }, fence: Some(fence), times: vec![lease_left] }
            }
            ReserveOutcome::InFlight { attempt, lease_left } => {
                Self { times: vec![lease_left], ..Self::new(ReplyKind::InFlight { attempt }) }
            }
            ReserveOutcome::Stale => Self::new(ReplyKind::Stale),
            ReserveOutcome::LeaseExpired { attempt } => Self::new(ReplyKind::LeaseExpired { attempt }),
            ReserveOutcome::FingerprintMismatch => Self::new(ReplyKind::FingerprintMismatch),
            ReserveOutcome::Completed { answer, attempt } => Self::new(ReplyKind::Replay { answer, attempt }),
        }
    }
}

impl From<RenewOutcome> for Reply {
    fn from(outcome: RenewOutcome) -> Self {
        match outcome {
            RenewOutcome::Renewed { lease_left } => {
                Self { times: vec![lease_left], ..Self::new(ReplyKind::Renewed) }
            }
            RenewOutcome::AlreadyCompleted => Self::new(ReplyKind::AlreadyCompleted),
            RenewOutcome::Lost => Self::new(ReplyKind::Lost),
        }
    }
}

impl From<CompleteOutcome> for Reply {
    fn from(outcome: CompleteOutcome) -> Self {
        Self::new(match outcome {
            CompleteOutcome::Completed => ReplyKind::Completed,
            CompleteOutcome::AlreadyCompleted => ReplyKind::AlreadyCompleted,
            CompleteOutcome::AnswerConflict => ReplyKind::AnswerConflict,
            CompleteOutcome::Lost => ReplyKind::Lost,
        })
    }
}

impl From<ReleaseOutcome> for Reply {
    fn from(outcome: ReleaseOutcome) -> Self {
        Self::new(match outcome {
            ReleaseOutcome::Released => ReplyKind::Released,
            ReleaseOutcome::AlreadyReleased => ReplyKind::AlreadyReleased,
            ReleaseOutcome::AlreadyCompleted => ReplyKind::AlreadyCompleted,
            ReleaseOutcome::Lost => ReplyKind::Lost,
        })
    }
}

impl From<AbandonOutcome> for Reply {
    fn from(outcome: AbandonOutcome) -> Self {
        Self::new(match outcome {
            AbandonOutcome::Abandoned => ReplyKind::Abandoned,
            AbandonOutcome::AlreadyCompleted => ReplyKind::AlreadyCompleted,
            AbandonOutcome::Lost => ReplyKind::Lost,
        })
    }
}

impl From<Option<RecordView>> for Reply {
    fn from(view: Option<RecordView>) -> Self {
        let Some(RecordView { fence, attempt, fingerprint, state, expires_in, .. }) = view else {
            return Self::new(ReplyKind::Nothing);
        };
        let (kind, times) = match state {
            StateView::InFlight { lease_left, abandoned } => {
                let lease_left = (!abandoned).then_some(lease_left);
                let times = lease_left.into_iter().chain([expires_in]).collect();
                (ReplyKind::Running { attempt, fingerprint, abandoned }, times)
            }
            StateView::Completed { answer, age } => {
                (ReplyKind::Done { attempt, fingerprint, answer }, vec![age, expires_in])
            }
        };
        Self { kind, fence: Some(fence), times }
    }
}
