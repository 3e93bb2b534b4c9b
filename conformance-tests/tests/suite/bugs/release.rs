//! Stores that free a key for the wrong caller, or revive a released run.

use idem_conformance::span;
use std::time::Duration;

use idem_conformance::{Rules, TryStep};
use idem_core::ReleaseOutcome;
use idem_core::store::{OwnerToken, Record, Span, State, Timestamp, transition};

use crate::broken::{Broken, altered};

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "releases without a token",
        Rules {
            release: |found, owner, now| {
                transition::release(found, found.map_or(owner, |record| record.owner), now)
            },
            ..Rules::CORRECT
        },
        &[
            "release::n24_a_wrong_token_is_lost_and_the_owner_is_intact",
            "release::n24_a_wrong_token_on_a_tombstone_is_lost",
            "release::n24_a_wrong_token_on_a_completed_record_is_lost",
            "release::n26_a_zombie_cannot_release_the_new_owners_key",
            "release::n28_a_refused_duplicate_cannot_release_the_owners_record",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "acknowledges a release and keeps the record",
        Rules {
            release: |found, owner, now| Ok((transition::release(found, owner, now)?.0, None)),
            ..Rules::CORRECT
        },
        &[
            "release::n22_after_a_release_by_the_owner_get_sees_nothing",
            "release::n23_releasing_twice_is_already_released",
            "release::n28_after_a_release_the_token_owns_nothing",
            "reserve::n06_after_a_release_the_next_owner_is_attempt_1_with_a_greater_fence",
            "unknown::n78_a_release_whose_reply_was_lost_is_already_released_when_resent",
            "unknown::n79_a_dropped_release_leaves_a_defined_answer",
            "abandon::n33_its_release_frees_the_key_if_it_was_not_taken",
        ],
    ),
    Broken::rules(
        "forgets the tombstone",
        Rules { release: |found, owner, now| short_tombstone(found, owner, now, None), ..Rules::CORRECT },
        &[
            "reserve::n07_an_owner_is_stale_after_its_own_release",
            "release::n27_after_that_the_tokens_late_reserve_is_stale",
            "release::n28_a_tombstone_outlives_five_minutes",
            "unknown::n80_a_reserve_that_arrives_after_its_owner_released_is_stale",
            "unknown::n80_a_reserve_that_arrives_after_its_owner_released_blocks_no_caller",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "keeps a tombstone for a minute",
        Rules {
            release: |found, owner, now| {
                short_tombstone(found, owner, now, Some(span(Duration::from_secs(60))))
            },
            ..Rules::CORRECT
        },
        &[
            "release::n28_a_tombstone_outlives_five_minutes",
            "release::n28_a_tombstone_outlives_the_released_lease",
        ],
    ),
    Broken::rules(
        "keeps a tombstone for five minutes, however long the lease was",
        Rules {
            release: |found, owner, now| short_tombstone(found, owner, now, Some(transition::MIN_TOMBSTONE)),
            ..Rules::CORRECT
        },
        &["release::n28_a_tombstone_outlives_the_released_lease"],
    ),
    Broken::rules(
        "forgets the attempt of a released takeover with its tombstone",
        Rules {
            release: |found, owner, now| {
                let is_takeover = found.is_some_and(|record| record.attempt > 1);
                let stays = if is_takeover {
                    transition::MIN_TOMBSTONE
                } else {
                    span(Duration::from_secs(24 * 3600))
                };
                short_tombstone(found, owner, now, Some(stays))
            },
            ..Rules::CORRECT
        },
        &["reserve::n11_the_attempt_of_a_released_takeover_is_remembered_for_the_record_ttl"],
    ),
    Broken::rules(
        "resets the attempt at a release",
        Rules {
            release: |found, owner, now| {
                Ok(altered(transition::release(found, owner, now)?, |record| record.attempt = 1))
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n11_a_released_second_attempt_is_followed_by_attempt_2_and_not_1",
            "reserve::n11_the_attempt_of_a_released_takeover_is_remembered_for_the_record_ttl",
        ],
    ),
    Broken::rules(
        "counts a released attempt",
        Rules {
            release: |found, owner, now| {
                Ok(altered(transition::release(found, owner, now)?, |record| record.attempt += 1))
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n06_after_a_release_the_next_owner_is_attempt_1_with_a_greater_fence",
            "release::n27_after_that_another_owner_is_attempt_1",
            "unknown::n79_a_dropped_release_leaves_a_defined_answer",
        ],
    ),
    Broken::rules(
        "refuses the release of an owner whose lease is over and was not taken",
        Rules {
            release: |found, owner, now| match found.map(|record| &record.state) {
                Some(State::InFlight { lease_until, .. }) if now >= *lease_until => {
                    Ok((ReleaseOutcome::Lost, None))
                }
                _ => transition::release(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &["release::n22_an_owner_whose_lease_is_over_but_not_taken_releases"],
    ),
    Broken::rules(
        "refuses the release of an owner that abandoned",
        Rules {
            release: |found, owner, now| match found.map(|record| &record.state) {
                Some(State::InFlight { abandoned: true, .. }) => Ok((ReleaseOutcome::Lost, None)),
                _ => transition::release(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &["abandon::n33_its_release_frees_the_key_if_it_was_not_taken"],
    ),
    Broken::rules(
        "calls the second release lost",
        Rules {
            release: |found, owner, now| match found.map(|record| &record.state) {
                Some(State::Released) => Ok((ReleaseOutcome::Lost, None)),
                _ => transition::release(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &[
            "release::n23_releasing_twice_is_already_released",
            "unknown::n78_a_release_whose_reply_was_lost_is_already_released_when_resent",
        ],
    ),
    Broken::rules(
        "releases what is completed",
        Rules {
            release: |found, owner, now| match found {
                Some(record) if record.owner == owner && !record.is_expired(now) => {
                    Ok((ReleaseOutcome::Released, Some(Record { state: State::Released, ..*record })))
                }
                _ => transition::release(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &["release::n25_after_its_own_complete_the_answer_is_kept"],
    ),
    Broken::rules(
        "calls the release of an absent key lost",
        Rules {
            release: |found, owner, now| match found {
                None => Ok((ReleaseOutcome::Lost, None)),
                found => transition::release(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &[
            "release::n27_releasing_an_absent_key_is_already_released",
            "release::n27_after_that_the_tokens_late_reserve_is_stale",
        ],
    ),
    Broken::rules(
        "leaves no tombstone on an absent key",
        Rules {
            release: |found, owner, now| match found {
                None => Ok((ReleaseOutcome::AlreadyReleased, None)),
                found => transition::release(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &[
            "release::n27_after_that_the_tokens_late_reserve_is_stale",
            "unknown::n80_a_reserve_that_arrives_after_its_owner_released_is_stale",
            "unknown::n80_a_reserve_that_arrives_after_its_owner_released_blocks_no_caller",
        ],
    ),
    Broken::rules(
        "returns already completed to an owner whose answer has expired",
        Rules {
            release: |found, owner, now| {
                let revived = found
                    .map(|record| Record { expires_at: Timestamp::from_micros(u64::MAX), ..record.clone() });
                transition::release(revived.as_ref(), owner, now)
            },
            ..Rules::CORRECT
        },
        &["release::n27_after_its_retention_a_late_release_is_already_released"],
    ),
];

/// A release whose tombstone stays for `stays` and no longer.
fn short_tombstone(
    found: Option<&Record>,
    owner: OwnerToken,
    now: Timestamp,
    stays: Option<Span>,
) -> TryStep<ReleaseOutcome> {
    let released = transition::release(found, owner, now)?;
    Ok(altered(released, |record| record.expires_at = stays.map_or(now, |stays| now.saturating_add(stays))))
}
