//! Stores whose fences do not grow.

use idem_conformance::Rules;
use idem_core::FencingToken;
use idem_core::store::{Record, ReserveOutcome, State, Timestamp, transition};

use crate::broken::Broken;

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "gives the owner a new fence when it reserves again",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                let is_again = found.is_some_and(|record| in_flight(record) && record.owner == request.owner);
                Ok(match (outcome, write) {
                    (ReserveOutcome::Reserved { attempt, fence, lease_left }, Some(record)) if is_again => {
                        let fence = FencingToken::next(Some(fence), now).unwrap_or(FencingToken::MAX);
                        (
                            ReserveOutcome::Reserved { attempt, fence, lease_left },
                            Some(Record { fence, ..record }),
                        )
                    }
                    other => other,
                })
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n02_the_owner_that_reserves_again_has_the_same_attempt_and_fence",
            "unknown::n76_a_reserve_whose_reply_was_lost_is_reserved_when_resent",
        ],
    ),
    Broken::rules(
        "keeps the fence at a takeover",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match (outcome, found) {
                    (ReserveOutcome::Reserved { attempt, lease_left, .. }, Some(before)) => {
                        let fence = before.fence;
                        let write = write.map(|record| Record { fence, ..record });
                        (ReserveOutcome::Reserved { attempt, fence, lease_left }, write)
                    }
                    (outcome, _) => (outcome, write),
                })
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n06_after_a_release_the_next_owner_is_attempt_1_with_a_greater_fence",
            "reserve::n08_after_the_lease_the_next_owner_is_attempt_2_with_a_greater_fence",
            "abandon::n29_the_next_reserve_takes_over_at_once_as_attempt_2",
            "fencing::n50_a_hundred_takeovers_have_strictly_increasing_fences",
            "fencing::n51_fences_increase_across_releases",
            "fencing::n52_a_guarded_resource_refuses_the_zombies_write",
            "fencing::n53_the_owner_after_it_has_exactly_the_next",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "counts a key's fences from 1 in each life",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                let before = found.filter(|record| !record.is_expired(now));
                let is_again =
                    before.is_some_and(|record| in_flight(record) && record.owner == request.owner);
                Ok(match outcome {
                    ReserveOutcome::Reserved { attempt, lease_left, .. } if !is_again => {
                        let fence =
                            FencingToken::next(before.map(|record| record.fence), Timestamp::from_micros(0));
                        let fence = fence.unwrap_or(FencingToken::MAX);
                        let write = write.map(|record| Record { fence, ..record });
                        (ReserveOutcome::Reserved { attempt, fence, lease_left }, write)
                    }
                    outcome => (outcome, write),
                })
            },
            ..Rules::CORRECT
        },
        &["fencing::n51_fences_increase_across_lives", "fencing::n51_fences_increase_across_swept_lives"],
    ),
    Broken::rules(
        "counts fences from the last record, without the clock",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                let is_again = found.is_some_and(|record| in_flight(record) && record.owner == request.owner);
                Ok(match outcome {
                    ReserveOutcome::Reserved { attempt, lease_left, .. } if !is_again => {
                        let fence =
                            FencingToken::next(found.map(|record| record.fence), Timestamp::from_micros(0));
                        let fence = fence.unwrap_or(FencingToken::MAX);
                        let write = write.map(|record| Record { fence, ..record });
                        (ReserveOutcome::Reserved { attempt, fence, lease_left }, write)
                    }
                    outcome => (outcome, write),
                })
            },
            ..Rules::CORRECT
        },
        &["fencing::n51_fences_increase_across_swept_lives"],
    ),
    Broken::rules(
        "repeats the last fence",
        Rules {
            reserve: |found, request, now| match transition::reserve(found, request, now) {
                Err(_) => {
                    let earlier = found.cloned().map(|record| Record { fence: FencingToken::MIN, ..record });
                    let (outcome, write) = transition::reserve(earlier.as_ref(), request, now)?;
                    Ok((outcome, write.map(|record| Record { fence: FencingToken::MAX, ..record })))
                }
                granted => granted,
            },
            ..Rules::CORRECT
        },
        &["fencing::n53_beyond_the_last_fence_is_an_error_and_never_a_lower_fence"],
    ),
    Broken::rules(
        "rounds fences to what its script prints",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                Ok(match outcome {
                    ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                        (ReserveOutcome::Reserved { attempt, fence: rounded(fence), lease_left }, write)
                    }
                    outcome => (outcome, write),
                })
            },
            ..Rules::CORRECT
        },
        &[
            "fencing::n53_a_fence_near_2_to_the_53_is_shown_exactly",
            "fencing::n53_the_owner_after_it_has_exactly_the_next",
        ],
    ),
];

fn in_flight(record: &Record) -> bool {
    matches!(record.state, State::InFlight { .. })
}

fn rounded(fence: FencingToken) -> FencingToken {
    let prints_exactly = fence.get() < 1 << 52;
    if prints_exactly { fence } else { FencingToken::new(fence.get() / 100 * 100).unwrap_or(fence) }
}
