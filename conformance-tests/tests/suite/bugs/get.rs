//! Stores that show a record that does not exist, hide one that does, or change one by reading it.

use idem_conformance::span;
use std::time::Duration;

use idem_conformance::Rules;
use idem_core::store::{OwnerToken, Record, State, StateView, Timestamp, transition};
use idem_core::{Answer, FencingToken, Fingerprint, StoredValue};

use crate::broken::Broken;

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "shows a record for an absent key",
        Rules {
            get: |found, now| {
                let invented = Record {
                    owner: OwnerToken::from_bytes([0; 16]),
                    fence: FencingToken::MIN,
                    attempt: 1,
                    fingerprint: Fingerprint::from_parts(["payload"]),
                    state: State::Completed { answer: Answer::NotKept, completed_at: now },
                    expires_at: now.saturating_add(span(Duration::from_secs(1))),
                };
                (found.unwrap_or(&invented).view(now), None)
            },
            ..Rules::CORRECT
        },
        &["get::n36_an_absent_key_is_none"],
    ),
    Broken::rules(
        "shows the first attempt for every attempt",
        Rules {
            get: |found, now| {
                let view = found.and_then(|record| record.view(now));
                (
                    view.map(|mut view| {
                        view.attempt = 1;
                        view
                    }),
                    None,
                )
            },
            ..Rules::CORRECT
        },
        &["get::n37_a_record_in_flight_shows_its_attempt_fence_and_fingerprint"],
    ),
    Broken::rules(
        "shows the whole lease as left",
        Rules {
            get: |found, now| {
                let mut view = found.and_then(|record| record.view(now));
                if let (Some(view), Some(State::InFlight { lease, .. })) =
                    (&mut view, found.map(|record| &record.state))
                    && let StateView::InFlight { lease_left, .. } = &mut view.state
                {
                    *lease_left = (*lease).into();
                }
                (view, None)
            },
            ..Rules::CORRECT
        },
        &[
            "get::n37_a_record_in_flight_shows_what_is_left_of_its_lease",
            "get::n37_a_lease_that_is_over_has_nothing_left",
        ],
    ),
    Broken::rules(
        "does not show that a record is abandoned",
        Rules {
            get: |found, now| {
                let mut view = found.and_then(|record| record.view(now));
                if let Some(StateView::InFlight { abandoned, .. }) = view.as_mut().map(|view| &mut view.state)
                {
                    *abandoned = false;
                }
                (view, None)
            },
            ..Rules::CORRECT
        },
        &["get::n37_an_abandoned_record_shows_that"],
    ),
    Broken::rules(
        "shows another time of expiry",
        Rules {
            get: |found, now| {
                let view = found.and_then(|record| record.view(now));
                (
                    view.map(|mut view| {
                        view.expires_in *= 2;
                        view
                    }),
                    None,
                )
            },
            ..Rules::CORRECT
        },
        &["get::n37_it_shows_how_long_a_record_is_remembered"],
    ),
    Broken::rules(
        "shows another format",
        Rules {
            get: |found, now| {
                let mut view = found.and_then(|record| record.view(now));
                if let Some(StateView::Completed { answer: Answer::Value(response), .. }) =
                    view.as_mut().map(|view| &mut view.state)
                {
                    *response = StoredValue::bytes(response.body.clone());
                }
                (view, None)
            },
            ..Rules::CORRECT
        },
        &["get::n38_a_completed_record_shows_exactly_its_bytes_and_format"],
    ),
    Broken::rules(
        "shows every answer as new",
        Rules {
            get: |found, now| {
                let mut view = found.and_then(|record| record.view(now));
                if let Some(StateView::Completed { age, .. }) = view.as_mut().map(|view| &mut view.state) {
                    *age = Duration::ZERO;
                }
                (view, None)
            },
            ..Rules::CORRECT
        },
        &["get::n38_a_completed_record_shows_its_age"],
    ),
    Broken::rules(
        "renews a lease that is read",
        Rules {
            get: |found, now| {
                let renewed = found.and_then(|record| match &record.state {
                    State::InFlight { lease, .. } => transition::renew(found, record.owner, *lease, now).1,
                    _ => None,
                });
                (found.and_then(|record| record.view(now)), renewed)
            },
            ..Rules::CORRECT
        },
        &["get::n39_ten_thousand_gets_extend_no_lease"],
    ),
    Broken::rules(
        "keeps an answer longer when it is read",
        Rules {
            get: |found, now| {
                let kept =
                    found.filter(|record| !record.is_expired(now)).and_then(|record| match &record.state {
                        State::Completed { completed_at, .. } => {
                            let retention = record.expires_at.since(*completed_at);
                            Some(Record { expires_at: now.saturating_add(span(retention)), ..record.clone() })
                        }
                        _ => None,
                    });
                (found.and_then(|record| record.view(now)), kept)
            },
            ..Rules::CORRECT
        },
        &["get::n39_ten_thousand_gets_extend_no_retention"],
    ),
    Broken::rules(
        "shows a tombstone",
        Rules {
            get: |found, now| {
                let dressed = found.cloned().map(|record| match record.state {
                    State::Released => Record {
                        state: State::Completed { answer: Answer::NotKept, completed_at: now },
                        ..record
                    },
                    _ => record,
                });
                (dressed.and_then(|record| record.view(now)), None)
            },
            ..Rules::CORRECT
        },
        &[
            "get::n40_a_tombstone_is_none",
            "release::n22_after_a_release_by_the_owner_get_sees_nothing",
            "release::n27_releasing_an_absent_key_is_already_released",
        ],
    ),
    Broken::rules(
        "shows what has expired and was not swept",
        Rules {
            get: |found, now| {
                let kept = found
                    .map(|record| Record { expires_at: Timestamp::from_micros(u64::MAX), ..record.clone() });
                (kept.and_then(|record| record.view(now)), None)
            },
            ..Rules::CORRECT
        },
        &[
            "get::n40_an_expired_answer_is_none",
            "get::n40_a_forgotten_undecided_record_is_none",
            "retention::n59_retention_counts_from_completion_and_not_from_reservation",
        ],
    ),
];
