//! [`Standing`]: the state of a key, derived from its history.

use std::time::Duration;

use idem_core::store::OwnerToken;
use idem_core::{Answer, FencingToken, Fingerprint};

use super::history::{History, What};

/// How long a tombstone stays at least, as the design says.
const TOMBSTONE: Duration = Duration::from_secs(300);

/// The state of a key at some instant, as the history implies it.
pub(super) enum Standing<'a> {
    Free,
    Owned(Tenure<'a>),
    Done { tenure: Tenure<'a>, answer: &'a Answer, age: Duration, expires_in: Duration },
    Released { owner: OwnerToken, attempt: u32 },
}

/// The last grant, and what is left of it.
pub(super) struct Tenure<'a> {
    pub(super) owner: OwnerToken,
    pub(super) attempt: u32,
    pub(super) fence: Option<FencingToken>,
    pub(super) fingerprint: &'a Fingerprint,
    pub(super) abandoned: bool,
    /// Zero when the lease is over.
    pub(super) lease_left: Duration,
    pub(super) expires_in: Duration,
}

/// The possible states at `now`: usually one. A tombstone stays *at least* for its time, so after that there are two until
/// a reply shows which.
pub(super) fn standings(history: &History, now: Duration) -> Vec<Standing<'_>> {
    let Some((opening, rest)) = history.tenancy().split_first() else { return vec![Standing::Free] };
    let What::Granted { attempt, fingerprint, lease, record_ttl, .. } = &opening.what else {
        return tombstone(opening.owner, 1, opening.at + TOMBSTONE, now);
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
                return tombstone(opening.owner, *attempt, event.at + stays, now);
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
