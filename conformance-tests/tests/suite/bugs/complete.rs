//! Stores that accept the wrong answer, lose the right one, or change it.

use idem_conformance::Rules;
use idem_core::store::{Completion, OwnerToken, Record, State, Timestamp, transition};
use idem_core::{Answer, CompleteOutcome, FencingToken, Fingerprint, Format};

use crate::broken::{Broken, altered};

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "ignores the token on complete",
        Rules {
            complete: |found, owner, completion, now| {
                transition::complete(found, found.map_or(owner, |record| record.owner), completion, now)
            },
            ..Rules::CORRECT
        },
        &[
            "complete::n16_a_wrong_token_is_lost_and_the_owner_goes_on",
            "complete::n16_a_wrong_token_on_a_completed_record_is_lost",
            "complete::n19_an_owner_whose_lease_was_taken_is_lost",
            "complete::n19_the_zombies_completion_leaves_the_new_owner_intact",
            "abandon::n33_its_complete_is_lost_if_the_key_was_taken",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "accepts the completion of an expired lease after the takeover",
        Rules {
            complete: |found, owner, completion, now| match found {
                Some(record) if record.attempt > 1 => {
                    transition::complete(found, record.owner, completion, now)
                }
                _ => transition::complete(found, owner, completion, now),
            },
            ..Rules::CORRECT
        },
        &[
            "complete::n19_an_owner_whose_lease_was_taken_is_lost",
            "complete::n19_the_zombies_completion_leaves_the_new_owner_intact",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "overwrites an answer with the owner's next one",
        Rules {
            complete: |found, owner, completion, now| match found {
                Some(record) if is_completed(record) && record.owner == owner && !record.is_expired(now) => {
                    let is_same = matches!(&record.state, State::Completed { answer, .. } if *answer == completion.answer);
                    let outcome = if is_same {
                        CompleteOutcome::AlreadyCompleted
                    } else {
                        CompleteOutcome::AnswerConflict
                    };
                    (outcome, Some(completed(record, completion, now)))
                }
                _ => transition::complete(found, owner, completion, now),
            },
            ..Rules::CORRECT
        },
        &[
            "complete::n14_after_a_conflict_the_first_answer_is_kept",
            "complete::n13_completing_again_does_not_move_the_end_of_the_retention",
        ],
    ),
    Broken::rules(
        "calls another answer already completed",
        Rules {
            complete: |found, owner, completion, now| {
                let (outcome, write) = transition::complete(found, owner, completion, now);
                match outcome {
                    CompleteOutcome::AnswerConflict => (CompleteOutcome::AlreadyCompleted, write),
                    other => (other, write),
                }
            },
            ..Rules::CORRECT
        },
        &["complete::n14_another_answer_is_a_conflict"],
    ),
    Broken::rules(
        "returns completed each time",
        Rules {
            complete: |found, owner, completion, now| {
                let (outcome, write) = transition::complete(found, owner, completion, now);
                match outcome {
                    CompleteOutcome::AlreadyCompleted => (CompleteOutcome::Completed, write),
                    other => (other, write),
                }
            },
            ..Rules::CORRECT
        },
        &[
            "complete::n13_the_same_answer_twice_is_already_completed",
            "unknown::n77_a_complete_whose_reply_was_lost_is_already_completed_when_resent",
        ],
    ),
    Broken::rules(
        "acknowledges a completion and stores nothing",
        Rules {
            complete: |found, owner, completion, now| {
                (transition::complete(found, owner, completion, now).0, None)
            },
            ..Rules::CORRECT
        },
        &[
            "complete::n12_a_completion_is_visible_at_once_to_get",
            "complete::n12_a_completion_is_visible_at_once_to_reserve_through_another_handle",
            "unknown::n81_a_handle_of_its_own_for_every_call_gives_the_same_answers",
        ],
    ),
    Broken::rules(
        "gives a completed second attempt the number 1",
        Rules {
            complete: |found, owner, completion, now| {
                altered(transition::complete(found, owner, completion, now), |record| record.attempt = 1)
            },
            ..Rules::CORRECT
        },
        &["complete::n12_a_second_attempt_completes_as_itself"],
    ),
    Broken::rules(
        "stores the bytes and not their format",
        Rules {
            complete: |found, owner, mut completion, now| {
                if let Answer::Value(response) = &mut completion.answer {
                    response.format = Format::BYTES;
                }
                transition::complete(found, owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &[
            "complete::n14_the_same_bytes_in_another_format_are_a_conflict",
            "get::n38_a_completed_record_shows_exactly_its_bytes_and_format",
        ],
    ),
    Broken::rules(
        "creates a record when an absent key is completed",
        Rules {
            complete: |found, owner, completion, now| match found {
                None => (CompleteOutcome::Lost, Some(completed(&new_record(owner, now), completion, now))),
                found => transition::complete(found, owner, completion, now),
            },
            ..Rules::CORRECT
        },
        &["complete::n15_completing_an_absent_key_is_lost_and_creates_nothing"],
    ),
    Broken::rules(
        "completes a record that has expired",
        Rules {
            complete: |found, owner, completion, now| {
                let revived = found
                    .map(|record| Record { expires_at: Timestamp::from_micros(u64::MAX), ..record.clone() });
                transition::complete(revived.as_ref(), owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &["complete::n15_completing_an_expired_record_is_lost"],
    ),
    Broken::rules(
        "completes a run that was released",
        Rules {
            complete: |found, owner, completion, now| match found {
                Some(record) if record.state == State::Released && record.owner == owner => {
                    (CompleteOutcome::Completed, Some(completed(record, completion, now)))
                }
                _ => transition::complete(found, owner, completion, now),
            },
            ..Rules::CORRECT
        },
        &["complete::n17_after_its_own_release_it_is_lost"],
    ),
    Broken::rules(
        "refuses the completion of an owner whose lease is over and was not taken",
        Rules {
            complete: |found, owner, completion, now| match found.map(|record| &record.state) {
                Some(State::InFlight { lease_until, .. }) if now >= *lease_until => {
                    (CompleteOutcome::Lost, None)
                }
                _ => transition::complete(found, owner, completion, now),
            },
            ..Rules::CORRECT
        },
        &["complete::n18_an_owner_whose_lease_is_over_but_not_taken_completes"],
    ),
    Broken::rules(
        "refuses the completion of an owner that abandoned, although the key was not taken",
        Rules {
            complete: |found, owner, completion, now| match found.map(|record| &record.state) {
                Some(State::InFlight { abandoned: true, .. }) => (CompleteOutcome::Lost, None),
                _ => transition::complete(found, owner, completion, now),
            },
            ..Rules::CORRECT
        },
        &["abandon::n33_its_complete_is_accepted_if_the_key_was_not_taken"],
    ),
    Broken::rules(
        "changes the fence when it completes or renews",
        Rules {
            complete: |found, owner, completion, now| {
                altered(transition::complete(found, owner, completion, now), |record| {
                    record.fence = next(record.fence);
                })
            },
            renew: |found, owner, lease, now| {
                altered(transition::renew(found, owner, lease, now), |record| {
                    record.fence = next(record.fence);
                })
            },
            ..Rules::CORRECT
        },
        &["fencing::n51_a_renewal_and_a_completion_keep_the_fence"],
    ),
];

fn is_completed(record: &Record) -> bool {
    matches!(record.state, State::Completed { .. })
}

fn completed(record: &Record, completion: Completion, now: Timestamp) -> Record {
    Record {
        state: State::Completed { answer: completion.answer, completed_at: now },
        expires_at: now.saturating_add(completion.retention),
        ..*record
    }
}

fn new_record(owner: OwnerToken, now: Timestamp) -> Record {
    Record {
        owner,
        fence: FencingToken::MIN,
        attempt: 1,
        fingerprint: Fingerprint::from_parts(["payload"]),
        state: State::Released,
        expires_at: now,
    }
}

fn next(fence: FencingToken) -> FencingToken {
    FencingToken::new(fence.get() + 1).unwrap_or(fence)
}
