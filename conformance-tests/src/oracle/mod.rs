//! [`Oracle`]: what a store may answer, worked out from everything that happened to a key.
//!
//! It catches mistakes of `idem_core::store::transition`, so it shares nothing with it but the types of requests and outcomes.
//! It also works the other way round: it keeps no record that operations change, but the *history* of what was accepted.
//! For each call it derives from that history who got the key last, what that owner did since, and when each of these
//! things ends.

mod call;
mod history;
mod permit;
mod standing;

use std::time::Duration;

use idem_core::ExpiredLeasePolicy;
use idem_core::store::ReserveRequest;

pub(crate) use call::{Call, Reply, ReplyKind};
pub(crate) use history::Essence;
use history::{History, What};
use permit::{FenceRule, Permit};
use standing::{Standing, Tenure, standings};

/// What one key's store may answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    history: History,
}

impl Oracle {
    /// What `call` at `now` may lead to: nothing if the reply is not permitted. Without a reply (it was lost), every
    /// permitted reply is possible. Times may differ by `slack`.
    pub(crate) fn after(
        &self,
        now: Duration,
        call: &Call,
        reply: Option<&Reply>,
        slack: Duration,
    ) -> Vec<Self> {
        let permits = self.permits(now, call).into_iter();
        let agreeing = permits.filter(|permit| reply.is_none_or(|reply| permit.agrees(reply, slack)));
        agreeing.map(|permit| self.with(now, call, permit, reply)).collect()
    }

    /// The permitted replies, for the report of one that was not.
    pub(crate) fn explain(&self, now: Duration, call: &Call) -> String {
        let permits = self.permits(now, call).into_iter();
        let permits = permits
            .map(|permit| format!("{:?} (fence {:?}, times {:?})", permit.kind, permit.fence, permit.times));
        permits.collect::<Vec<_>>().join(" or ")
    }

    /// Oracles with the same essence permit the same replies from now on.
    pub(crate) fn essence(&self) -> Essence {
        self.history.essence()
    }

    fn with(&self, now: Duration, call: &Call, permit: Permit, reply: Option<&Reply>) -> Self {
        let mut next = self.clone();
        let fence = reply.and_then(|reply| reply.fence);
        match (permit.adds, call.owner()) {
            (Some(What::Granted { attempt, fingerprint, lease, record_ttl, .. }), Some(owner)) => {
                next.history.push(
                    now,
                    owner,
                    What::Granted { attempt, fence, fingerprint, lease, record_ttl },
                );
                return next;
            }
            (Some(what), Some(owner)) => next.history.push(now, owner, what),
            (_, _) => {}
        }
        // A reply about an owner whose fence was unknown has shown it.
        if let (FenceRule::Above(_), Some(fence), [opening, ..]) =
            (permit.fence, fence, self.history.tenancy())
        {
            next.history.push(now, opening.owner, What::Learned { fence });
        }
        next
    }

    fn permits(&self, now: Duration, call: &Call) -> Vec<Permit> {
        standings(&self.history, now).iter().map(|standing| self.permit(standing, call)).collect()
    }

    fn permit(&self, standing: &Standing<'_>, call: &Call) -> Permit {
        match call {
            Call::Reserve(request) => self.permit_reserve(standing, request),
            Call::Renew { owner, lease } => match standing {
                Standing::Owned(tenure) if tenure.owner == *owner && !tenure.abandoned => {
                    Permit::new(ReplyKind::Renewed)
                        .times([tenure.lease_left.max(*lease)])
                        .adds(What::Extended { lease: *lease })
                }
                Standing::Done { tenure, .. } if tenure.owner == *owner => {
                    Permit::new(ReplyKind::AlreadyCompleted)
                }
                _ => Permit::new(ReplyKind::Lost),
            },
            Call::Complete { owner, completion } => match standing {
                Standing::Owned(tenure) if tenure.owner == *owner => {
                    let (answer, retention) = (completion.answer.clone(), completion.retention);
                    Permit::new(ReplyKind::Completed)
                        .adds(What::Completed { answer, retention: retention.into() })
                }
                Standing::Done { tenure, answer, .. } if tenure.owner == *owner => {
                    let is_same = **answer == completion.answer;
                    Permit::new(if is_same { ReplyKind::AlreadyCompleted } else { ReplyKind::AnswerConflict })
                }
                _ => Permit::new(ReplyKind::Lost),
            },
            Call::Release { owner } => match standing {
                Standing::Free => Permit::new(ReplyKind::AlreadyReleased).adds(What::ReleasedAbsent),
                Standing::Owned(tenure) if tenure.owner == *owner => {
                    Permit::new(ReplyKind::Released).adds(What::Released)
                }
                Standing::Released { owner: released, .. } if released == owner => {
                    Permit::new(ReplyKind::AlreadyReleased)
                }
                Standing::Done { tenure, .. } if tenure.owner == *owner => {
                    Permit::new(ReplyKind::AlreadyCompleted)
                }
                _ => Permit::new(ReplyKind::Lost),
            },
            Call::Abandon { owner } => match standing {
                Standing::Owned(tenure) if tenure.owner == *owner => {
                    Permit::new(ReplyKind::Abandoned).adds(What::Abandoned)
                }
                Standing::Done { tenure, .. } if tenure.owner == *owner => {
                    Permit::new(ReplyKind::AlreadyCompleted)
                }
                _ => Permit::new(ReplyKind::Lost),
            },
            Call::Get => self.permit_get(standing),
        }
    }

