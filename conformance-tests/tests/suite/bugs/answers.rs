//! Stores that change an answer when they store it.

use idem_conformance::{Reference, Rules};
use idem_core::store::{Completion, transition};
use idem_core::{Answer, CompleteOutcome, StoredValue};

use crate::broken::Broken;

pub(crate) const BUGS: &[Broken] = &[
    Broken::rules(
        "takes an empty answer for none",
        Rules {
            complete: |found, owner, mut completion, now| {
                if completion.answer.is_empty() {
                    completion.answer = Answer::NotKept;
                }
                transition::complete(found, owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &[
            "complete::n20_an_empty_answer_is_stored_and_is_not_the_same_as_not_kept",
            "complete::n20_an_empty_answer_and_not_kept_conflict",
        ],
    ),
    Broken::rules(
        "takes not kept for an empty answer",
        Rules {
            complete: |found, owner, mut completion, now| {
                if completion.answer == Answer::NotKept {
                    completion.answer = StoredValue::bytes("").into();
                }
                transition::complete(found, owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &[
            "complete::n21_not_kept_is_answered_as_such",
            "complete::n20_an_empty_answer_and_not_kept_conflict",
        ],
    ),
    Broken::rules(
        "calls not kept a conflict with itself",
        Rules {
            complete: |found, owner, completion, now| {
                let is_not_kept = completion.answer == Answer::NotKept;
                let (outcome, write) = transition::complete(found, owner, completion, now);
                match outcome {
                    CompleteOutcome::AlreadyCompleted if is_not_kept => {
                        (CompleteOutcome::AnswerConflict, write)
                    }
                    other => (other, write),
                }
            },
            ..Rules::CORRECT
        },
        &["complete::n21_not_kept_twice_is_already_completed"],
    ),
    Broken::rules(
        "ends an answer at its first NUL",
        Rules {
            complete: |found, owner, completion, now| {
                let completion = with_body(completion, |body| {
                    body.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
                });
                transition::complete(found, owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &[
            "encoding::n88_answers_may_hold_every_byte_value",
            "encoding::n88_an_answer_of_many_zero_bytes_keeps_its_length",
        ],
    ),
    Broken::rules(
        "stores answers as text",
        Rules {
            complete: |found, owner, completion, now| {
                let completion =
                    with_body(completion, |body| String::from_utf8_lossy(body).into_owned().into_bytes());
                transition::complete(found, owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &["encoding::n88_answers_may_hold_every_byte_value"],
    ),
    Broken::rules(
        "writes answers into its SQL",
        Rules {
            complete: |found, owner, completion, now| {
                let completion = with_body(completion, |body| {
                    body.split(|byte| *byte == b'\'').next().unwrap_or_default().to_vec()
                });
                transition::complete(found, owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &["keys::n96_quotes_globs_newlines_sql_and_lua_in_an_answer_are_inert"],
    ),
    Broken::rules(
        "cuts answers at 64 KiB",
        Rules {
            complete: |found, owner, completion, now| {
                let completion = with_body(completion, |body| body[..body.len().min(65_535)].to_vec());
                transition::complete(found, owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &[
            "encoding::n88_an_answer_of_many_zero_bytes_keeps_its_length",
            "encoding::n91_the_largest_answer_is_stored",
        ],
    ),
    Broken::rules(
        "cuts what is too large for it",
        Rules {
            check_complete: |_| Ok(()),
            complete: |found, owner, completion, now| {
                let limit = Reference::MAX_ANSWER_BYTES;
                let completion = with_body(completion, |body| body[..body.len().min(limit)].to_vec());
                transition::complete(found, owner, completion, now)
            },
            ..Rules::CORRECT
        },
        &["encoding::n91_one_byte_more_is_too_large_and_nothing_is_half_written"],
    ),
];

fn with_body(mut completion: Completion, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Completion {
    if let Answer::Value(value) = &mut completion.answer {
        value.body = change(&value.body).into();
    }
    completion
}
