//! Stores that keep an abandoned key closed, open it for the wrong caller, or forget it.

use idem_conformance::Rules;
use idem_conformance::span;
use idem_core::store::{Record, ReserveOutcome, State, Timestamp, transition};
use idem_core::{AbandonOutcome, FencingToken, Fingerprint, RenewOutcome};

use crate::broken::{Broken, altered};

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "abandons without a token",
        Rules {
            abandon: |found, owner, now| {
                transition::abandon(found, found.map_or(owner, |record| record.owner), now)
            },
            ..Rules::CORRECT
        },
        &[
            "abandon::n35_a_wrong_token_is_lost_and_the_owner_is_still_alone",
            "abandon::n35_a_wrong_token_on_a_completed_record_is_lost",
            "abandon::n35_a_zombie_cannot_abandon_the_new_owners_key",
        ],
    ),
    Broken::rules(
        "acknowledges an abandon and lets the lease run on",
        Rules {
            abandon: |found, owner, now| (transition::abandon(found, owner, now).0, None),
            ..Rules::CORRECT
        },
        &[
            "abandon::n29_the_next_reserve_takes_over_at_once_as_attempt_2",
            "abandon::n30_a_refusing_caller_gets_lease_expired_at_once",
            "abandon::n34_abandoning_twice_is_abandoned",
            "get::n37_an_abandoned_record_shows_that",
            "unknown::n79_a_dropped_abandon_leaves_a_defined_answer",
        ],
    ),
    Broken::rules(
        "lets a late renewal revive an abandoned run",
        Rules {
            renew: |found, owner, lease, now| match found {
                Some(record) if is_abandoned(record) => {
                    let revived = with_abandoned(record, false);
                    transition::renew(Some(&revived), owner, lease, now)
                }
                _ => transition::renew(found, owner, lease, now),
            },
            ..Rules::CORRECT
        },
        &[
            "abandon::n31_a_late_renew_of_the_abandoning_owner_is_lost",
            "abandon::n31_a_late_renew_does_not_close_the_key_again",
            "abandon::n35_an_owner_whose_lease_is_over_but_not_taken_abandons",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::rules(
        "lets a late reserve revive an abandoned run",
        Rules {
            reserve: |found, request, now| match found {
                Some(record) if is_abandoned(record) && record.owner == request.owner => {
                    transition::reserve(Some(&with_abandoned(record, false)), request, now)
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &["abandon::n32_a_late_reserve_of_the_abandoning_owner_is_stale"],
    ),
    Broken::rules(
        "returns lost to a late renewal and closes the key anyway",
        Rules {
            renew: |found, owner, lease, now| match found {
                Some(record) if is_abandoned(record) && record.owner == owner => {
                    (RenewOutcome::Lost, Some(with_abandoned(record, false)))
                }
                _ => transition::renew(found, owner, lease, now),
            },
            ..Rules::CORRECT
        },
        &["abandon::n31_a_late_renew_does_not_close_the_key_again"],
    ),
    Broken::rules(
        "calls the second abandon lost",
        Rules {
            abandon: |found, owner, now| match found {
                Some(record) if is_abandoned(record) => (AbandonOutcome::Lost, None),
                _ => transition::abandon(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &[
            "abandon::n34_abandoning_twice_is_abandoned",
            "unknown::n78_an_abandon_whose_reply_was_lost_is_abandoned_when_resent",
            "unknown::n79_a_dropped_abandon_leaves_a_defined_answer",
        ],
    ),
    Broken::rules(
        "abandons what is completed",
        Rules {
            abandon: |found, owner, now| match found.map(|record| &record.state) {
                Some(State::Completed { .. }) => (AbandonOutcome::Abandoned, None),
                _ => transition::abandon(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &[
            "abandon::n35_after_its_own_complete_it_is_already_completed",
            "abandon::n35_a_wrong_token_on_a_completed_record_is_lost",
        ],
    ),
    Broken::rules(
        "creates a record when an absent key is abandoned",
        Rules {
            abandon: |found, owner, now| match found {
                None => {
                    let lease_until = now.saturating_add(span(std::time::Duration::from_secs(3600)));
                    let record = Record {
                        owner,
                        fence: FencingToken::MIN,
                        attempt: 1,
                        fingerprint: Fingerprint::from_parts(["payload"]),
                        state: State::InFlight {
                            lease_until,
                            lease: span(std::time::Duration::from_secs(3600)),
                            record_ttl: span(std::time::Duration::from_secs(3600)),
                            abandoned: true,
                        },
                        expires_at: lease_until,
                    };
                    (AbandonOutcome::Lost, Some(record))
                }
                found => transition::abandon(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &["abandon::n35_an_absent_key_is_lost_and_nothing_is_created"],
    ),
    Broken::rules(
        "refuses the abandon of an owner whose lease is over and was not taken",
        Rules {
            abandon: |found, owner, now| match found.map(|record| &record.state) {
                Some(State::InFlight { lease_until, .. }) if now >= *lease_until => {
                    (AbandonOutcome::Lost, None)
                }
                _ => transition::abandon(found, owner, now),
            },
            ..Rules::CORRECT
        },
        &["abandon::n35_an_owner_whose_lease_is_over_but_not_taken_abandons"],
    ),
    Broken::rules(
        "forgets an abandoned record after an hour",
        Rules {
            abandon: |found, owner, now| {
                altered(transition::abandon(found, owner, now), |record| {
                    record.expires_at = now.saturating_add(span(std::time::Duration::from_secs(3600)));
                })
            },
            ..Rules::CORRECT
        },
        &["abandon::n35_an_abandoned_record_is_remembered_for_its_record_ttl"],
    ),
    Broken::rules(
        "counts the time of an abandoned record from the lease that was given up",
        Rules {
            abandon: |found, owner, now| {
                let until = found.map_or(now, |record| record.expires_at);
                altered(transition::abandon(found, owner, now), |record| record.expires_at = until)
            },
            ..Rules::CORRECT
        },
        &["abandon::n35_an_abandoned_record_is_forgotten_after_its_record_ttl"],
    ),
    Broken::rules(
        "takes an abandoned key for a free one",
        Rules {
            reserve: |found, request, now| match found {
                Some(record) if is_abandoned(record) && record.owner != request.owner => {
                    let expired = Record { expires_at: Timestamp::from_micros(0), ..record.clone() };
                    transition::reserve(Some(&expired), request, now)
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &[
            "abandon::n29_the_next_reserve_takes_over_at_once_as_attempt_2",
            "abandon::n30_a_refusing_caller_gets_lease_expired_at_once",
            "abandon::n32_a_late_reserve_of_the_abandoning_owner_is_stale",
        ],
    ),
    Broken::rules(
        "lets a refusing caller wait for the lease that was given up",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                match (outcome, found.map(|record| &record.state)) {
                    (ReserveOutcome::LeaseExpired { attempt }, Some(State::InFlight { lease_until, .. }))
                        if now < *lease_until =>
                    {
                        Ok((ReserveOutcome::InFlight { attempt, lease_left: lease_until.since(now) }, write))
                    }
                    (outcome, _) => Ok((outcome, write)),
                }
            },
            ..Rules::CORRECT
        },
        &["abandon::n30_a_refusing_caller_gets_lease_expired_at_once"],
    ),
];

fn is_abandoned(record: &Record) -> bool {
    matches!(record.state, State::InFlight { abandoned: true, .. })
}

fn with_abandoned(record: &Record, is: bool) -> Record {
    let mut record = record.clone();
    if let State::InFlight { abandoned, .. } = &mut record.state {
        *abandoned = is;
    }
    record
}
