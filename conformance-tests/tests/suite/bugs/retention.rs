//! Stores that keep records too long, forget them too early, or sweep what has not expired.

use idem_conformance::span;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_conformance::{Reference, Rules};
use idem_core::store::{Record, ReserveOutcome, State, Timestamp, transition};
use idem_core::{ReservationStore as _, StoreError};

use crate::broken::{Broken, altered};
use crate::intercept::{Intercept, Intercepted};

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "counts the retention from the reservation",
        Rules {
            complete: |found, owner, completion, now| {
                let retention = completion.retention;
                let began = found.and_then(|record| match &record.state {
                    State::InFlight { lease_until, lease, .. } => {
                        Some(Timestamp::from_micros(lease_until.as_micros() - lease.as_micros()))
                    }
                    _ => None,
                });
                altered(transition::complete(found, owner, completion, now), |record| {
                    record.expires_at = began.unwrap_or(now).saturating_add(retention);
                })
            },
            ..Rules::CORRECT
        },
        &["retention::n59_retention_counts_from_completion_and_not_from_reservation"],
    ),
    Broken::rules(
        "keeps an answer for what its record_ttl was",
        Rules {
            complete: |found, owner, completion, now| {
                let until = found.map_or(now, |record| record.expires_at);
                altered(transition::complete(found, owner, completion, now), |record| {
                    record.expires_at = until;
                })
            },
            ..Rules::CORRECT
        },
        &[
            "retention::n59_a_completed_record_is_kept_for_its_retention_and_not_its_record_ttl",
            "retention::n62_a_sweep_keeps_an_answer",
        ],
    ),
    Broken::rules(
        "replays what has expired and was not swept",
        Rules {
            reserve: |found, request, now| {
                let kept = found.map(|record| match record.state {
                    State::Completed { .. } => {
                        Record { expires_at: Timestamp::from_micros(u64::MAX), ..record.clone() }
                    }
                    _ => record.clone(),
                });
                transition::reserve(kept.as_ref(), request, now)
            },
            ..Rules::CORRECT
        },
        &[
            "retention::n60_after_the_retention_the_key_is_reserved_as_attempt_1",
            "retention::n60_after_the_retention_the_old_answer_is_unreachable",
        ],
    ),
    Broken::rules(
        "counts an expired attempt",
        Rules {
            reserve: |found, request, now| {
                let kept = found.map(|record| match record.state {
                    State::InFlight { .. } => {
                        Record { expires_at: Timestamp::from_micros(u64::MAX), ..record.clone() }
                    }
                    _ => record.clone(),
                });
                transition::reserve(kept.as_ref(), request, now)
            },
            ..Rules::CORRECT
        },
        &["retention::n60_after_the_record_ttl_a_crashed_attempt_is_forgotten"],
    ),
    Broken::rules(
        "forgets the old answer one instant later for get than for reserve",
        Rules {
            get: |found, now| {
                let longer = found.map(|record| Record {
                    expires_at: record.expires_at.saturating_add(span(Duration::from_micros(1))),
                    ..record.clone()
                });
                (longer.and_then(|record| record.view(now)), None)
            },
            ..Rules::CORRECT
        },
        &["retention::n61_the_instant_at_which_an_answer_expires_is_the_same_for_all"],
    ),
    Broken::rules(
        "shows the expired answer under a new reservation",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                let expired = found.filter(|record| {
                    record.is_expired(now) && matches!(record.state, State::Completed { .. })
                });
                Ok(match (outcome, expired) {
                    (outcome @ ReserveOutcome::Reserved { .. }, Some(expired)) => {
                        let kept = Record {
                            expires_at: now.saturating_add(span(Duration::from_secs(3600))),
                            ..expired.clone()
                        };
                        (outcome, Some(kept))
                    }
                    (outcome, _) => (outcome, write),
                })
            },
            ..Rules::CORRECT
        },
        &["retention::n60_after_the_retention_the_old_answer_is_unreachable"],
    ),
    Broken::rules(
        "forgets a record when its lease ends",
        Rules {
            reserve: |found, request, now| {
                Ok(altered(transition::reserve(found, request, now)?, |record| {
                    if let State::InFlight { lease_until, .. } = record.state {
                        record.expires_at = lease_until;
                    }
                }))
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n08_after_the_lease_the_next_owner_is_attempt_2_with_a_greater_fence",
            "retention::n62_a_sweep_keeps_an_undecided_record_whose_lease_is_over",
        ],
    ),
    Broken::rules(
        "forgets a record before its lease ends",
        Rules {
            reserve: |found, request, now| {
                Ok(altered(transition::reserve(found, request, now)?, |record| {
                    record.expires_at = now.saturating_add(span(request.lease.as_duration() / 4));
                }))
            },
            ..Rules::CORRECT
        },
        &[
            "get::n37_a_record_in_flight_shows_what_is_left_of_its_lease",
            "lease::n49_a_record_ttl_far_shorter_than_the_lease_does_not_end_the_lease",
        ],
    ),
    Broken::rules(
        "sweeps whatever is in flight",
        Rules {
            is_garbage: |record, now| {
                matches!(record.state, State::InFlight { .. }) || record.is_expired(now)
            },
            ..Rules::CORRECT
        },
        &[
            "retention::n62_a_sweep_keeps_a_live_record_in_flight",
            "retention::n62_a_sweep_keeps_an_undecided_record_whose_lease_is_over",
            "keys::n97_a_sweep_a_release_and_an_abandon_touch_only_their_key",
        ],
    ),
    Broken::rules(
        "sweeps records whose lease is over",
        Rules {
            is_garbage: |record, now| match record.state {
                State::InFlight { lease_until, .. } => now >= lease_until,
                _ => record.is_expired(now),
            },
            ..Rules::CORRECT
        },
        &["retention::n62_a_sweep_keeps_an_undecided_record_whose_lease_is_over"],
    ),
    Broken::rules(
        "sweeps answers",
        Rules {
            is_garbage: |record, now| {
                matches!(record.state, State::Completed { .. }) || record.is_expired(now)
            },
            ..Rules::CORRECT
        },
        &[
            "retention::n62_a_sweep_keeps_an_answer",
            "concurrency::sweeps::n63_a_sweep_under_load_loses_nothing",
        ],
    ),
    Broken::rules(
        "sweeps tombstones",
        Rules {
            is_garbage: |record, now| record.state == State::Released || record.is_expired(now),
            ..Rules::CORRECT
        },
        &["retention::n62_a_sweep_keeps_a_tombstone"],
    ),
    Broken::wrapped(
        "sweeps everything, whatever the limit",
        |store, _| Arc::new(Intercepted(SweepsAll(store))),
        &["retention::n64_a_sweep_honours_its_limit", "retention::n64_a_sweep_reports_its_count"],
    ),
    Broken::wrapped(
        "does not count what it sweeps",
        |store, _| Arc::new(Intercepted(SweepsUncounted(store))),
        &["retention::n64_a_sweep_reports_its_count"],
    ),
];

#[derive(Debug)]
struct SweepsAll(Arc<Reference>);

#[async_trait]
impl Intercept for SweepsAll {
    fn inner(&self) -> &Reference {
        &self.0
    }

    async fn sweep(&self, _limit: usize) -> Result<usize, StoreError> {
        self.0.sweep(usize::MAX).await
    }
}

#[derive(Debug)]
struct SweepsUncounted(Arc<Reference>);

#[async_trait]
impl Intercept for SweepsUncounted {
    fn inner(&self) -> &Reference {
        &self.0
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.0.sweep(limit).await.map(|_| 0)
    }
}
