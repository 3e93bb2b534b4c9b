//! Complete: one accepted answer, by the owner, which never changes.

use idem_core::{Answer, CompleteOutcome, Format, StoredValue};

use crate::Caller;
use crate::case::{Context, cases};
use crate::values::{DAY, HOUR, bytes};

cases![Store:
    n12_a_completion_is_visible_at_once_to_get,
    n12_a_completion_is_visible_at_once_to_reserve_through_another_handle,
    n12_a_second_attempt_completes_as_itself,
    n13_the_same_answer_twice_is_already_completed,
    n13_completing_again_does_not_move_the_end_of_the_retention [MovableClock],
    n14_another_answer_is_a_conflict,
    n14_after_a_conflict_the_first_answer_is_kept,
    n14_the_same_bytes_in_another_format_are_a_conflict,
    n15_completing_an_absent_key_is_lost_and_creates_nothing,
    n15_completing_an_expired_record_is_lost [MovableClock],
    n16_a_wrong_token_is_lost_and_the_owner_goes_on,
    n16_a_wrong_token_on_a_completed_record_is_lost,
    n17_after_its_own_release_it_is_lost,
    n18_an_owner_whose_lease_is_over_but_not_taken_completes,
    n19_an_owner_whose_lease_was_taken_is_lost,
    n19_the_zombies_completion_leaves_the_new_owner_intact,
    n20_an_empty_answer_is_stored_and_is_not_the_same_as_not_kept,
    n20_an_empty_answer_and_not_kept_conflict,
    n21_not_kept_is_answered_as_such,
    n21_not_kept_twice_is_already_completed,
];

async fn n12_a_completion_is_visible_at_once_to_get(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
    expect_answer(&owner, &bytes("an answer")).await;
}

async fn n12_a_completion_is_visible_at_once_to_reserve_through_another_handle(cx: Context) {
    let owner = cx.caller();
    let duplicate = cx.caller().through(cx.second_handle().await);
    owner.reserved().await;
    owner.completed("an answer").await;
    duplicate.replayed("an answer").await;
}

async fn n12_a_second_attempt_completes_as_itself(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let second = cx.caller();
    let granted = second.reserved().await;
    assert_eq!(second.complete("an answer").await, CompleteOutcome::Completed);
    let snapshot = second.snapshot().await.expect("it was completed");
    assert_eq!((snapshot.attempt, snapshot.fence), (2, granted.fence));
}

async fn n13_the_same_answer_twice_is_already_completed(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::AlreadyCompleted);
}

async fn n13_completing_again_does_not_move_the_end_of_the_retention(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(HOUR, bytes("an answer")).await;
    let _ = owner.complete_for(10 * HOUR, bytes("an answer")).await;
    cx.pass(2 * HOUR).await;
    assert_eq!(owner.get().await, None);
}

async fn n14_another_answer_is_a_conflict(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("the first").await;
    assert_eq!(owner.complete("the second").await, CompleteOutcome::AnswerConflict);
}

async fn n14_after_a_conflict_the_first_answer_is_kept(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("the first").await;
    let _ = owner.complete("the second").await;
    expect_answer(&owner, &bytes("the first")).await;
}

async fn n14_the_same_bytes_in_another_format_are_a_conflict(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    let as_format =
        |schema| Answer::from(StoredValue { format: Format { codec: 1, schema }, body: "7".into() });
    assert_eq!(owner.complete_for(DAY, as_format(1)).await, CompleteOutcome::Completed);
    assert_eq!(owner.complete_for(DAY, as_format(2)).await, CompleteOutcome::AnswerConflict);
    expect_answer(&owner, &as_format(1)).await;
}

async fn n15_completing_an_absent_key_is_lost_and_creates_nothing(cx: Context) {
    let stranger = cx.caller();
    assert_eq!(stranger.complete("an answer").await, CompleteOutcome::Lost);
    assert_eq!(stranger.get().await, None);
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n15_completing_an_expired_record_is_lost(cx: Context) {
    let owner = cx.caller().lease(HOUR).record_ttl(HOUR);
    owner.reserved().await;
    cx.pass(3 * HOUR).await;
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Lost);
    assert_eq!(owner.get().await, None);
}

async fn n16_a_wrong_token_is_lost_and_the_owner_goes_on(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    let before = owner.snapshot().await;
    assert_eq!(cx.caller().complete("not mine").await, CompleteOutcome::Lost);
    assert_eq!(owner.snapshot().await, before);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
}

async fn n16_a_wrong_token_on_a_completed_record_is_lost(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    assert_eq!(cx.caller().complete("an answer").await, CompleteOutcome::Lost);
    assert_eq!(cx.caller().complete("not mine").await, CompleteOutcome::Lost);
    expect_answer(&owner, &bytes("an answer")).await;
}

async fn n17_after_its_own_release_it_is_lost(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Lost);
    assert_eq!(owner.get().await, None);
}

async fn n18_an_owner_whose_lease_is_over_but_not_taken_completes(cx: Context) {
    let owner = cx.caller().lease(cx.span());
    owner.reserved().await;
    cx.pass(cx.span()).await;
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
    cx.caller().replayed("an answer").await;
}

async fn n19_an_owner_whose_lease_was_taken_is_lost(cx: Context) {
    let zombie = cx.caller().lease(cx.span());
    zombie.reserved().await;
    cx.pass(cx.span()).await;
    cx.caller().reserved().await;
    assert_eq!(zombie.complete("the zombie's").await, CompleteOutcome::Lost);
}

async fn n19_the_zombies_completion_leaves_the_new_owner_intact(cx: Context) {
    let zombie = cx.caller().lease(cx.span());
    zombie.reserved().await;
    cx.pass(cx.span()).await;
    let owner = cx.caller();
    owner.reserved().await;
    let _ = zombie.complete("the zombie's").await;
    assert_eq!(owner.complete("the owner's").await, CompleteOutcome::Completed);
    assert_eq!(zombie.complete("the zombie's").await, CompleteOutcome::Lost);
    cx.caller().replayed("the owner's").await;
}

async fn n20_an_empty_answer_is_stored_and_is_not_the_same_as_not_kept(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    assert_eq!(owner.complete("").await, CompleteOutcome::Completed);
    cx.caller().replayed("").await;
}

async fn n20_an_empty_answer_and_not_kept_conflict(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("").await;
    assert_eq!(owner.complete_for(DAY, Answer::NotKept).await, CompleteOutcome::AnswerConflict);
}

async fn n21_not_kept_is_answered_as_such(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    assert_eq!(owner.complete_for(DAY, Answer::NotKept).await, CompleteOutcome::Completed);
    cx.caller().replayed_as(Answer::NotKept).await;
    expect_answer(&owner, &Answer::NotKept).await;
}

async fn n21_not_kept_twice_is_already_completed(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(DAY, Answer::NotKept).await;
    assert_eq!(owner.complete_for(DAY, Answer::NotKept).await, CompleteOutcome::AlreadyCompleted);
}

/// Expects `get` to show this answer.
async fn expect_answer(caller: &Caller, expected: &Answer) {
    let snapshot = caller.snapshot().await.expect("it was completed");
    assert!(snapshot.answer.as_ref() == Some(expected), "{snapshot:?} is not {expected:?}");
}
