//! Stores that end a lease too early or too late, or for the wrong reason.

use idem_conformance::span;
use std::time::Duration;

use idem_conformance::Rules;
use idem_core::RenewOutcome;
use idem_core::store::{Record, ReserveOutcome, Span, State, Timestamp, transition};

use crate::broken::{Broken, altered};

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "renews without a token",
        Rules {
            renew: |found, owner, lease, now| {
                transition::renew(found, found.map_or(owner, |record| record.owner), lease, now)
            },
            ..Rules::CORRECT
        },
        &[
            "lease::n44_renewing_a_lease_that_was_taken_is_lost",
            "lease::n44_the_zombies_renewal_does_not_keep_the_new_owner_alive",
            "lease::n44_renewing_with_a_wrong_token_is_lost",
            "lease::n45_renewing_another_owners_answer_is_lost",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "returns lost to a zombie's renewal and extends the new owner's lease",
        Rules {
            renew: |found, owner, lease, now| match found {
                Some(record) if record.owner != owner => {
                    (RenewOutcome::Lost, transition::renew(found, record.owner, lease, now).1)
                }
                _ => transition::renew(found, owner, lease, now),
            },
            ..Rules::CORRECT
        },
        &["lease::n44_the_zombies_renewal_does_not_keep_the_new_owner_alive"],
    ),
    Broken::rules(
        "acknowledges a renewal and extends nothing",
        Rules {
            renew: |found, owner, lease, now| (transition::renew(found, owner, lease, now).0, None),
            ..Rules::CORRECT
        },
        &[
            "lease::n41_renew_extends_the_lease",
            "lease::n43_renewing_a_lease_that_is_over_but_not_taken_renews_it",
            "lease::n46_a_heartbeat_over_five_leases_keeps_the_key",
        ],
    ),
    Broken::rules(
        "returns no time left for a renewed lease",
        Rules {
            renew: |found, owner, lease, now| {
                let (outcome, write) = transition::renew(found, owner, lease, now);
                match outcome {
                    RenewOutcome::Renewed { .. } => {
                        (RenewOutcome::Renewed { lease_left: Duration::ZERO }, write)
                    }
                    other => (other, write),
                }
            },
            ..Rules::CORRECT
        },
        &["lease::n41_renew_returns_how_long_the_lease_runs"],
    ),
    Broken::rules(
        "shortens a lease when it is renewed",
        Rules {
            renew: |found, owner, lease, now| {
                let ended = found.map(|record| {
                    let mut record = record.clone();
                    if let State::InFlight { lease_until, .. } = &mut record.state {
                        *lease_until = now;
                    }
                    record
                });
                transition::renew(ended.as_ref(), owner, lease, now)
            },
            ..Rules::CORRECT
        },
        &["lease::n42_renew_never_shortens_the_lease"],
    ),
    Broken::rules(
        "refuses to renew a lease that is over and was not taken",
        Rules {
            renew: |found, owner, lease, now| match found.map(|record| &record.state) {
                Some(State::InFlight { lease_until, .. }) if now >= *lease_until => {
                    (RenewOutcome::Lost, None)
                }
                _ => transition::renew(found, owner, lease, now),
            },
            ..Rules::CORRECT
        },
        &["lease::n43_renewing_a_lease_that_is_over_but_not_taken_renews_it"],
    ),
    Broken::rules(
        "renews at most once",
        Rules {
            renew: |found, owner, lease, now| match found.map(|record| &record.state) {
                Some(State::InFlight { lease: last, .. }) if last.as_micros() == lease.as_micros() + 1 => {
                    (RenewOutcome::Lost, None)
                }
                _ => {
                    let (outcome, write) = transition::renew(found, owner, lease, now);
                    altered((outcome, write), |record| {
                        if let State::InFlight { lease: last, .. } = &mut record.state {
                            *last = span(lease.as_duration() + Duration::from_micros(1));
                        }
                    })
                }
            },
            ..Rules::CORRECT
        },
        &["unknown::n78_a_renewal_whose_reply_was_lost_is_renewed_when_resent"],
    ),
    Broken::rules(
        "creates a record when an absent key is renewed",
        Rules {
            renew: |found, owner, lease, now| match found {
                None => {
                    let request = idem_core::store::ReserveRequest::new(
                        owner,
                        idem_core::Fingerprint::from_parts(["payload"]),
                        lease,
                    );
                    let granted = transition::reserve(None, &request, now);
                    (RenewOutcome::Lost, granted.ok().and_then(|(_, write)| write))
                }
                found => transition::renew(found, owner, lease, now),
            },
            ..Rules::CORRECT
        },
        &["lease::n44_renewing_an_absent_key_is_lost_and_creates_nothing"],
    ),
    Broken::rules(
        "calls the renewal of a completed run lost",
        Rules {
            renew: |found, owner, lease, now| match transition::renew(found, owner, lease, now) {
                (RenewOutcome::AlreadyCompleted, write) => (RenewOutcome::Lost, write),
                other => other,
            },
            ..Rules::CORRECT
        },
        &["lease::n45_renewing_after_its_own_complete_is_already_completed"],
    ),
    Broken::rules(
        "returns already completed to every renewal",
        Rules {
            renew: |found, owner, lease, now| match found.map(|record| &record.state) {
                Some(State::Completed { .. }) => (RenewOutcome::AlreadyCompleted, None),
                _ => transition::renew(found, owner, lease, now),
            },
            ..Rules::CORRECT
        },
        &["lease::n45_renewing_another_owners_answer_is_lost"],
    ),
    Broken::rules(
        "extends the lease and not the record",
        Rules {
            renew: |found, owner, lease, now| {
                let until = found.map_or(now, |record| record.expires_at);
                altered(transition::renew(found, owner, lease, now), |record| record.expires_at = until)
            },
            ..Rules::CORRECT
        },
        &["lease::n46_a_heartbeat_keeps_the_record_beyond_its_record_ttl"],
    ),
    Broken::rules(
        "calls every renewal lost",
        Rules { renew: |_, _, _, _| (RenewOutcome::Lost, None), ..Rules::CORRECT },
        &["lease::n41_renew_extends_the_lease", "engine::guard::n112_a_guard_renews"],
    ),
    Broken::rules(
        "takes a lease over that still runs",
        Rules {
            reserve: |found, request, now| match found {
                Some(record) if record.owner != request.owner => {
                    transition::reserve(Some(&lease_until(record, |_, _| now)), request, now)
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n03_another_owner_during_the_lease_is_in_flight",
            "engine::guard::n112_while_a_guard_is_held_others_are_in_flight",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "never ends a lease",
        Rules {
            reserve: |found, request, now| {
                let endless = found.map(|record| lease_until(record, |_, _| Timestamp::from_micros(1 << 60)));
                transition::reserve(endless.as_ref(), request, now)
            },
            ..Rules::CORRECT
        },
        &[
            "reserve::n08_after_the_lease_the_next_owner_is_attempt_2_with_a_greater_fence",
            "lease::n47_after_a_stopped_heartbeat_the_key_is_taken_over_within_one_lease",
            "lease::n49_a_record_ttl_far_longer_than_the_lease_does_not_block_the_key",
            "retention::n65_a_crashed_owner_blocks_for_its_lease_and_not_for_the_retention",
        ],
    ),
    Broken::rules(
        "lets an owner go only a lease after its lease",
        Rules {
            reserve: |found, request, now| {
                let doubled = found.map(|record| lease_until(record, Timestamp::saturating_add));
                transition::reserve(doubled.as_ref(), request, now)
            },
            ..Rules::CORRECT
        },
        &["lease::n47_after_a_stopped_heartbeat_the_key_is_taken_over_within_one_lease"],
    ),
    Broken::rules(
        "ends the holder's lease by the challenger's",
        Rules {
            reserve: |found, request, now| match found {
                Some(record) if record.owner != request.owner => {
                    let mine = lease_until(record, |until, lease| {
                        let began = Timestamp::from_micros(until.as_micros() - lease.as_micros());
                        began.saturating_add(request.lease)
                    });
                    transition::reserve(Some(&mine), request, now)
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &[
            "lease::n48_a_challenger_with_a_short_lease_does_not_end_the_holders",
            "lease::n48_a_challenger_with_a_long_lease_does_not_prolong_the_holders",
        ],
    ),
    Broken::rules(
        "gives the last instant of a lease to the holder",
        Rules {
            reserve: |found, request, now| {
                let longer =
                    found.map(|record| lease_until(record, |until, _| until.saturating_add(Span::MIN)));
                transition::reserve(longer.as_ref(), request, now)
            },
            ..Rules::CORRECT
        },
        &["lease::n48_the_instant_at_which_a_lease_ends_belongs_to_the_challenger"],
    ),
    Broken::rules(
        "counts the record_ttl from the reservation",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                let is_granted = matches!(outcome, ReserveOutcome::Reserved { .. });
                Ok(altered((outcome, write), |record| {
                    if is_granted {
                        record.expires_at = now.saturating_add(request.record_ttl);
                    }
                }))
            },
            ..Rules::CORRECT
        },
        &["lease::n49_a_record_ttl_far_shorter_than_the_lease_does_not_end_the_lease"],
    ),
    Broken::rules(
        "keeps an answer for no less than the lease",
        Rules {
            complete: |found, owner, completion, now| {
                let until = found.and_then(|record| match record.state {
                    State::InFlight { lease_until, .. } => Some(lease_until),
                    _ => None,
                });
                altered(transition::complete(found, owner, completion, now), |record| {
                    record.expires_at = record.expires_at.max(until.unwrap_or(record.expires_at));
                })
            },
            ..Rules::CORRECT
        },
        &["lease::n49_a_retention_far_shorter_than_the_lease_is_kept_to"],
    ),
];

fn lease_until(record: &Record, moved: impl FnOnce(Timestamp, Span) -> Timestamp) -> Record {
    let mut record = record.clone();
    if let State::InFlight { lease_until, lease, .. } = &mut record.state {
        *lease_until = moved(*lease_until, *lease);
    }
    record
}
