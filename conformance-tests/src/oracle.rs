//! [`Oracle`]: what a store may answer, worked out from everything that happened to a key.
//!
//! It is there to catch mistakes of `idem_core::store::transition`, so it shares nothing with it but the types of requests and
//! outcomes, and it is built the other way round: it keeps no record that operations change. It keeps the *history* of
//! what was accepted, and asks it anew for each call: who was granted the key last, what did that owner do since, and
//! when did each of these things end?

use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveRequest};
use idem_core::{Answer, ExpiredLeasePolicy, FencingToken, Fingerprint};

use crate::call::{Call, Reply, Says};

/// How long a tombstone stays at the least, as the design says it.
const TOMBSTONE: Duration = Duration::from_secs(300);

/// The history of one key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    events: Vec<Event>,
}

/// What of a history answers can still depend on: the last owner's part of it, and the greatest fence.
pub(crate) type Essence = (Vec<Event>, Option<FencingToken>);

/// Something that was accepted. Refusals and looks change nothing and leave no event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    at: Duration,
    owner: OwnerToken,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    /// The fence is unknown if the reply was lost.
    Granted {
        attempt: u32,
        fence: Option<FencingToken>,
        fingerprint: Fingerprint,
        lease: Duration,
        record_ttl: Duration,
    },
    Extended {
        lease: Duration,
    },
    /// The fence of a grant whose reply was lost became known.
    Learned {
        fence: FencingToken,
    },
    Abandoned,
    Completed {
        answer: Answer,
        retention: Duration,
    },
    Released,
    /// A release of a key that had no record.
    ReleasedAbsent,
}

/// What the history makes of a key at some instant.
enum Standing<'a> {
    Free,
    Owned(Tenure<'a>),
    Done { tenure: Tenure<'a>, answer: &'a Answer, age: Duration, expires_in: Duration },
    Released { owner: OwnerToken, attempt: u32 },
}

/// The last grant, and how it stands.
struct Tenure<'a> {
    owner: OwnerToken,
    attempt: u32,
    fence: Option<FencingToken>,
    fingerprint: &'a Fingerprint,
    abandoned: bool,
    /// Zero once the lease is over.
    lease_left: Duration,
    expires_in: Duration,
}

/// An answer that the history permits, and what it would add to the history.
#[derive(Clone, Debug)]
struct Permit {
    says: Says,
    fence: FenceRule,
    times: Vec<Duration>,
    adds: Option<What>,
}

#[derive(Clone, Copy, Debug)]
enum FenceRule {
    None,
    Exactly(FencingToken),
    Above(Option<FencingToken>),
}

impl Oracle {
    /// The histories that `call` at `now` may lead to: none if the reply is not permitted. Without a reply (it was
    /// lost), every permitted answer may have been given. Times may differ by `slack`.
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

    /// What would be permitted, for the report of a reply that was not.
    pub(crate) fn explain(&self, now: Duration, call: &Call) -> String {
        let permits = self.permits(now, call).into_iter();
        let permits = permits
            .map(|permit| format!("{:?} (fence {:?}, times {:?})", permit.says, permit.fence, permit.times));
        permits.collect::<Vec<_>>().join(" or ")
    }

    /// Histories with the same essence are as good as equal.
    pub(crate) fn essence(&self) -> Essence {
        (self.tenancy().to_vec(), self.greatest_fence())
    }

    fn with(&self, now: Duration, call: &Call, permit: Permit, reply: Option<&Reply>) -> Self {
        let mut next = self.clone();
        let fence = reply.and_then(|reply| reply.fence);
        let mut add = |owner, what| next.events.push(Event { at: now, owner, what });
        match (permit.adds, call.owner()) {
            (Some(What::Granted { attempt, fingerprint, lease, record_ttl, .. }), Some(owner)) => {
                add(owner, What::Granted { attempt, fence, fingerprint, lease, record_ttl });
                return next;
            }
            (Some(what), Some(owner)) => add(owner, what),
            (_, _) => {}
        }
        // A reply about an owner whose fence was not known has told it.
        if let (FenceRule::Above(_), Some(fence), [opening, ..]) = (permit.fence, fence, self.tenancy()) {
            add(opening.owner, What::Learned { fence });
        }
        next
    }

    fn permits(&self, now: Duration, call: &Call) -> Vec<Permit> {
        self.standings(now).iter().map(|standing| self.permit(standing, call)).collect()
    }

