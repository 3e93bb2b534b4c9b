//! Retention: how long an answer is kept, and the sweep that removes what has expired.

use idem_core::CompleteOutcome;
use idem_core::store::ReserveOutcome;

use crate::Caller;
use crate::case::{Context, cases};
use crate::values::{DAY, HOUR, MILLI, MINUTE, bytes, key};

cases![Store:
    n59_retention_counts_from_completion_and_not_from_reservation [MovableClock],
    n59_a_completed_record_is_kept_for_its_retention_and_not_its_record_ttl [MovableClock],
    n60_after_the_retention_the_key_is_reserved_as_attempt_1,
    n60_after_the_retention_the_old_answer_is_unreachable,
    n60_after_the_record_ttl_a_crashed_attempt_is_forgotten,
    n61_the_instant_at_which_an_answer_expires_is_the_same_for_all [ExactClock],
    n62_a_sweep_keeps_a_live_record_in_flight,
    n62_a_sweep_keeps_an_undecided_record_whose_lease_is_over,
    n62_a_sweep_keeps_an_answer [MovableClock],
    n62_a_sweep_keeps_a_tombstone,
    n64_a_sweep_honours_its_limit,
    n64_a_sweep_reports_its_count [RemovesOnlyWhenSwept],
    n65_a_crashed_owner_blocks_for_its_lease_and_not_for_the_retention,
];

async fn n59_retention_counts_from_completion_and_not_from_reservation(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    cx.pass(10 * HOUR).await;
    owner.completed_for(4 * HOUR, bytes("an answer")).await;
    cx.pass(3 * HOUR).await;
    assert!(owner.get().await.is_some());
    cx.pass(HOUR).await;
    assert_eq!(owner.get().await, None);
}

async fn n59_a_completed_record_is_kept_for_its_retention_and_not_its_record_ttl(cx: Context) {
    let owner = cx.caller().lease(MINUTE).record_ttl(MINUTE);
    owner.reserved().await;
    owner.completed_for(DAY, bytes("an answer")).await;
    cx.pass(DAY - HOUR).await;
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::Completed { .. }));
}

async fn n60_after_the_retention_the_key_is_reserved_as_attempt_1(cx: Context) {
    completed_and_expired(&cx).await;
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n60_after_the_retention_the_old_answer_is_unreachable(cx: Context) {
    let old = completed_and_expired(&cx).await;
    let next = cx.caller();
    next.reserved().await;
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { .. }));
    assert_eq!(next.snapshot().await.and_then(|snapshot| snapshot.answer), None);
    assert_eq!(old.complete("the old answer").await, CompleteOutcome::Lost);
    assert_eq!(next.complete("the new answer").await, CompleteOutcome::Completed);
}

async fn n60_after_the_record_ttl_a_crashed_attempt_is_forgotten(cx: Context) {
    cx.caller().lease(cx.span()).record_ttl(cx.span()).reserved().await;
    cx.pass(2 * cx.span()).await;
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n61_the_instant_at_which_an_answer_expires_is_the_same_for_all(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(HOUR, bytes("an answer")).await;
    cx.pass(HOUR - MILLI).await;
    assert!(owner.get().await.is_some());
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::AlreadyCompleted);
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::Completed { .. }));
    cx.pass(MILLI).await;
    assert_eq!(owner.get().await, None);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Lost);
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n62_a_sweep_keeps_a_live_record_in_flight(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    assert_eq!(cx.store().sweep(usize::MAX).await.expect("a sweep works"), 0);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
}

async fn n62_a_sweep_keeps_an_undecided_record_whose_lease_is_over(cx: Context) {
    cx.caller().lease(cx.span()).record_ttl(DAY).reserved().await;
    cx.pass(cx.span()).await;
    cx.store().sweep(usize::MAX).await.expect("a sweep works");
    assert_eq!(cx.caller().reserved().await.attempt, 2, "the crashed attempt was forgotten");
}

async fn n62_a_sweep_keeps_an_answer(cx: Context) {
    let owner = cx.caller().lease(MINUTE).record_ttl(MINUTE);
    owner.reserved().await;
    owner.completed_for(DAY, bytes("an answer")).await;
    cx.pass(DAY - HOUR).await;
    cx.store().sweep(usize::MAX).await.expect("a sweep works");
    assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes("an answer"))));
}

async fn n62_a_sweep_keeps_a_tombstone(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    cx.store().sweep(usize::MAX).await.expect("a sweep works");
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
}

async fn n64_a_sweep_honours_its_limit(cx: Context) {
    ten_expired_records(&cx).await;
    for limit in [0, 4] {
        let removed = cx.store().sweep(limit).await.expect("a sweep works");
        assert!(removed <= limit, "{removed} were removed and {limit} allowed");
    }
}

async fn n64_a_sweep_reports_its_count(cx: Context) {
    // Before any of them expires, as in the case above.
    cx.caller().reserved().await;
    ten_expired_records(&cx).await;
    let mut removed = Vec::new();
    for _ in 0..4 {
        removed.push(cx.store().sweep(4).await.expect("a sweep works"));
    }
    assert_eq!(removed, [4, 4, 2, 0]);
}

async fn n65_a_crashed_owner_blocks_for_its_lease_and_not_for_the_retention(cx: Context) {
    cx.caller().lease(cx.span()).record_ttl(30 * DAY).reserved().await;
    cx.pass(cx.span()).await;
    let next = cx.caller();
    assert_eq!(next.reserved().await.attempt, 2);
    assert_eq!(next.complete("an answer").await, CompleteOutcome::Completed);
}

async fn completed_and_expired(cx: &Context) -> Caller {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(cx.span(), bytes("the old answer")).await;
    cx.pass(cx.span()).await;
    owner
}

/// Keys other than the usual one. They are made before any expires, because a store may sweep a little with each new key.
async fn ten_expired_records(cx: &Context) {
    let owners: Vec<_> = (0..10).map(|number| cx.caller_of(&key("expired", format!("{number}")))).collect();
    for owner in &owners {
        owner.reserved().await;
    }
    for owner in &owners {
        owner.completed_for(cx.span(), bytes("an answer")).await;
    }
    cx.pass(cx.span()).await;
}
