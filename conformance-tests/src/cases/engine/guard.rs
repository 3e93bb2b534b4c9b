//! The guard: for callers that settle a reservation themselves.

use idem_core::{
    AbandonOutcome, Admission, CompleteOutcome, Engine, ReleaseOutcome, RenewOutcome, Reservation,
    StoredValue,
};

use super::support::{can_be_taken_over, engine, next_attempt};
use crate::case::{Context, cases};
use crate::values::fingerprint;

cases![Engine:
    n112_a_guard_completes,
    n112_a_guard_releases,
    n112_a_guard_abandons,
    n112_a_guard_renews,
    n112_a_dropped_guard_is_abandoned,
    n112_while_a_guard_is_held_others_are_in_flight,
];

async fn n112_a_guard_completes(cx: Context) {
    let engine = engine(&cx);
    let completed = granted(&cx, &engine).await.complete(StoredValue::bytes("an answer")).await;
    assert!(matches!(completed, Ok(CompleteOutcome::Completed)), "{completed:?}");
    match admission(&cx, &engine).await {
        Admission::Replayed(response) => assert!(response == StoredValue::bytes("an answer")),
        other => panic!("{other:?}"),
    }
}

async fn n112_a_guard_releases(cx: Context) {
    let engine = engine(&cx);
    let released = granted(&cx, &engine).await.release().await;
    assert!(matches!(released, Ok(ReleaseOutcome::Released)), "{released:?}");
    assert_eq!(next_attempt(&cx, &engine).await, 1);
}

async fn n112_a_guard_abandons(cx: Context) {
    let engine = engine(&cx);
    let abandoned = granted(&cx, &engine).await.abandon().await;
    assert!(matches!(abandoned, Ok(AbandonOutcome::Abandoned)), "{abandoned:?}");
    assert_eq!(next_attempt(&cx, &engine).await, 2);
}

async fn n112_a_guard_renews(cx: Context) {
    let engine = engine(&cx);
    let guard = granted(&cx, &engine).await;
    let renewed = guard.renew().await;
    assert!(matches!(renewed, Ok(RenewOutcome::Renewed { .. })), "{renewed:?}");
}

async fn n112_a_dropped_guard_is_abandoned(cx: Context) {
    let engine = engine(&cx);
    drop(granted(&cx, &engine).await);
    cx.until("the abandon is acknowledged", async || can_be_taken_over(&cx).await).await;
    assert_eq!(next_attempt(&cx, &engine).await, 2);
}

async fn n112_while_a_guard_is_held_others_are_in_flight(cx: Context) {
    let engine = engine(&cx);
    let guard = granted(&cx, &engine).await;
    let refused = admission(&cx, &engine).await;
    assert!(matches!(refused, Admission::InFlight { .. }), "{refused:?}");
    drop(guard);
}

async fn admission(cx: &Context, engine: &Engine) -> Admission {
    engine.reserve(&cx.key(), &fingerprint("payload")).await.expect("the store works")
}

async fn granted(cx: &Context, engine: &Engine) -> Reservation {
    match admission(cx, engine).await {
        Admission::Granted(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}