    fn permit(&self, standing: &Standing<'_>, call: &Call) -> Permit {
        match call {
            Call::Reserve(request) => self.permit_reserve(standing, request),
            Call::Renew { owner, lease } => match standing {
                Standing::Owned(tenure) if tenure.owner == *owner && !tenure.abandoned => {
                    Permit::says(Says::Renewed)
                        .times([tenure.lease_left.max(*lease)])
                        .adds(What::Extended { lease: *lease })
                }
                Standing::Done { tenure, .. } if tenure.owner == *owner => {
                    Permit::says(Says::AlreadyCompleted)
                }
                _ => Permit::says(Says::Lost),
            },
            Call::Complete { owner, completion } => match standing {
                Standing::Owned(tenure) if tenure.owner == *owner => {
                    let (answer, retention) = (completion.answer.clone(), completion.retention);
                    Permit::says(Says::Completed)
                        .adds(What::Completed { answer, retention: retention.into() })
                }
                Standing::Done { tenure, answer, .. } if tenure.owner == *owner => {
                    let is_same = **answer == completion.answer;
                    Permit::says(if is_same { Says::AlreadyCompleted } else { Says::AnswerConflict })
                }
                _ => Permit::says(Says::Lost),
            },
            Call::Release { owner } => match standing {
                Standing::Free => Permit::says(Says::AlreadyReleased).adds(What::ReleasedAbsent),
                Standing::Owned(tenure) if tenure.owner == *owner => {
                    Permit::says(Says::Released).adds(What::Released)
                }
                Standing::Released { owner: released, .. } if released == owner => {
                    Permit::says(Says::AlreadyReleased)
                }
                Standing::Done { tenure, .. } if tenure.owner == *owner => {
                    Permit::says(Says::AlreadyCompleted)
                }
                _ => Permit::says(Says::Lost),
            },
            Call::Abandon { owner } => match standing {
                Standing::Owned(tenure) if tenure.owner == *owner => {
                    Permit::says(Says::Abandoned).adds(What::Abandoned)
                }
                Standing::Done { tenure, .. } if tenure.owner == *owner => {
                    Permit::says(Says::AlreadyCompleted)
                }
                _ => Permit::says(Says::Lost),
            },
            Call::Get => self.permit_get(standing),
        }
    }

    fn permit_reserve(&self, standing: &Standing<'_>, request: &ReserveRequest) -> Permit {
        let granted = |attempt| {
            let ReserveRequest { fingerprint, lease, record_ttl, .. } = *request;
            let (lease, record_ttl) = (lease.as_duration(), record_ttl.as_duration());
            Permit::says(Says::Reserved { attempt })
                .fence(FenceRule::Above(self.greatest_fence()))
                .times([lease])
                .adds(What::Granted { attempt, fence: None, fingerprint, lease, record_ttl })
        };
        match standing {
            Standing::Free => granted(1),
            Standing::Released { owner, .. } if *owner == request.owner => Permit::says(Says::Stale),
            Standing::Released { attempt, .. } => granted(*attempt),
            Standing::Owned(tenure) | Standing::Done { tenure, .. }
                if *tenure.fingerprint != request.fingerprint =>
            {
                Permit::says(Says::FingerprintMismatch)
            }
            Standing::Done { tenure, .. } if tenure.owner == request.owner => Permit::says(Says::Stale),
            Standing::Done { tenure, answer, .. } => {
                Permit::says(Says::Replay { answer: (*answer).clone(), attempt: tenure.attempt })
            }
            Standing::Owned(tenure) if tenure.owner == request.owner && tenure.abandoned => {
                Permit::says(Says::Stale)
            }
            Standing::Owned(tenure) if tenure.owner == request.owner => {
                Permit::says(Says::Reserved { attempt: tenure.attempt })
                    .fence(self.fence_of(tenure))
                    .times([tenure.lease_left.max(request.lease.into())])
                    .adds(What::Extended { lease: request.lease.into() })
            }
            Standing::Owned(tenure) if !tenure.abandoned && !tenure.lease_left.is_zero() => {
                Permit::says(Says::InFlight { attempt: tenure.attempt }).times([tenure.lease_left])
            }
            Standing::Owned(tenure) => match request.on_expired_lease {
                ExpiredLeasePolicy::TakeOver => granted(tenure.attempt + 1),
                ExpiredLeasePolicy::Refuse => Permit::says(Says::LeaseExpired { attempt: tenure.attempt }),
            },
        }
    }

    fn permit_get(&self, standing: &Standing<'_>) -> Permit {
        match standing {
            Standing::Free | Standing::Released { .. } => Permit::says(Says::Nothing),
            Standing::Owned(tenure) => {
                let Tenure { attempt, fingerprint, abandoned, lease_left, expires_in, .. } = *tenure;
                // Nobody promises what is left of a lease that was given up.
                let lease_left = (!abandoned).then_some(lease_left);
                Permit::says(Says::Running { attempt, fingerprint: *fingerprint, abandoned })
                    .fence(self.fence_of(tenure))
                    .times(lease_left.into_iter().chain([expires_in]))
            }
            Standing::Done { tenure, answer, age, expires_in } => {
                let (attempt, fingerprint) = (tenure.attempt, *tenure.fingerprint);
                Permit::says(Says::Done { attempt, fingerprint, answer: (*answer).clone() })
                    .fence(self.fence_of(tenure))
                    .times([*age, *expires_in])
            }
        }
    }

