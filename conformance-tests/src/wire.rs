//! What goes over the pipe between two processes of the suite: [`Asked`], [`Told`] and [`Failed`].

use crate::span;
use idem_core::store::Span;
use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, StateView};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, Effect, ExpiredLeasePolicy, FencingToken, Fingerprint, Format,
    Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore, StoreError, StoreErrorKind, StoredValue,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    Reserve {
        key: RawKey,
        owner: RawOwner,
        fingerprint: [u8; 32],
        lease: Duration,
        ttl: Duration,
        refuse: bool,
    },
    Renew {
        key: RawKey,
        owner: RawOwner,
        lease: Duration,
    },
    Complete {
        key: RawKey,
        owner: RawOwner,
        answer: RawAnswer,
        retention: Duration,
    },
    Release {
        key: RawKey,
        owner: RawOwner,
    },
    Abandon {
        key: RawKey,
        owner: RawOwner,
    },
    Get {
        key: RawKey,
    },
    Sweep {
        limit: usize,
    },
}

/// Scope and name.
type RawKey = (Vec<u8>, Vec<u8>);
type RawOwner = [u8; 16];

impl Asked {
    pub(crate) fn reserve(key: &Key, request: &ReserveRequest) -> Self {
        Self::Reserve {
            key: raw(key),
            owner: *request.owner.as_bytes(),
            fingerprint: *request.fingerprint.as_bytes(),
            lease: request.lease.into(),
            ttl: request.record_ttl.into(),
            refuse: request.on_expired_lease == ExpiredLeasePolicy::Refuse,
        }
    }

    pub(crate) fn renew(key: &Key, owner: OwnerToken, lease: Span) -> Self {
        Self::Renew { key: raw(key), owner: *owner.as_bytes(), lease: lease.into() }
    }

    pub(crate) fn complete(key: &Key, owner: OwnerToken, completion: &Completion) -> Self {
        let answer = RawAnswer(completion.answer.clone());
        Self::Complete {
            key: raw(key),
            owner: *owner.as_bytes(),
            answer,
            retention: completion.retention.into(),
        }
    }

    pub(crate) fn release(key: &Key, owner: OwnerToken) -> Self {
        Self::Release { key: raw(key), owner: *owner.as_bytes() }
    }

    pub(crate) fn abandon(key: &Key, owner: OwnerToken) -> Self {
        Self::Abandon { key: raw(key), owner: *owner.as_bytes() }
    }

    pub(crate) fn get(key: &Key) -> Self {
        Self::Get { key: raw(key) }
    }

    /// Calls the store as was asked.
    pub(crate) async fn carry_out(self, store: &dyn ReservationStore) -> Result<Told, StoreError> {
        let owned = OwnerToken::from_bytes;
        Ok(match self {
            Self::Reserve { key, owner, fingerprint, lease, ttl, refuse } => {
                let mut request =
                    ReserveRequest::new(owned(owner), Fingerprint::from_bytes(fingerprint), span(lease))
                        .record_ttl(span(ttl));
                if refuse {
                    request = request.on_expired_lease(ExpiredLeasePolicy::Refuse);
                }
                Told::Reserve(store.reserve(&parsed(&key), request).await?)
            }
            Self::Renew { key, owner, lease } => {
                Told::Renew(store.renew(&parsed(&key), owned(owner), span(lease)).await?)
            }
            Self::Complete { key, owner, answer, retention } => {
                let completion = Completion::new(answer.0, span(retention));
                Told::Complete(store.complete(&parsed(&key), owned(owner), completion).await?)
            }
            Self::Release { key, owner } => Told::Release(store.release(&parsed(&key), owned(owner)).await?),
            Self::Abandon { key, owner } => Told::Abandon(store.abandon(&parsed(&key), owned(owner)).await?),
            Self::Get { key } => Told::Get(store.get(&parsed(&key)).await?.map(RawView::from)),
            Self::Sweep { limit } => Told::Sweep(store.sweep(limit).await?),
        })
    }
}

fn raw(key: &Key) -> RawKey {
    (key.scope().to_vec(), key.name().to_vec())
}

fn parsed((scope, name): &RawKey) -> Key {
    crate::context::key(scope, name)
}

