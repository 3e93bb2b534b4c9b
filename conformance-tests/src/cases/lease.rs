//! Lease: how long a silent owner blocks its key, and how it stays the owner.

use idem_core::store::{ReserveOutcome, Span};
use idem_core::{CompleteOutcome, RenewOutcome};

use crate::case::{Context, cases};
use crate::values::{DAY, HOUR, MILLI, MINUTE, SECOND, bytes};

cases![Store:
    n41_renew_extends_the_lease,
    n41_renew_returns_how_long_the_lease_runs,
    n42_renew_never_shortens_the_lease,
    n43_renewing_a_lease_that_is_over_but_not_taken_renews_it,
    n44_renewing_a_lease_that_was_taken_is_lost,
    n44_the_zombies_renewal_does_not_keep_the_new_owner_alive [MovableClock],
    n44_renewing_with_a_wrong_token_is_lost,
    n44_renewing_an_absent_key_is_lost_and_creates_nothing,
    n45_renewing_after_its_own_complete_is_already_completed,
    n45_renewing_another_owners_answer_is_lost,
    n46_a_heartbeat_over_five_leases_keeps_the_key [MovableClock],
    n46_a_heartbeat_keeps_the_record_beyond_its_record_ttl [MovableClock],
    n47_after_a_stopped_heartbeat_the_key_is_taken_over_within_one_lease [MovableClock],
    n48_a_challenger_with_a_short_lease_does_not_end_the_holders [MovableClock],
    n48_a_challenger_with_a_long_lease_does_not_prolong_the_holders,
    n48_the_instant_at_which_a_lease_ends_belongs_to_the_challenger [ExactClock],
    n49_a_record_ttl_far_shorter_than_the_lease_does_not_end_the_lease [MovableClock],
    n49_a_retention_far_shorter_than_the_lease_is_kept_to,
    n49_a_record_ttl_far_longer_than_the_lease_does_not_block_the_key,
];

async fn n41_renew_extends_the_lease(cx: Context) {
    let owner = cx.caller().lease(cx.span());
    owner.reserved().await;
    owner.renewed(HOUR).await;
    cx.pass(cx.span()).await;
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { .. }));
}

async fn n41_renew_returns_how_long_the_lease_runs(cx: Context) {
    let owner = cx.caller().lease(MINUTE);
    owner.reserved().await;
    match owner.renew(HOUR).await {
        RenewOutcome::Renewed { lease_left } => {
            assert!(lease_left > HOUR / 2 && lease_left <= HOUR, "{lease_left:?}");
        }
        other => panic!("{other:?}"),
    }
}

async fn n42_renew_never_shortens_the_lease(cx: Context) {
    let owner = cx.caller().lease(2 * HOUR);
    owner.reserved().await;
    match owner.renew(MINUTE).await {
        RenewOutcome::Renewed { lease_left } => assert!(lease_left > HOUR, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
    let challenged = cx.caller().reserve().await;
    assert!(
        matches!(challenged, ReserveOutcome::InFlight { lease_left, .. } if lease_left > HOUR),
        "{challenged:?}"
    );
}

async fn n43_renewing_a_lease_that_is_over_but_not_taken_renews_it(cx: Context) {
    let owner = cx.caller().lease(cx.span());
    owner.reserved().await;
    cx.pass(cx.span()).await;
    assert!(matches!(owner.renew(HOUR).await, RenewOutcome::Renewed { .. }));
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { attempt: 1, .. }));
}

async fn n44_renewing_a_lease_that_was_taken_is_lost(cx: Context) {
    let zombie = cx.caller().lease(cx.span());
    zombie.reserved().await;
    cx.pass(cx.span()).await;
    cx.caller().reserved().await;
    assert_eq!(zombie.renew(HOUR).await, RenewOutcome::Lost);
}

async fn n44_the_zombies_renewal_does_not_keep_the_new_owner_alive(cx: Context) {
    let zombie = cx.caller().lease(MINUTE);
    zombie.reserved().await;
    cx.pass(MINUTE).await;
    cx.caller().lease(MINUTE).reserved().await;
    let _ = zombie.renew(HOUR).await;
    cx.pass(MINUTE).await;
    assert_eq!(cx.caller().reserved().await.attempt, 3);
}