    /// Usually one. A tombstone stays *at least* so long, so after that there are two until an answer tells.
    fn standings(&self, now: Duration) -> Vec<Standing<'_>> {
        let Some((opening, rest)) = self.tenancy().split_first() else { return vec![Standing::Free] };
        let What::Granted { attempt, fingerprint, lease, record_ttl, .. } = &opening.what else {
            return Self::tombstone(opening.owner, 1, opening.at + TOMBSTONE, now);
        };

        let leases = || {
            let extensions = rest.iter().filter_map(|event| match event.what {
                What::Extended { lease } => Some((event.at, lease)),
                _ => None,
            });
            std::iter::once((opening.at, *lease)).chain(extensions)
        };
        let lease_until = leases().map(|(at, lease)| at + lease).max().unwrap_or(opening.at);
        let abandoned = rest.iter().find(|event| event.what == What::Abandoned);
        let remembered_until = abandoned.map_or(lease_until, |event| event.at) + *record_ttl;
        let learned = rest.iter().find_map(|event| match event.what {
            What::Learned { fence } => Some(fence),
            _ => None,
        });
        let What::Granted { fence, .. } = opening.what else { unreachable!("it was matched above") };
        let tenure = Tenure {
            owner: opening.owner,
            attempt: *attempt,
            fence: fence.or(learned),
            fingerprint,
            abandoned: abandoned.is_some(),
            lease_left: lease_until.saturating_sub(now),
            expires_in: remembered_until.saturating_sub(now),
        };

        for event in rest {
            match &event.what {
                What::Completed { answer, retention } => {
                    let expires_in = (event.at + *retention).saturating_sub(now);
                    let age = now.saturating_sub(event.at);
                    let done = Standing::Done { tenure, answer, age, expires_in };
                    return vec![if expires_in.is_zero() { Standing::Free } else { done }];
                }
                What::Released => {
                    let shortest = leases().map(|(_, lease)| lease).min().unwrap_or_default();
                    let stays =
                        shortest.max(TOMBSTONE).max(if *attempt > 1 { *record_ttl } else { Duration::ZERO });
                    return Self::tombstone(opening.owner, *attempt, event.at + stays, now);
                }
                _ => {}
            }
        }
        vec![if tenure.expires_in.is_zero() { Standing::Free } else { Standing::Owned(tenure) }]
    }

    fn tombstone(owner: OwnerToken, attempt: u32, until: Duration, now: Duration) -> Vec<Standing<'static>> {
        let standing = Standing::Released { owner, attempt };
        if now < until { vec![standing] } else { vec![standing, Standing::Free] }
    }

    /// The last grant and everything since. All of it is its owner's doing, since nobody else's is accepted.
    fn tenancy(&self) -> &[Event] {
        let opens = |event: &Event| matches!(event.what, What::Granted { .. } | What::ReleasedAbsent);
        let start = self.events.iter().rposition(opens).unwrap_or(self.events.len());
        &self.events[start..]
    }

    fn greatest_fence(&self) -> Option<FencingToken> {
        Self::greatest_of(&self.events)
    }

    fn greatest_of(events: &[Event]) -> Option<FencingToken> {
        let fences = events.iter().filter_map(|event| match event.what {
            What::Granted { fence, .. } => fence,
            What::Learned { fence } => Some(fence),
            _ => None,
        });
        fences.max()
    }

    fn fence_of(&self, tenure: &Tenure<'_>) -> FenceRule {
        tenure.fence.map_or_else(|| FenceRule::Above(self.greatest_fence()), FenceRule::Exactly)
    }
}

impl Permit {
    fn says(says: Says) -> Self {
        Self { says, fence: FenceRule::None, times: Vec::new(), adds: None }
    }

    fn fence(mut self, fence: FenceRule) -> Self {
        self.fence = fence;
        self
    }

    fn times(mut self, times: impl IntoIterator<Item = Duration>) -> Self {
        self.times = times.into_iter().collect();
        self
    }

    fn adds(mut self, what: What) -> Self {
        self.adds = Some(what);
        self
    }

    fn agrees(&self, reply: &Reply, slack: Duration) -> bool {
        let fence_agrees = match self.fence {
            FenceRule::None => reply.fence.is_none(),
            FenceRule::Exactly(fence) => reply.fence == Some(fence),
            FenceRule::Above(floor) => reply.fence > floor,
        };
        let times_agree = self.times.len() == reply.times.len()
            && self
                .times
                .iter()
                .zip(&reply.times)
                .all(|(permitted, told)| permitted.abs_diff(*told) <= slack);
        self.says == reply.says && fence_agrees && times_agree
    }
}