/// A reply.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Reserve(#[serde(with = "ReserveOutcomeForm")] ReserveOutcome),
    Renew(#[serde(with = "RenewOutcomeForm")] RenewOutcome),
    Complete(#[serde(with = "CompleteOutcomeForm")] CompleteOutcome),
    Release(#[serde(with = "ReleaseOutcomeForm")] ReleaseOutcome),
    Abandon(#[serde(with = "AbandonOutcomeForm")] AbandonOutcome),
    Get(Option<RawView>),
    Sweep(usize),
}

/// A failure, in words. No case of two processes expects one, so that its kind need not survive.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    is_unknown: bool,
    said: String,
}

impl Failed {
    pub(crate) fn error(self, operation: Operation) -> StoreError {
        let effect = if self.is_unknown { Effect::Unknown } else { Effect::NotApplied };
        StoreError::new(StoreErrorKind::Internal, effect, operation).with_source(self.said)
    }
}

impl From<&StoreError> for Failed {
    fn from(error: &StoreError) -> Self {
        Self { is_unknown: error.effect == Effect::Unknown, said: format!("{error:?}") }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ReserveOutcome")]
enum ReserveOutcomeForm {
    Reserved {
        attempt: u32,
        fence: FencingToken,
        lease_left: Duration,
    },
    Stale,
    InFlight {
        attempt: u32,
        lease_left: Duration,
    },
    LeaseExpired {
        attempt: u32,
    },
    FingerprintMismatch,
    Completed {
        #[serde(with = "answer_form")]
        answer: Answer,
        attempt: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RenewOutcome")]
enum RenewOutcomeForm {
    Renewed { lease_left: Duration },
    AlreadyCompleted,
    Lost,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CompleteOutcome")]
enum CompleteOutcomeForm {
    Completed,
    AlreadyCompleted,
    AnswerConflict,
    Lost,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ReleaseOutcome")]
enum ReleaseOutcomeForm {
    Released,
    AlreadyReleased,
    AlreadyCompleted,
    Lost,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AbandonOutcome")]
enum AbandonOutcomeForm {
    Abandoned,
    AlreadyCompleted,
    Lost,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RawAnswer(#[serde(with = "answer_form")] Answer);

mod answer_form {
    use super::{Answer, Bytes, Deserialize, Deserializer, Format, Serialize, Serializer, StoredValue};

    pub(super) fn serialize<S: Serializer>(answer: &Answer, to: S) -> Result<S::Ok, S::Error> {
        let raw: Option<(Format, &[u8])> = match answer {
            Answer::Value(response) => Some((response.format, &response.body)),
            Answer::NotKept => None,
        };
        raw.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Answer, D::Error> {
        let raw = Option::<(Format, Vec<u8>)>::deserialize(from)?;
        Ok(raw.map_or(Answer::NotKept, |(format, body)| {
            Answer::Value(StoredValue { format, body: Bytes::from(body) })
        }))
    }
}

/// A [`RecordView`], which has no public fields to be made of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RawView {
    fence: FencingToken,
    attempt: u32,
    fingerprint: [u8; 32],
    expires_in: Duration,
    state: RawState,
}

#[derive(Debug, Serialize, Deserialize)]
enum RawState {
    InFlight { lease_left: Duration, abandoned: bool },
    Completed { answer: RawAnswer, age: Duration },
}

impl From<RecordView> for RawView {
    fn from(view: RecordView) -> Self {
        Self {
            fence: view.fence,
            attempt: view.attempt,
            fingerprint: *view.fingerprint.as_bytes(),
            expires_in: view.expires_in,
            state: match view.state {
                StateView::InFlight { lease_left, abandoned } => RawState::InFlight { lease_left, abandoned },
                StateView::Completed { answer, age } => {
                    RawState::Completed { answer: RawAnswer(answer), age }
                }
            },
        }
    }
}

impl From<RawView> for RecordView {
    fn from(raw: RawView) -> Self {
        let state = match raw.state {
            RawState::InFlight { lease_left, abandoned } => StateView::InFlight { lease_left, abandoned },
            RawState::Completed { answer, age } => StateView::Completed { answer: answer.0, age },
        };
        Self::new(raw.fence, raw.attempt, Fingerprint::from_bytes(raw.fingerprint), state, raw.expires_in)
    }
}
