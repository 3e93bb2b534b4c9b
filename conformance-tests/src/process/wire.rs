//! What goes over the pipe between two processes of the suite: [`Request`], [`Reply`] and [`Failure`].

use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, Span, StateView};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, Effect, ExpiredLeasePolicy, FencingToken, Fingerprint, Format,
    Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore, StoreError, StoreErrorKind, StoredValue,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::values::{key, span};

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
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

impl Request {
    pub(super) fn reserve(key: &Key, request: &ReserveRequest) -> Self {
        Self::Reserve {
            key: raw(key),
            owner: *request.owner.as_bytes(),
            fingerprint: *request.fingerprint.as_bytes(),
            lease: request.lease.into(),
            ttl: request.record_ttl.into(),
            refuse: request.on_expired_lease == ExpiredLeasePolicy::Refuse,
        }
    }

    pub(super) fn renew(key: &Key, owner: OwnerToken, lease: Span) -> Self {
        Self::Renew { key: raw(key), owner: *owner.as_bytes(), lease: lease.into() }
    }

    pub(super) fn complete(key: &Key, owner: OwnerToken, completion: &Completion) -> Self {
        let answer = RawAnswer(completion.answer.clone());
        Self::Complete {
            key: raw(key),
            owner: *owner.as_bytes(),
            answer,
            retention: completion.retention.into(),
        }
    }

    pub(super) fn release(key: &Key, owner: OwnerToken) -> Self {
        Self::Release { key: raw(key), owner: *owner.as_bytes() }
    }

    pub(super) fn abandon(key: &Key, owner: OwnerToken) -> Self {
        Self::Abandon { key: raw(key), owner: *owner.as_bytes() }
    }

    pub(super) fn get(key: &Key) -> Self {
        Self::Get { key: raw(key) }
    }

    /// Sends the call to a store.
    pub(super) async fn send(self, store: &dyn ReservationStore) -> Result<Reply, StoreError> {
        let owned = OwnerToken::from_bytes;
        Ok(match self {
            Self::Reserve { key, owner, fingerprint, lease, ttl, refuse } => {
                let mut request =
                    ReserveRequest::new(owned(owner), Fingerprint::from_bytes(fingerprint), span(lease))
                        .record_ttl(span(ttl));
                if refuse {
                    request = request.on_expired_lease(ExpiredLeasePolicy::Refuse);
                }
                Reply::Reserve(store.reserve(&parsed(&key), request).await?)
            }
            Self::Renew { key, owner, lease } => {
                Reply::Renew(store.renew(&parsed(&key), owned(owner), span(lease)).await?)
            }
            Self::Complete { key, owner, answer, retention } => {
                let completion = Completion::new(answer.0, span(retention));
                Reply::Complete(store.complete(&parsed(&key), owned(owner), completion).await?)
            }
            Self::Release { key, owner } => Reply::Release(store.release(&parsed(&key), owned(owner)).await?),
            Self::Abandon { key, owner } => Reply::Abandon(store.abandon(&parsed(&key), owned(owner)).await?),
            Self::Get { key } => Reply::Get(store.get(&parsed(&key)).await?.map(RawView::from)),
            Self::Sweep { limit } => Reply::Sweep(store.sweep(limit).await?),
        })
    }
}

fn raw(key: &Key) -> RawKey {
    (key.scope().to_vec(), key.name().to_vec())
}

fn parsed((scope, name): &RawKey) -> Key {
    key(scope, name)
}

/// A reply.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Reserve(#[serde(with = "ReserveOutcomeForm")] ReserveOutcome),
    Renew(#[serde(with = "RenewOutcomeForm")] RenewOutcome),
    Complete(#[serde(with = "CompleteOutcomeForm")] CompleteOutcome),
    Release(#[serde(with = "ReleaseOutcomeForm")] ReleaseOutcome),
    Abandon(#[serde(with = "AbandonOutcomeForm")] AbandonOutcome),
    Get(Option<RawView>),
    Sweep(usize),
}

/// A failure, as text. No case of two processes expects one, so that its kind is not kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    is_unknown: bool,
    text: String,
}

impl Failure {
    pub(super) fn error(self, operation: Operation) -> StoreError {
        let effect = if self.is_unknown { Effect::Unknown } else { Effect::NotApplied };
        StoreError::new(StoreErrorKind::Internal, effect, operation).with_source(self.text)
    }
}

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        Self { is_unknown: error.effect == Effect::Unknown, text: format!("{error:?}") }
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
pub(super) struct RawAnswer(#[serde(with = "answer_form")] Answer);

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

/// A [`RecordView`], which cannot be built from its fields.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RawView {
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
