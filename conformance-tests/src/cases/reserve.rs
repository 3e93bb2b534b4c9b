//! Reserve: who gets the key, and what the others get.

use std::time::Duration;

use idem_core::store::{ReserveOutcome, Span};
use idem_core::{CompleteOutcome, ReleaseOutcome, RenewOutcome};

use crate::Caller;
use crate::case::{Context, cases};
use crate::values::{HOUR, MINUTE, bytes};

cases![Store:
    n01_a_fresh_key_is_reserved_as_attempt_1,
    n01_the_winner_gets_the_time_left_of_its_lease,
    n02_the_owner_that_reserves_again_has_the_same_attempt_and_fence,
    n02_reserving_again_never_shortens_the_lease,
    n02_reserving_again_extends_the_lease,
    n02_the_owner_whose_lease_is_over_reserves_again_as_itself,
    n03_another_owner_during_the_lease_is_in_flight,
    n03_the_answer_in_flight_counts_the_attempts,
    n04_after_complete_another_owner_gets_exactly_those_bytes,
    n04_the_answer_names_the_attempt_that_completed,
    n05_an_owner_is_stale_after_its_own_complete,
    n06_after_a_release_the_next_owner_is_attempt_1_with_a_greater_fence,
    n07_an_owner_is_stale_after_its_own_release,
    n08_after_the_lease_the_next_owner_is_attempt_2_with_a_greater_fence,
    n08_a_third_owner_after_two_leases_is_attempt_3,
    n09_after_the_lease_a_refusing_caller_gets_lease_expired,
    n09_a_refused_takeover_changes_nothing,
    n09_a_refusing_caller_still_gets_a_free_key,
    n10_the_longest_durations_are_accepted,
    n10_the_shortest_durations_are_accepted,
    n11_a_released_second_attempt_is_followed_by_attempt_2_and_not_1,
    n11_the_attempt_of_a_released_takeover_is_remembered_for_the_record_ttl [MovableClock],
];

