//! Stores that give a key to the wrong caller, or give the others a wrong outcome.

use idem_conformance::span;
use std::time::Duration;

use idem_conformance::Rules;
use idem_core::store::{OwnerToken, Record, ReserveOutcome, ReserveRequest, State, Timestamp, transition};
use idem_core::{Effect, ExpiredLeasePolicy, Operation, StoreError, StoreErrorKind};

use crate::broken::{Broken, altered};

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "counts attempts from 0",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match outcome {
                    ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                        (ReserveOutcome::Reserved { attempt: attempt - 1, fence, lease_left }, write)
                    }
                    other => (other, write),
                })
            },
            ..Rules::CORRECT
        },
        &["reserve::n01_a_fresh_key_is_reserved_as_attempt_1"],
    ),
    Broken::rules(
        "gives the winner a lease that is over",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match outcome {
                    ReserveOutcome::Reserved { attempt, fence, .. } => {
                        (ReserveOutcome::Reserved { attempt, fence, lease_left: Duration::ZERO }, write)
                    }
                    other => (other, write),
                })
            },
            ..Rules::CORRECT
        },
        &["reserve::n01_the_winner_gets_the_time_left_of_its_lease"],
    ),
    Broken::rules(
        "does not know the owner again",
        Rules {
            reserve: |found, request, now| match found {
                Some(record)
                    if in_flight(record) && !record.is_expired(now) && record.owner == request.owner =>
                {
                    let stranger = Record { owner: STRANGER, ..record.clone() };
                    transition::reserve(Some(&stranger), request, now)
                }
                found => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n02_the_owner_that_reserves_again_has_the_same_attempt_and_fence",
            "unknown::n76_a_reserve_whose_reply_was_lost_is_reserved_when_resent",
            "unknown::n76_a_takeover_whose_reply_was_lost_is_the_same_attempt_when_resent",
        ],
    ),
    Broken::rules(
        "shortens the lease when the owner reserves again",
        Rules {
            reserve: |found, request, now| {
                let shortened = found.map(|record| ended(record.clone(), request, now));
                transition::reserve(shortened.as_ref(), request, now)
            },
            ..Rules::CORRECT
        },
        &["reserve::n02_reserving_again_never_shortens_the_lease"],
    ),
    Broken::rules(
        "does not extend the lease when the owner reserves again",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                let is_again = found.is_some_and(|record| in_flight(record) && record.owner == request.owner);
                Ok((outcome, write.filter(|_| !is_again)))
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n02_reserving_again_extends_the_lease",
            "reserve::n02_the_owner_whose_lease_is_over_reserves_again_as_itself",
        ],
    ),
    Broken::rules(
        "lets an owner take its own expired lease over",
        Rules {
            reserve: |found, request, now| match found.map(|record| (record, &record.state)) {
                Some((record, State::InFlight { lease_until, .. })) if now >= *lease_until => {
                    let stranger = Record { owner: STRANGER, ..record.clone() };
                    transition::reserve(Some(&stranger), request, now)
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &["reserve::n02_the_owner_whose_lease_is_over_reserves_again_as_itself"],
    ),
    Broken::rules(
        "reports the lease of another owner as over while it runs",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match outcome {
                    ReserveOutcome::InFlight { attempt, .. } => {
                        (ReserveOutcome::InFlight { attempt, lease_left: Duration::ZERO }, write)
                    }
                    other => (other, write),
                })
            },
            ..Rules::CORRECT
        },
        &["reserve::n03_another_owner_during_the_lease_is_in_flight"],
    ),
    Broken::rules(
        "gives everyone the number of the first attempt",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match outcome {
                    ReserveOutcome::InFlight { lease_left, .. } => {
                        (ReserveOutcome::InFlight { attempt: 1, lease_left }, write)
                    }
                    ReserveOutcome::Completed { answer, .. } => {
                        (ReserveOutcome::Completed { answer, attempt: 1 }, write)
                    }
                    other => (other, write),
                })
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n03_the_answer_in_flight_counts_the_attempts",
            "reserve::n04_the_answer_names_the_attempt_that_completed",
        ],
    ),
    Broken::rules(
        "replays another answer than was stored",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match outcome {
                    ReserveOutcome::Completed { attempt, .. } => {
                        let answer = idem_core::StoredValue::bytes("another").into();
                        (ReserveOutcome::Completed { answer, attempt }, write)
                    }
                    other => (other, write),
                })
            },
            ..Rules::CORRECT
        },
        &["reserve::n04_after_complete_another_owner_gets_exactly_those_bytes"],
    ),
    Broken::rules(
        "replays its own answer to an owner",
        Rules {
            reserve: |found, request, now| match found.map(|record| &record.state) {
                Some(State::Completed { .. }) => {
                    let stranger = ReserveRequest::new(STRANGER, request.fingerprint, request.lease);
                    let stranger = stranger.record_ttl(request.record_ttl);
                    let (outcome, write) = transition::reserve(found, &stranger, now)?;
                    Ok(altered((outcome, write), |record| record.owner = request.owner))
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &["reserve::n05_an_owner_is_stale_after_its_own_complete"],
    ),
    Broken::rules(
        "reserves a key again for the owner that released it",
        Rules {
            reserve: |found, request, now| match found.map(|record| &record.state) {
                Some(State::Released) => {
                    let of_another = found.cloned().map(|record| Record { owner: STRANGER, ..record });
                    transition::reserve(of_another.as_ref(), request, now)
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n07_an_owner_is_stale_after_its_own_release",
            "release::n27_after_that_the_tokens_late_reserve_is_stale",
            "unknown::n80_a_reserve_that_arrives_after_its_owner_released_is_stale",
            "unknown::n80_a_reserve_that_arrives_after_its_owner_released_blocks_no_caller",
        ],
    ),
    Broken::rules(
        "calls every takeover attempt 1",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match outcome {
                    ReserveOutcome::Reserved { fence, lease_left, .. } => {
                        let write = write.map(|record| Record { attempt: 1, ..record });
                        (ReserveOutcome::Reserved { attempt: 1, fence, lease_left }, write)
                    }
                    outcome => (outcome, write),
                })
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n08_after_the_lease_the_next_owner_is_attempt_2_with_a_greater_fence",
            "reserve::n11_a_released_second_attempt_is_followed_by_attempt_2_and_not_1",
            "retention::n65_a_crashed_owner_blocks_for_its_lease_and_not_for_the_retention",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "knows only first and second attempts",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match outcome {
                    ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                        let attempt = attempt.min(2);
                        let write = write.map(|record| Record { attempt, ..record });
                        (ReserveOutcome::Reserved { attempt, fence, lease_left }, write)
                    }
                    outcome => (outcome, write),
                })
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n08_a_third_owner_after_two_leases_is_attempt_3",
            "fencing::n50_a_hundred_takeovers_have_strictly_increasing_fences",
        ],
    ),
    Broken::rules(
        "takes over although that was refused",
        Rules {
            reserve: |found, request, now| {
                let request = request.clone().on_expired_lease(ExpiredLeasePolicy::TakeOver);
                transition::reserve(found, &request, now)
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n09_after_the_lease_a_refusing_caller_gets_lease_expired",
            "reserve::n09_a_refused_takeover_changes_nothing",
            "abandon::n30_a_refusing_caller_gets_lease_expired_at_once",
        ],
    ),
    Broken::rules(
        "hands the record to a caller that refused to take it over",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                let taken = found.cloned().map(|record| Record { owner: request.owner, ..record });
                let write =
                    if matches!(outcome, ReserveOutcome::LeaseExpired { .. }) { taken } else { write };
                Ok((outcome, write))
            },
            ..Rules::CORRECT
        },
        &["reserve::n09_a_refused_takeover_changes_nothing"],
    ),
    Broken::rules(
        "refuses a released key to a caller that takes no leases over",
        Rules {
            reserve: |found, request, now| match found.map(|record| &record.state) {
                Some(State::Released) if request.on_expired_lease == ExpiredLeasePolicy::Refuse => {
                    Ok((ReserveOutcome::LeaseExpired { attempt: 1 }, None))
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &["reserve::n09_a_refusing_caller_still_gets_a_free_key"],
    ),
    Broken::rules(
        "takes no durations above a year",
        Rules {
            check_reserve: |request| {
                if request.lease > span(Duration::from_secs(365 * 24 * 3600)) { refused() } else { Ok(()) }
            },
            ..Rules::CORRECT
        },
        &["reserve::n10_the_longest_durations_are_accepted"],
    ),
    Broken::rules(
        "takes no durations below its own resolution",
        Rules {
            check_reserve: |request| {
                if request.lease < span(Duration::from_millis(1)) { refused() } else { Ok(()) }
            },
            ..Rules::CORRECT
        },
        &["reserve::n10_the_shortest_durations_are_accepted"],
    ),
];

const STRANGER: OwnerToken = OwnerToken::from_bytes([0; 16]);

fn in_flight(record: &Record) -> bool {
    matches!(record.state, State::InFlight { .. })
}

/// The record as if its lease ended now, if the request is its owner's and in time.
fn ended(mut record: Record, request: &ReserveRequest, now: Timestamp) -> Record {
    let is_owner = record.owner == request.owner;
    if let State::InFlight { lease_until, abandoned: false, .. } = &mut record.state
        && is_owner
        && now < *lease_until
    {
        *lease_until = now;
    }
    record
}

fn refused() -> Result<(), StoreError> {
    Err(StoreError::new(StoreErrorKind::Misconfigured, Effect::NotApplied, Operation::Reserve))
}
