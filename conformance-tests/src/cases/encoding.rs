//! Encoding and limits: what goes in comes out byte for byte, and what does not fit is refused as a whole.

use idem_core::store::{ReserveOutcome, State, StateView};
use idem_core::{CompleteOutcome, Effect, InvalidKey, Key, MAX_PART_BYTES, StoreErrorKind};

use crate::case::{Context, cases};
use crate::cases::keys::expect_independent;
use crate::values::{bytes, key};

cases![Store:
    n88_keys_may_hold_every_byte_value,
    n88_nul_bytes_in_keys_count,
    n88_answers_may_hold_every_byte_value,
    n88_an_answer_of_many_zero_bytes_keeps_its_length,
    n89_records_of_every_earlier_version_are_read [Has(GoldenRecords)],
    n90_a_record_of_a_later_version_is_incompatible_and_nothing_runs [Has(LaterVersion)],
    n91_the_largest_answer_is_stored [AnswerLimit],
    n91_one_byte_more_is_too_large_and_nothing_is_half_written [AnswerLimit],
    n92_the_longest_keys_differ_by_their_last_byte,
    n92_the_shortest_keys_work,
];

async fn n88_keys_may_hold_every_byte_value(cx: Context) {
    let in_scope = (0..=u8::MAX).map(|byte| key([b's', byte, b'x'], "name"));
    let in_name = (0..=u8::MAX).map(|byte| key("scope", [b'n', byte, b'x']));
    expect_independent(&cx, in_scope.chain(in_name)).await;
}

async fn n88_nul_bytes_in_keys_count(cx: Context) {
    let names = ["name", "name\0", "\0name", "na\0me", "name\0\0"];
    expect_independent(&cx, names.map(|name| key("scope", name))).await;
}

async fn n88_answers_may_hold_every_byte_value(cx: Context) {
    // Hardly any part of it is valid UTF-8, and it has NUL in the middle and at both ends.
    let body: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed(body.clone()).await;
    match cx.caller().reserve().await {
        ReserveOutcome::Completed { answer, .. } => assert!(answer == bytes(body), "{answer:?}"),
        other => panic!("{other:?}"),
    }
}

async fn n88_an_answer_of_many_zero_bytes_keeps_its_length(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed(vec![0; 70_000]).await;
    assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes(vec![0; 70_000]))));
}

async fn n89_records_of_every_earlier_version_are_read(cx: Context) {
    for (key, golden) in cx.instance().write_golden().await {
        let view = cx.caller_of(&key).get().await.expect("the golden record is not expired");
        assert_eq!(
            (view.attempt, view.fence, view.fingerprint),
            (golden.attempt, golden.fence, golden.fingerprint)
        );
        match (view.state, golden.state) {
            (StateView::Completed { answer, .. }, State::Completed { answer: golden, .. }) => {
                assert!(answer == golden, "{answer:?} is not {golden:?}");
            }
            (StateView::InFlight { .. }, State::InFlight { .. }) => {}
            (read, golden) => panic!("{golden:?} was read as {read:?}"),
        }
    }
}

async fn n90_a_record_of_a_later_version_is_incompatible_and_nothing_runs(cx: Context) {
    let caller = cx.caller();
    cx.instance().write_later_version(caller.key()).await;
    for refusal in caller.errors().await {
        assert_eq!((refusal.kind, refusal.effect), (StoreErrorKind::Incompatible, Effect::NotApplied));
    }
}

async fn n91_the_largest_answer_is_stored(cx: Context) {
    let largest = largest_answer(&cx);
    let owner = cx.caller();
    owner.reserved().await;
    assert_eq!(owner.complete(largest.clone()).await, CompleteOutcome::Completed);
    assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes(largest))));
}

async fn n91_one_byte_more_is_too_large_and_nothing_is_half_written(cx: Context) {
    let mut too_large = largest_answer(&cx);
    too_large.push(0);
    let owner = cx.caller();
    owner.reserved().await;
    match owner.try_complete(too_large).await {
        Err(error) => {
            assert_eq!((error.kind, error.effect), (StoreErrorKind::TooLarge, Effect::NotApplied));
        }
        Ok(outcome) => panic!("{outcome:?}"),
    }
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { .. }));
    assert_eq!(owner.complete("a smaller answer").await, CompleteOutcome::Completed);
}

async fn n92_the_longest_keys_differ_by_their_last_byte(cx: Context) {
    let longest = |last| {
        let mut part = [b'x'; MAX_PART_BYTES];
        part[MAX_PART_BYTES - 1] = last;
        part
    };
    let keys = [(b'a', b'a'), (b'a', b'b'), (b'b', b'a'), (b'b', b'b')];
    expect_independent(&cx, keys.map(|(scope, name)| key(longest(scope), longest(name)))).await;
    let too_long = Key::new("scope", [b'x'; MAX_PART_BYTES + 1]);
    assert_eq!(too_long, Err(InvalidKey::TooLong { part: "name", bytes: MAX_PART_BYTES + 1 }));
}

async fn n92_the_shortest_keys_work(cx: Context) {
    expect_independent(&cx, [key([0], [0]), key([0], [1]), key([1], [0])]).await;
}

fn largest_answer(cx: &Context) -> Vec<u8> {
    let limit = cx.harness().max_answer_bytes().expect("the case is ignored otherwise");
    vec![b'x'; limit]
}
