//! Abandon: the effect of the attempt is unknown, so the next caller may run at once and sees that.

use idem_core::store::ReserveOutcome;
use idem_core::{AbandonOutcome, CompleteOutcome, ReleaseOutcome, RenewOutcome};

use crate::case::{Context, cases};
use crate::values::{HOUR, MINUTE};

cases![Store:
    n29_the_next_reserve_takes_over_at_once_as_attempt_2,
    n30_a_refusing_caller_gets_lease_expired_at_once,
    n31_a_late_renew_of_the_abandoning_owner_is_lost,
    n31_a_late_renew_does_not_close_the_key_again,
    n32_a_late_reserve_of_the_abandoning_owner_is_stale,
    n33_its_complete_is_accepted_if_the_key_was_not_taken,
    n33_its_complete_is_lost_if_the_key_was_taken,
    n33_its_release_frees_the_key_if_it_was_not_taken,
    n34_abandoning_twice_is_abandoned,
    n35_after_its_own_complete_it_is_already_completed,
    n35_a_wrong_token_is_lost_and_the_owner_is_still_alone,
    n35_a_wrong_token_on_a_completed_record_is_lost,
    n35_an_absent_key_is_lost_and_nothing_is_created,
    n35_a_zombie_cannot_abandon_the_new_owners_key,
    n35_an_owner_whose_lease_is_over_but_not_taken_abandons,
    n35_an_abandoned_record_is_remembered_for_its_record_ttl [MovableClock],
    n35_an_abandoned_record_is_forgotten_after_its_record_ttl [MovableClock],
];

async fn n29_the_next_reserve_takes_over_at_once_as_attempt_2(cx: Context) {
    let owner = cx.caller();
    let first = owner.reserved().await;
    assert_eq!(owner.abandon().await, AbandonOutcome::Abandoned);
    let next = cx.caller().reserved().await;
    assert_eq!(next.attempt, 2);
    assert!(next.fence > first.fence, "{} after {}", next.fence, first.fence);
}

async fn n30_a_refusing_caller_gets_lease_expired_at_once(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    assert_eq!(cx.caller().refusing().reserve().await, ReserveOutcome::LeaseExpired { attempt: 1 });
}

async fn n31_a_late_renew_of_the_abandoning_owner_is_lost(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    assert_eq!(owner.renew(HOUR).await, RenewOutcome::Lost);
}

async fn n31_a_late_renew_does_not_close_the_key_again(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    let _ = owner.renew(HOUR).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn n32_a_late_reserve_of_the_abandoning_owner_is_stale(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn n33_its_complete_is_accepted_if_the_key_was_not_taken(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::Completed { .. }));
}

async fn n33_its_complete_is_lost_if_the_key_was_taken(cx: Context) {
    let (zombie, owner) = (cx.caller(), cx.caller());
    zombie.reserved().await;
    zombie.abandoned().await;
    owner.reserved().await;
    assert_eq!(zombie.complete("the zombie's").await, CompleteOutcome::Lost);
    assert_eq!(owner.complete("the owner's").await, CompleteOutcome::Completed);
}

/// The owner found out in the meantime that nothing had happened.
async fn n33_its_release_frees_the_key_if_it_was_not_taken(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    assert_eq!(owner.release().await, ReleaseOutcome::Released);
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n34_abandoning_twice_is_abandoned(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    assert_eq!(owner.abandon().await, AbandonOutcome::Abandoned);
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn n35_after_its_own_complete_it_is_already_completed(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    assert_eq!(owner.abandon().await, AbandonOutcome::AlreadyCompleted);
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::Completed { .. }));
}

async fn n35_a_wrong_token_is_lost_and_the_owner_is_still_alone(cx: Context) {
    cx.caller().reserved().await;
    assert_eq!(cx.caller().abandon().await, AbandonOutcome::Lost);
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { .. }));
}

async fn n35_a_wrong_token_on_a_completed_record_is_lost(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    assert_eq!(cx.caller().abandon().await, AbandonOutcome::Lost);
}

async fn n35_an_absent_key_is_lost_and_nothing_is_created(cx: Context) {
    let stranger = cx.caller();
    assert_eq!(stranger.abandon().await, AbandonOutcome::Lost);
    assert_eq!(stranger.get().await, None);
    assert_eq!(stranger.reserved().await.attempt, 1);
}

async fn n35_a_zombie_cannot_abandon_the_new_owners_key(cx: Context) {
    let zombie = cx.caller().lease(cx.span());
    zombie.reserved().await;
    cx.pass(cx.span()).await;
    cx.caller().reserved().await;
    assert_eq!(zombie.abandon().await, AbandonOutcome::Lost);
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { attempt: 2, .. }));
}

async fn n35_an_owner_whose_lease_is_over_but_not_taken_abandons(cx: Context) {
    let owner = cx.caller().lease(cx.span());
    owner.reserved().await;
    cx.pass(cx.span()).await;
    assert_eq!(owner.abandon().await, AbandonOutcome::Abandoned);
    assert_eq!(owner.renew(HOUR).await, RenewOutcome::Lost);
}

async fn n35_an_abandoned_record_is_remembered_for_its_record_ttl(cx: Context) {
    let owner = cx.caller().lease(MINUTE).record_ttl(10 * HOUR);
    owner.reserved().await;
    owner.abandoned().await;
    cx.pass(9 * HOUR).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

/// The time counts from the abandon, not from the end of the abandoned lease.
async fn n35_an_abandoned_record_is_forgotten_after_its_record_ttl(cx: Context) {
    let owner = cx.caller().lease(10 * HOUR).record_ttl(HOUR);
    owner.reserved().await;
    owner.abandoned().await;
    cx.pass(2 * HOUR).await;
    assert_eq!(owner.get().await, None);
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}