async fn n44_renewing_with_a_wrong_token_is_lost(cx: Context) {
    cx.caller().reserved().await;
    assert_eq!(cx.caller().renew(HOUR).await, RenewOutcome::Lost);
}

async fn n44_renewing_an_absent_key_is_lost_and_creates_nothing(cx: Context) {
    let stranger = cx.caller();
    assert_eq!(stranger.renew(HOUR).await, RenewOutcome::Lost);
    assert_eq!(stranger.get().await, None);
}

async fn n45_renewing_after_its_own_complete_is_already_completed(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    assert_eq!(owner.renew(HOUR).await, RenewOutcome::AlreadyCompleted);
}

async fn n45_renewing_another_owners_answer_is_lost(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    assert_eq!(cx.caller().renew(HOUR).await, RenewOutcome::Lost);
}

async fn n46_a_heartbeat_over_five_leases_keeps_the_key(cx: Context) {
    let owner = cx.caller().lease(MINUTE);
    owner.reserved().await;
    for _ in 0..15 {
        cx.pass(MINUTE / 3).await;
        owner.renewed(MINUTE).await;
        assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { attempt: 1, .. }));
    }
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
}

/// `record_ttl` counts from the end of the lease, so renewing the lease moves it too.
async fn n46_a_heartbeat_keeps_the_record_beyond_its_record_ttl(cx: Context) {
    let owner = cx.caller().lease(MINUTE).record_ttl(MINUTE);
    owner.reserved().await;
    for _ in 0..15 {
        cx.pass(MINUTE / 3).await;
        owner.renewed(MINUTE).await;
    }
    cx.pass(MINUTE + MINUTE / 2).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2, "the crashed attempt was forgotten");
}

async fn n47_after_a_stopped_heartbeat_the_key_is_taken_over_within_one_lease(cx: Context) {
    let owner = cx.caller().lease(MINUTE);
    owner.reserved().await;
    cx.pass(MINUTE / 3).await;
    owner.renewed(MINUTE).await;
    cx.pass(MINUTE / 2).await;
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { .. }));
    cx.pass(MINUTE / 2).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn n48_a_challenger_with_a_short_lease_does_not_end_the_holders(cx: Context) {
    cx.caller().lease(10 * MINUTE).reserved().await;
    cx.pass(5 * MINUTE).await;
    let outcome = cx.caller().lease(MILLI).reserve().await;
    assert!(
        matches!(outcome, ReserveOutcome::InFlight { lease_left, .. } if lease_left > 4 * MINUTE),
        "{outcome:?}"
    );
}

async fn n48_a_challenger_with_a_long_lease_does_not_prolong_the_holders(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    assert_eq!(cx.caller().lease(DAY).reserved().await.attempt, 2);
}

async fn n48_the_instant_at_which_a_lease_ends_belongs_to_the_challenger(cx: Context) {
    cx.caller().lease(MINUTE).reserved().await;
    cx.pass(MINUTE - MILLI).await;
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { .. }));
    cx.pass(MILLI).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn n49_a_record_ttl_far_shorter_than_the_lease_does_not_end_the_lease(cx: Context) {
    let owner = cx.caller().lease(10 * MINUTE).record_ttl(SECOND);
    owner.reserved().await;
    cx.pass(5 * MINUTE).await;
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { .. }));
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
}

async fn n49_a_retention_far_shorter_than_the_lease_is_kept_to(cx: Context) {
    let owner = cx.caller().lease(DAY);
    owner.reserved().await;
    owner.completed_for(cx.span(), bytes("an answer")).await;
    cx.pass(cx.span()).await;
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n49_a_record_ttl_far_longer_than_the_lease_does_not_block_the_key(cx: Context) {
    cx.caller().lease(cx.span()).record_ttl(Span::MAX.as_duration()).reserved().await;
    cx.pass(cx.span()).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}
