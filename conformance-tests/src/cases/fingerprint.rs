//! Fingerprint: the same key with another payload is a mistake of the client, which gets nothing.

use idem_core::CompleteOutcome;
use idem_core::store::ReserveOutcome;

use crate::case::{Context, cases};
use crate::values::bytes;

cases![Store:
    n54_another_payload_in_flight_is_a_mismatch_and_not_in_flight,
    n54_a_mismatch_changes_nothing,
    n55_another_payload_after_complete_is_a_mismatch_and_shows_no_bytes,
    n56_another_payload_after_the_lease_is_still_a_mismatch,
    n56_another_payload_after_an_abandon_is_still_a_mismatch,
    n56_a_refusing_caller_with_another_payload_is_a_mismatch,
    n57_another_payload_after_the_retention_is_reserved,
    n58_another_payload_after_a_release_is_reserved,
    n58_after_a_release_the_new_payload_counts,
];

async fn n54_another_payload_in_flight_is_a_mismatch_and_not_in_flight(cx: Context) {
    cx.caller().reserved().await;
    assert_eq!(cx.caller().payload("another").reserve().await, ReserveOutcome::FingerprintMismatch);
}

async fn n54_a_mismatch_changes_nothing(cx: Context) {
    let (owner, other) = (cx.caller(), cx.caller().payload("another"));
    owner.reserved().await;
    let before = owner.snapshot().await;
    let _ = other.reserve().await;
    assert_eq!(owner.snapshot().await, before);
    assert_eq!(other.complete("not mine").await, CompleteOutcome::Lost);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
}

async fn n55_another_payload_after_complete_is_a_mismatch_and_shows_no_bytes(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    assert_eq!(cx.caller().payload("another").reserve().await, ReserveOutcome::FingerprintMismatch);
}

async fn n56_another_payload_after_the_lease_is_still_a_mismatch(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    assert_eq!(cx.caller().payload("another").reserve().await, ReserveOutcome::FingerprintMismatch);
}

async fn n56_another_payload_after_an_abandon_is_still_a_mismatch(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    assert_eq!(cx.caller().payload("another").reserve().await, ReserveOutcome::FingerprintMismatch);
}

async fn n56_a_refusing_caller_with_another_payload_is_a_mismatch(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    assert_eq!(
        cx.caller().payload("another").refusing().reserve().await,
        ReserveOutcome::FingerprintMismatch
    );
}

async fn n57_another_payload_after_the_retention_is_reserved(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(cx.span(), bytes("an answer")).await;
    cx.pass(cx.span()).await;
    assert_eq!(cx.caller().payload("another").reserved().await.attempt, 1);
}

async fn n58_another_payload_after_a_release_is_reserved(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    assert_eq!(cx.caller().payload("another").reserved().await.attempt, 1);
}

async fn n58_after_a_release_the_new_payload_counts(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    cx.caller().payload("another").reserved().await;
    assert_eq!(cx.caller().reserve().await, ReserveOutcome::FingerprintMismatch);
    assert!(matches!(cx.caller().payload("another").reserve().await, ReserveOutcome::InFlight { .. }));
}