    fn permit_reserve(&self, standing: &Standing<'_>, request: &ReserveRequest) -> Permit {
        let granted = |attempt| {
            let ReserveRequest { fingerprint, lease, record_ttl, .. } = *request;
            let (lease, record_ttl) = (lease.as_duration(), record_ttl.as_duration());
            Permit::new(ReplyKind::Reserved { attempt })
                .fence(FenceRule::Above(self.history.greatest_fence()))
                .times([lease])
                .adds(What::Granted { attempt, fence: None, fingerprint, lease, record_ttl })
        };
        match standing {
            Standing::Free => granted(1),
            Standing::Released { owner, .. } if *owner == request.owner => Permit::new(ReplyKind::Stale),
            Standing::Released { attempt, .. } => granted(*attempt),
            Standing::Owned(tenure) | Standing::Done { tenure, .. }
                if *tenure.fingerprint != request.fingerprint =>
            {
                Permit::new(ReplyKind::FingerprintMismatch)
            }
            Standing::Done { tenure, .. } if tenure.owner == request.owner => Permit::new(ReplyKind::Stale),
            Standing::Done { tenure, answer, .. } => {
                Permit::new(ReplyKind::Replay { answer: (*answer).clone(), attempt: tenure.attempt })
            }
            Standing::Owned(tenure) if tenure.owner == request.owner && tenure.abandoned => {
                Permit::new(ReplyKind::Stale)
            }
            Standing::Owned(tenure) if tenure.owner == request.owner => {
                Permit::new(ReplyKind::Reserved { attempt: tenure.attempt })
                    .fence(self.fence_of(tenure))
                    .times([tenure.lease_left.max(request.lease.into())])
                    .adds(What::Extended { lease: request.lease.into() })
            }
            Standing::Owned(tenure) if !tenure.abandoned && !tenure.lease_left.is_zero() => {
                Permit::new(ReplyKind::InFlight { attempt: tenure.attempt }).times([tenure.lease_left])
            }
            Standing::Owned(tenure) => match request.on_expired_lease {
                ExpiredLeasePolicy::TakeOver => granted(tenure.attempt + 1),
                ExpiredLeasePolicy::Refuse => {
                    Permit::new(ReplyKind::LeaseExpired { attempt: tenure.attempt })
                }
            },
        }
    }

    fn permit_get(&self, standing: &Standing<'_>) -> Permit {
        match standing {
            Standing::Free | Standing::Released { .. } => Permit::new(ReplyKind::Nothing),
            Standing::Owned(tenure) => {
                let Tenure { attempt, fingerprint, abandoned, lease_left, expires_in, .. } = *tenure;
                // The contract does not say what is left of an abandoned lease.
                let lease_left = (!abandoned).then_some(lease_left);
                Permit::new(ReplyKind::Running { attempt, fingerprint: *fingerprint, abandoned })
                    .fence(self.fence_of(tenure))
                    .times(lease_left.into_iter().chain([expires_in]))
            }
            Standing::Done { tenure, answer, age, expires_in } => {
                let (attempt, fingerprint) = (tenure.attempt, *tenure.fingerprint);
                Permit::new(ReplyKind::Done { attempt, fingerprint, answer: (*answer).clone() })
                    .fence(self.fence_of(tenure))
                    .times([*age, *expires_in])
            }
        }
    }

    fn fence_of(&self, tenure: &Tenure<'_>) -> FenceRule {
        tenure.fence.map_or_else(|| FenceRule::Above(self.history.greatest_fence()), FenceRule::Exactly)
    }
}
