//! Unknown outcomes: a call whose reply was lost is resent with its token, and has no second effect.

use std::sync::Arc;

use idem_core::store::ReserveOutcome;
use idem_core::{
    AbandonOutcome, CompleteOutcome, Effect, Operation, ReleaseOutcome, RenewOutcome, StoreError,
};

use crate::case::{Context, cases};
use crate::values::{HOUR, bytes};
use crate::{Caller, Fault, Faulty};

cases![Store:
    n76_a_reserve_whose_reply_was_lost_is_reserved_when_resent,
    n76_a_takeover_whose_reply_was_lost_is_the_same_attempt_when_resent,
    n76_a_reserve_that_never_arrived_is_reserved_when_resent,
    n77_a_complete_whose_reply_was_lost_is_already_completed_when_resent,
    n77_a_complete_that_never_arrived_is_completed_when_resent,
    n78_a_release_whose_reply_was_lost_is_already_released_when_resent,
    n78_an_abandon_whose_reply_was_lost_is_abandoned_when_resent,
    n78_a_renewal_whose_reply_was_lost_is_renewed_when_resent,
    n79_a_dropped_reserve_leaves_a_defined_answer,
    n79_a_dropped_complete_leaves_a_defined_answer,
    n79_a_dropped_release_leaves_a_defined_answer,
    n79_a_dropped_abandon_leaves_a_defined_answer,
    n80_a_reserve_that_arrives_after_its_owner_released_is_stale,
    n80_a_reserve_that_arrives_after_its_owner_released_blocks_no_caller,
    n81_a_handle_of_its_own_for_every_call_gives_the_same_answers,
    n82_flushed_scripts_between_calls_change_no_answer [Has(FlushScripts)],
];

async fn n76_a_reserve_whose_reply_was_lost_is_reserved_when_resent(cx: Context) {
    let (owner, faults) = faulty(cx.caller());
    faults.next(Operation::Reserve, Fault::ReplyLost);
    expect_unknown(owner.try_reserve().await);
    let stored = owner.snapshot().await.expect("it had arrived");
    let again = owner.reserved().await;
    assert_eq!((again.attempt, again.fence), (1, stored.fence));
}

async fn n76_a_takeover_whose_reply_was_lost_is_the_same_attempt_when_resent(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let (second, faults) = faulty(cx.caller());
    faults.next(Operation::Reserve, Fault::ReplyLost);
    expect_unknown(second.try_reserve().await);
    let stored = second.snapshot().await.expect("it had arrived");
    let again = second.reserved().await;
    assert_eq!((again.attempt, again.fence), (2, stored.fence));
}

async fn n76_a_reserve_that_never_arrived_is_reserved_when_resent(cx: Context) {
    let (owner, faults) = faulty(cx.caller());
    faults.next(Operation::Reserve, Fault::RequestLost);
    expect_unknown(owner.try_reserve().await);
    assert_eq!(owner.reserved().await.attempt, 1);
}

async fn n77_a_complete_whose_reply_was_lost_is_already_completed_when_resent(cx: Context) {
    let (owner, faults) = faulty(cx.caller());
    owner.reserved().await;
    faults.next(Operation::Complete, Fault::ReplyLost);
    expect_unknown(owner.try_complete("an answer").await);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::AlreadyCompleted);
}

async fn n77_a_complete_that_never_arrived_is_completed_when_resent(cx: Context) {
    let (owner, faults) = faulty(cx.caller());
    owner.reserved().await;
    faults.next(Operation::Complete, Fault::RequestLost);
    expect_unknown(owner.try_complete("an answer").await);
    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
}

async fn n78_a_release_whose_reply_was_lost_is_already_released_when_resent(cx: Context) {
    let (owner, faults) = faulty(cx.caller());
    owner.reserved().await;
    faults.next(Operation::Release, Fault::ReplyLost);
    expect_unknown(owner.try_release().await);
    assert_eq!(owner.release().await, ReleaseOutcome::AlreadyReleased);
}

async fn n78_an_abandon_whose_reply_was_lost_is_abandoned_when_resent(cx: Context) {
    let (owner, faults) = faulty(cx.caller());
    owner.reserved().await;
    faults.next(Operation::Abandon, Fault::ReplyLost);
    expect_unknown(owner.try_abandon().await);
    assert_eq!(owner.abandon().await, AbandonOutcome::Abandoned);
}

async fn n78_a_renewal_whose_reply_was_lost_is_renewed_when_resent(cx: Context) {
    let (owner, faults) = faulty(cx.caller());
    owner.reserved().await;
    faults.next(Operation::Renew, Fault::ReplyLost);
    expect_unknown(owner.try_renew(HOUR).await);
    assert!(matches!(owner.renew(HOUR).await, RenewOutcome::Renewed { .. }));
}

