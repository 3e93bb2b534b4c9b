//! Release: nothing happened, so the key is free again, and a tombstone keeps late calls out.

use idem_core::store::ReserveOutcome;
use idem_core::{AbandonOutcome, CompleteOutcome, ReleaseOutcome, RenewOutcome};

use crate::case::{Context, cases};
use crate::values::{HOUR, MINUTE, SECOND, bytes};

cases![Store:
    n22_after_a_release_by_the_owner_get_sees_nothing,
    n22_an_owner_whose_lease_is_over_but_not_taken_releases,
    n23_releasing_twice_is_already_released,
    n24_a_wrong_token_is_lost_and_the_owner_is_intact,
    n24_a_wrong_token_on_a_tombstone_is_lost,
    n24_a_wrong_token_on_a_completed_record_is_lost,
    n25_after_its_own_complete_the_answer_is_kept,
    n26_a_zombie_cannot_release_the_new_owners_key,
    n27_releasing_an_absent_key_is_already_released,
    n27_after_that_the_tokens_late_reserve_is_stale,
    n27_after_that_another_owner_is_attempt_1,
    n27_after_its_retention_a_late_release_is_already_released [MovableClock],
    n28_a_refused_duplicate_cannot_release_the_owners_record,
    n28_after_a_release_the_token_owns_nothing,
    n28_a_tombstone_outlives_five_minutes [MovableClock],
    n28_a_tombstone_outlives_the_released_lease [MovableClock],
];

async fn n22_after_a_release_by_the_owner_get_sees_nothing(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    assert_eq!(owner.release().await, ReleaseOutcome::Released);
    assert_eq!(owner.get().await, None);
}

async fn n22_an_owner_whose_lease_is_over_but_not_taken_releases(cx: Context) {
    let owner = cx.caller().lease(cx.span());
    owner.reserved().await;
    cx.pass(cx.span()).await;
    assert_eq!(owner.release().await, ReleaseOutcome::Released);
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n23_releasing_twice_is_already_released(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    assert_eq!(owner.release().await, ReleaseOutcome::AlreadyReleased);
}

async fn n24_a_wrong_token_is_lost_and_the_owner_is_intact(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    let before = owner.snapshot().await;
    assert_eq!(cx.caller().release().await, ReleaseOutcome::Lost);
    assert_eq!(owner.snapshot().await, before);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
}

async fn n24_a_wrong_token_on_a_tombstone_is_lost(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    assert_eq!(cx.caller().release().await, ReleaseOutcome::Lost);
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
}

async fn n24_a_wrong_token_on_a_completed_record_is_lost(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    let before = owner.snapshot().await;
    assert_eq!(cx.caller().release().await, ReleaseOutcome::Lost);
    assert_eq!(owner.snapshot().await, before);
}

async fn n25_after_its_own_complete_the_answer_is_kept(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    assert_eq!(owner.release().await, ReleaseOutcome::AlreadyCompleted);
    assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes("an answer"))));
}

async fn n26_a_zombie_cannot_release_the_new_owners_key(cx: Context) {
    let zombie = cx.caller().lease(cx.span());
    zombie.reserved().await;
    cx.pass(cx.span()).await;
    let owner = cx.caller();
    owner.reserved().await;
    assert_eq!(zombie.release().await, ReleaseOutcome::Lost);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
}

async fn n27_releasing_an_absent_key_is_already_released(cx: Context) {
    let late = cx.caller();
    assert_eq!(late.release().await, ReleaseOutcome::AlreadyReleased);
    assert_eq!(late.get().await, None);
}

async fn n27_after_that_the_tokens_late_reserve_is_stale(cx: Context) {
    let late = cx.caller();
    let _ = late.release().await;
    assert_eq!(late.reserve().await, ReserveOutcome::Stale);
}

async fn n27_after_that_another_owner_is_attempt_1(cx: Context) {
    let _ = cx.caller().release().await;
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n27_after_its_retention_a_late_release_is_already_released(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(HOUR, bytes("an answer")).await;
    cx.pass(2 * HOUR).await;
    assert_eq!(owner.release().await, ReleaseOutcome::AlreadyReleased);
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
}

async fn n28_a_refused_duplicate_cannot_release_the_owners_record(cx: Context) {
    let (owner, duplicate) = (cx.caller(), cx.caller());
    owner.reserved().await;
    assert!(matches!(duplicate.reserve().await, ReserveOutcome::InFlight { .. }));
    assert_eq!(duplicate.release().await, ReleaseOutcome::Lost);
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { .. }));
}

async fn n28_after_a_release_the_token_owns_nothing(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    assert_eq!(owner.renew(HOUR).await, RenewOutcome::Lost);
    assert_eq!(owner.abandon().await, AbandonOutcome::Lost);
}

/// A reservation that arrives after its owner gave up must not revive the run.
async fn n28_a_tombstone_outlives_five_minutes(cx: Context) {
    let owner = cx.caller().lease(SECOND).record_ttl(SECOND);
    owner.reserved().await;
    owner.released().await;
    cx.pass(4 * MINUTE).await;
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
}

async fn n28_a_tombstone_outlives_the_released_lease(cx: Context) {
    let owner = cx.caller().lease(5 * HOUR).record_ttl(SECOND);
    owner.reserved().await;
    owner.released().await;
    cx.pass(4 * HOUR).await;
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
}