async fn n01_a_fresh_key_is_reserved_as_attempt_1(cx: Context) {
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n01_the_winner_gets_the_time_left_of_its_lease(cx: Context) {
    let lease_left = cx.caller().lease(HOUR).reserved().await.lease_left;
    assert!(lease_left > HOUR / 2 && lease_left <= HOUR, "{lease_left:?}");
}

async fn n02_the_owner_that_reserves_again_has_the_same_attempt_and_fence(cx: Context) {
    let owner = cx.caller();
    let (first, again) = (owner.reserved().await, owner.reserved().await);
    assert_eq!((again.attempt, again.fence), (first.attempt, first.fence));
}

async fn n02_reserving_again_never_shortens_the_lease(cx: Context) {
    let owner = cx.caller().lease(2 * HOUR);
    owner.reserved().await;
    let again = owner.clone().lease(MINUTE).reserved().await;
    assert!(again.lease_left > HOUR, "{:?} are left", again.lease_left);
    expect_in_flight_for_more_than(HOUR, &cx.caller()).await;
}

async fn n02_reserving_again_extends_the_lease(cx: Context) {
    let owner = cx.caller().lease(HOUR);
    owner.reserved().await;
    owner.clone().lease(3 * HOUR).reserved().await;
    expect_in_flight_for_more_than(2 * HOUR, &cx.caller()).await;
}

async fn n02_the_owner_whose_lease_is_over_reserves_again_as_itself(cx: Context) {
    let owner = cx.caller().lease(cx.span());
    let first = owner.reserved().await;
    cx.pass(cx.span()).await;
    let again = owner.clone().lease(HOUR).reserved().await;
    assert_eq!((again.attempt, again.fence), (first.attempt, first.fence));
    expect_in_flight_for_more_than(HOUR / 2, &cx.caller()).await;
}

async fn n03_another_owner_during_the_lease_is_in_flight(cx: Context) {
    cx.caller().lease(HOUR).reserved().await;
    match cx.caller().reserve().await {
        ReserveOutcome::InFlight { attempt, lease_left } => {
            assert_eq!(attempt, 1);
            assert!(!lease_left.is_zero() && lease_left <= HOUR, "{lease_left:?}");
        }
        other => panic!("{other:?}"),
    }
}

async fn n03_the_answer_in_flight_counts_the_attempts(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    cx.caller().reserved().await;
    let outcome = cx.caller().reserve().await;
    assert!(matches!(outcome, ReserveOutcome::InFlight { attempt: 2, .. }), "{outcome:?}");
}

async fn n04_after_complete_another_owner_gets_exactly_those_bytes(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("the receipt").await;
    match cx.caller().reserve().await {
        ReserveOutcome::Completed { answer, .. } => assert!(answer == bytes("the receipt")),
        other => panic!("{other:?}"),
    }
}

async fn n04_the_answer_names_the_attempt_that_completed(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let second = cx.caller();
    second.reserved().await;
    second.completed("the receipt").await;
    let outcome = cx.caller().reserve().await;
    assert!(matches!(outcome, ReserveOutcome::Completed { attempt: 2, .. }), "{outcome:?}");
}

async fn n05_an_owner_is_stale_after_its_own_complete(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("the receipt").await;
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
}

async fn n06_after_a_release_the_next_owner_is_attempt_1_with_a_greater_fence(cx: Context) {
    let owner = cx.caller();
    let first = owner.reserved().await;
    owner.released().await;
    let next = cx.caller().reserved().await;
    assert_eq!(next.attempt, 1);
    assert!(next.fence > first.fence, "{} after {}", next.fence, first.fence);
}

async fn n07_an_owner_is_stale_after_its_own_release(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    assert_eq!(owner.reserve().await, ReserveOutcome::Stale);
}

async fn n08_after_the_lease_the_next_owner_is_attempt_2_with_a_greater_fence(cx: Context) {
    let first = cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let next = cx.caller().reserved().await;
    assert_eq!(next.attempt, 2);
    assert!(next.fence > first.fence, "{} after {}", next.fence, first.fence);
}

async fn n08_a_third_owner_after_two_leases_is_attempt_3(cx: Context) {
    for attempt in 1..=3 {
        assert_eq!(cx.caller().lease(cx.span()).reserved().await.attempt, attempt);
        cx.pass(cx.span()).await;
    }
}

async fn n09_after_the_lease_a_refusing_caller_gets_lease_expired(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let outcome = cx.caller().refusing().reserve().await;
    assert_eq!(outcome, ReserveOutcome::LeaseExpired { attempt: 1 });
}

async fn n09_a_refused_takeover_changes_nothing(cx: Context) {
    let owner = cx.caller().lease(cx.span());
    owner.reserved().await;
    cx.pass(cx.span()).await;
    let before = owner.snapshot().await;
    let refused = cx.caller().refusing();
    let _ = refused.reserve().await;
    assert_eq!(owner.snapshot().await, before);
    assert_eq!(refused.complete("not mine").await, CompleteOutcome::Lost);
    assert!(matches!(owner.renew(HOUR).await, RenewOutcome::Renewed { .. }));
}

async fn n09_a_refusing_caller_still_gets_a_free_key(cx: Context) {
    let first = cx.caller().refusing();
    assert_eq!(first.reserved().await.attempt, 1);
    assert_eq!(first.release().await, ReleaseOutcome::Released);
    assert_eq!(cx.caller().refusing().reserved().await.attempt, 1);
}

async fn n10_the_longest_durations_are_accepted(cx: Context) {
    let owner = cx.caller().lease(Span::MAX.as_duration()).record_ttl(Span::MAX.as_duration());
    owner.reserved().await;
    assert!(matches!(owner.renew(Span::MAX.as_duration()).await, RenewOutcome::Renewed { .. }));
    assert_eq!(owner.complete_for(Span::MAX.as_duration(), bytes("kept")).await, CompleteOutcome::Completed);
    assert!(owner.get().await.is_some());
}

/// A store with a coarser clock rounds up, and never to zero.
async fn n10_the_shortest_durations_are_accepted(cx: Context) {
    let shortest = Duration::from_nanos(1);
    let owner = cx.caller().lease(shortest);
    owner.reserved().await;
    assert!(matches!(owner.renew(shortest).await, RenewOutcome::Renewed { .. }));
    assert_eq!(owner.complete_for(shortest, bytes("kept")).await, CompleteOutcome::Completed);
}

async fn n11_a_released_second_attempt_is_followed_by_attempt_2_and_not_1(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let second = cx.caller();
    assert_eq!(second.reserved().await.attempt, 2);
    second.released().await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

/// The first attempt may have had its effect, so the next caller must see its number for as long as the record would have
/// been kept. An ordinary tombstone expires much earlier.
async fn n11_the_attempt_of_a_released_takeover_is_remembered_for_the_record_ttl(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let second = cx.caller().lease(MINUTE).record_ttl(10 * HOUR);
    second.reserved().await;
    second.released().await;
    cx.pass(9 * HOUR).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn expect_in_flight_for_more_than(at_least: Duration, caller: &Caller) {
    match caller.reserve().await {
        ReserveOutcome::InFlight { lease_left, .. } => {
            assert!(lease_left > at_least, "{lease_left:?} are left");
        }
        other => panic!("{other:?}"),
    }
}
