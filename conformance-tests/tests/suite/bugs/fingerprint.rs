//! Stores that take another payload for the same request.

use idem_conformance::{Rules, TryStep};
use idem_core::store::{Record, ReserveOutcome, ReserveRequest, State, Timestamp, transition};

use crate::broken::{Broken, altered};

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "returns in flight to a mismatched caller",
        Rules {
            reserve: |found, request, now| match found {
                Some(record)
                    if in_flight(record) && !record.is_expired(now) && record.owner != request.owner =>
                {
                    let same = Record { fingerprint: request.fingerprint, ..record.clone() };
                    let (outcome, write) = transition::reserve(Some(&same), request, now)?;
                    match outcome {
                        ReserveOutcome::InFlight { .. } => Ok((outcome, write)),
                        _ => transition::reserve(found, request, now),
                    }
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &["fingerprint::n54_another_payload_in_flight_is_a_mismatch_and_not_in_flight"],
    ),
    Broken::rules(
        "hands the record to the mismatched caller",
        Rules {
            reserve: |found, request, now| {
                let (outcome, write) = transition::reserve(found, request, now)?;
                let taken = found.cloned().map(|record| Record { owner: request.owner, ..record });
                Ok(if outcome == ReserveOutcome::FingerprintMismatch {
                    (outcome, taken)
                } else {
                    (outcome, write)
                })
            },
            ..Rules::CORRECT
        },
        &["fingerprint::n54_a_mismatch_changes_nothing"],
    ),
    Broken::rules(
        "shows a mismatched caller the answer",
        Rules {
            reserve: |found, request, now| match found.map(|record| &record.state) {
                Some(State::Completed { .. }) => blind_to_payloads(found, request, now),
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &["fingerprint::n55_another_payload_after_complete_is_a_mismatch_and_shows_no_bytes"],
    ),
    Broken::rules(
        "does not compare payloads once the lease is over",
        Rules {
            reserve: |found, request, now| match found.map(|record| &record.state) {
                Some(State::InFlight { lease_until, .. }) if now >= *lease_until => {
                    blind_to_payloads(found, request, now)
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &[
            "fingerprint::n56_another_payload_after_the_lease_is_still_a_mismatch",
            "fingerprint::n56_a_refusing_caller_with_another_payload_is_a_mismatch",
        ],
    ),
    Broken::rules(
        "does not compare payloads after an abandon",
        Rules {
            reserve: |found, request, now| match found.map(|record| &record.state) {
                Some(State::InFlight { abandoned: true, .. }) => blind_to_payloads(found, request, now),
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &["fingerprint::n56_another_payload_after_an_abandon_is_still_a_mismatch"],
    ),
    Broken::rules(
        "remembers the payload beyond the retention",
        Rules {
            reserve: |found, request, now| match found {
                Some(record)
                    if record.fingerprint != request.fingerprint && record.state != State::Released =>
                {
                    Ok((ReserveOutcome::FingerprintMismatch, None))
                }
                _ => transition::reserve(found, request, now),
            },
            ..Rules::CORRECT
        },
        &["fingerprint::n57_another_payload_after_the_retention_is_reserved"],
    ),
    Broken::rules(
        "keeps the first payload when a released key is reserved",
        Rules {
            reserve: |found, request, now| {
                let granted = transition::reserve(found, request, now)?;
                let released = found.filter(|record| record.state == State::Released);
                Ok(altered(granted, |record| {
                    if let Some(released) = released {
                        record.fingerprint = released.fingerprint;
                    }
                }))
            },
            release: |found, owner, now| {
                let released = transition::release(found, owner, now)?;
                Ok(altered(released, |record| {
                    if let Some(found) = found {
                        record.fingerprint = found.fingerprint;
                    }
                }))
            },
            ..Rules::CORRECT
        },
        &["fingerprint::n58_after_a_release_the_new_payload_counts"],
    ),
    Broken::rules(
        "compares payloads with those of a released run",
        Rules {
            reserve: |found, request, now| match found {
                Some(record)
                    if record.state == State::Released && record.fingerprint != request.fingerprint =>
                {
                    Ok((ReserveOutcome::FingerprintMismatch, None))
                }
                _ => transition::reserve(found, request, now),
            },
            release: |found, owner, now| {
                let released = transition::release(found, owner, now)?;
                Ok(altered(released, |record| {
                    if let Some(found) = found {
                        record.fingerprint = found.fingerprint;
                    }
                }))
            },
            ..Rules::CORRECT
        },
        &["fingerprint::n58_another_payload_after_a_release_is_reserved"],
    ),
];

fn in_flight(record: &Record) -> bool {
    matches!(record.state, State::InFlight { .. })
}

fn blind_to_payloads(
    found: Option<&Record>,
    request: &ReserveRequest,
    now: Timestamp,
) -> TryStep<ReserveOutcome> {
    let same = found.cloned().map(|record| Record { fingerprint: request.fingerprint, ..record });
    transition::reserve(same.as_ref(), request, now)
}
