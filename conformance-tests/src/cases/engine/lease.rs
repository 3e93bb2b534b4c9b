//! The heartbeat: a lease that is kept, one that is lost, and one that reaches its limit.

use std::convert::Infallible;

use bytes::Bytes;
use idem_core::store::ReserveOutcome;
use idem_core::{Attempt, ExecuteError, Operation, Outcome};
use tokio::sync::oneshot;

use super::support::{build, builder, can_be_taken_over, faulty, hang, next_attempt};
use crate::case::{Context, cases, joined};
use crate::values::{MINUTE, fingerprint};
use crate::{Caller, Fault};

cases![Engine:
    n107_a_lease_that_cannot_be_renewed_is_seen_as_lost_by_the_handler,
    n107_a_lease_that_was_lost_and_taken_is_an_outcome_of_its_own,
    n107_a_run_whose_lease_was_taken_gets_the_answer_of_the_accepted_run,
    n109_a_heartbeat_keeps_the_key_of_a_long_handler [MovableClock],
    n109_a_hung_handler_holds_its_key_no_longer_than_max_renewal [MovableClock],
];

async fn n107_a_lease_that_cannot_be_renewed_is_seen_as_lost_by_the_handler(cx: Context) {
    let (engine, faults) = faulty(&cx, |builder| builder.lease(cx.span()));
    faults.set(Operation::Renew, Some(Fault::RequestLost));
    let handler = |attempt: Attempt| async move {
        attempt.lost().await;
        Ok::<_, Infallible>("still the owner".to_owned())
    };
    let outcome = engine.execute(&cx.key(), &fingerprint("payload"), handler).await;
    assert!(matches!(outcome, Ok(Outcome::Executed(_))), "{outcome:?}");
}

async fn n107_a_lease_that_was_lost_and_taken_is_an_outcome_of_its_own(cx: Context) {
    let outcome = lose_the_lease(&cx, async |_| {}).await;
    assert!(matches!(&outcome, Ok(Outcome::LeaseLost(value)) if value == "the zombie's"), "{outcome:?}");
}

async fn n107_a_run_whose_lease_was_taken_gets_the_answer_of_the_accepted_run(cx: Context) {
    let complete = async |challenger: Caller| {
        challenger.completed("the accepted").await;
    };
    let outcome = lose_the_lease(&cx, complete).await;
    assert!(matches!(&outcome, Ok(Outcome::Replayed(value)) if value == "the accepted"), "{outcome:?}");
}

async fn n109_a_heartbeat_keeps_the_key_of_a_long_handler(cx: Context) {
    let engine = build(builder(&cx).lease(MINUTE));
    let handler = |_| async {
        cx.pass(5 * MINUTE).await;
        let challenged = cx.caller().reserve().await;
        assert!(matches!(challenged, ReserveOutcome::InFlight { attempt: 1, .. }), "{challenged:?}");
        Ok::<_, Infallible>("first".to_owned())
    };
    let outcome = engine.execute(&cx.key(), &fingerprint("payload"), handler).await;
    assert!(matches!(outcome, Ok(Outcome::Executed(_))), "{outcome:?}");
}

async fn n109_a_hung_handler_holds_its_key_no_longer_than_max_renewal(cx: Context) {
    let engine = build(builder(&cx).lease(MINUTE).max_renewal(5 * MINUTE));
    let hung = hang(&cx, &engine).await;
    cx.pass(4 * MINUTE).await;
    assert!(!can_be_taken_over(&cx).await);
    cx.pass(MINUTE).await;
    assert_eq!(next_attempt(&cx, &engine).await, 2);
    hung.abort();
}

async fn lose_the_lease(
    cx: &Context,
    then: impl AsyncFnOnce(Caller),
) -> Result<Outcome<Bytes>, ExecuteError<Infallible>> {
    let (engine, faults) = faulty(cx, |builder| builder.lease(cx.span()));
    faults.set(Operation::Renew, Some(Fault::RequestLost));
    let (lost, is_lost) = oneshot::channel();
    let (finish, may_finish) = oneshot::channel();
    let zombie = tokio::spawn({
        let key = cx.key();
        async move {
            let handler = |attempt: Attempt| async move {
                attempt.lost().await;
                let _ = lost.send(());
                let _ = may_finish.await;
                Ok(Bytes::from("the zombie's"))
            };
            engine.execute_bytes(&key, &fingerprint("payload"), handler).await
        }
    });
    is_lost.await.expect("the handler sees it");
    let challenger = cx.caller();
    // The handler learns of it early, so the store may still hold the lease for a moment.
    cx.until("the key is taken over", async || {
        matches!(challenger.reserve().await, ReserveOutcome::Reserved { attempt: 2, .. })
    })
    .await;
    then(challenger).await;
    let _ = finish.send(());
    joined(zombie).await
}