async fn n79_a_dropped_reserve_leaves_a_defined_answer(cx: Context) {
    let owner = cx.caller();
    dropped_midway(owner.try_reserve()).await;
    assert_eq!(owner.reserved().await.attempt, 1);
    assert!(matches!(cx.caller().reserve().await, ReserveOutcome::InFlight { attempt: 1, .. }));
}

async fn n79_a_dropped_complete_leaves_a_defined_answer(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    dropped_midway(owner.try_complete("an answer")).await;
    let again = owner.complete("an answer").await;
    assert!(matches!(again, CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted), "{again:?}");
    assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes("an answer"))));
}

async fn n79_a_dropped_release_leaves_a_defined_answer(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    dropped_midway(owner.try_release()).await;
    let again = owner.release().await;
    assert!(matches!(again, ReleaseOutcome::Released | ReleaseOutcome::AlreadyReleased), "{again:?}");
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n79_a_dropped_abandon_leaves_a_defined_answer(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    dropped_midway(owner.try_abandon()).await;
    assert_eq!(owner.abandon().await, AbandonOutcome::Abandoned);
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

/// The owner gave up an unknown reservation and released it, as the engine does. Then the request arrives.
async fn n80_a_reserve_that_arrives_after_its_owner_released_is_stale(cx: Context) {
    let (owner, late) = reserved_late(&cx).await;
    assert_eq!(owner.release().await, ReleaseOutcome::AlreadyReleased);
    assert_eq!(late.reserve().await, ReserveOutcome::Stale);
}

async fn n80_a_reserve_that_arrives_after_its_owner_released_blocks_no_caller(cx: Context) {
    let (owner, late) = reserved_late(&cx).await;
    let _ = owner.release().await;
    let _ = late.reserve().await;
    assert_eq!(cx.caller().reserved().await.attempt, 1);
}

async fn n81_a_handle_of_its_own_for_every_call_gives_the_same_answers(cx: Context) {
    let (owner, duplicate) = (cx.caller(), cx.caller());
    let first = owner.clone().through(cx.second_handle().await).reserved().await;
    let again = owner.clone().through(cx.second_handle().await).reserved().await;
    assert_eq!((again.attempt, again.fence), (first.attempt, first.fence));
    let refused = duplicate.clone().through(cx.second_handle().await).reserve().await;
    assert!(matches!(refused, ReserveOutcome::InFlight { attempt: 1, .. }), "{refused:?}");
    let renewed = owner.clone().through(cx.second_handle().await).renew(HOUR).await;
    assert!(matches!(renewed, RenewOutcome::Renewed { .. }), "{renewed:?}");
    let completed = owner.clone().through(cx.second_handle().await).complete("an answer").await;
    assert_eq!(completed, CompleteOutcome::Completed);
    let replayed = duplicate.through(cx.second_handle().await).reserve().await;
    assert!(matches!(replayed, ReserveOutcome::Completed { attempt: 1, .. }), "{replayed:?}");
}

async fn n82_flushed_scripts_between_calls_change_no_answer(cx: Context) {
    let (owner, duplicate) = (cx.caller(), cx.caller());
    cx.instance().flush_scripts().await;
    assert_eq!(owner.reserved().await.attempt, 1);
    cx.instance().flush_scripts().await;
    assert!(matches!(owner.renew(HOUR).await, RenewOutcome::Renewed { .. }));
    cx.instance().flush_scripts().await;
    assert_eq!(owner.abandon().await, AbandonOutcome::Abandoned);
    cx.instance().flush_scripts().await;
    assert_eq!(duplicate.reserved().await.attempt, 2);
    cx.instance().flush_scripts().await;
    assert_eq!(owner.release().await, ReleaseOutcome::Lost);
    cx.instance().flush_scripts().await;
    assert_eq!(duplicate.complete("an answer").await, CompleteOutcome::Completed);
    cx.instance().flush_scripts().await;
    assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes("an answer"))));
}

/// The caller, with faults between it and its store.
fn faulty(caller: Caller) -> (Caller, Arc<Faulty>) {
    let faults = Arc::new(Faulty::new(caller.store().clone()));
    (caller.through(faults.clone()), faults)
}

/// A caller whose reservation has not arrived yet, and that reservation.
async fn reserved_late(cx: &Context) -> (Caller, Caller) {
    let late = cx.caller();
    let (owner, faults) = faulty(late.clone());
    faults.next(Operation::Reserve, Fault::RequestLost);
    expect_unknown(owner.try_reserve().await);
    (owner, late)
}

#[track_caller]
fn expect_unknown<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    match result {
        Err(error) => assert_eq!(error.effect, Effect::Unknown),
        Ok(outcome) => panic!("the fault was not injected: {outcome:?}"),
    }
}

/// Polls the call once and drops it.
async fn dropped_midway(call: impl Future) {
    tokio::select! {
        biased;
        _ = call => {}
        () = std::future::ready(()) => {}
    }
}
