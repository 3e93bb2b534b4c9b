//! A store that does not answer, before the handler and after it.

use std::convert::Infallible;

use idem_core::store::ReserveOutcome;
use idem_core::{Attempt, ExecuteError, Operation, Outcome, StoreErrorKind, StoreFailurePolicy};

use super::support::{faulty, never_run, next_attempt, run};
use crate::Fault;
use crate::case::{Context, cases};
use crate::values::fingerprint;

cases![Engine:
    n104_with_the_store_down_the_handler_does_not_run,
    n104_a_reservation_given_up_as_unknown_is_released,
    n105_failing_open_the_handler_runs_and_the_outcome_is_unprotected,
    n105_failing_open_never_covers_a_store_that_answered_with_an_error,
    n106_a_completion_that_fails_is_sent_again,
    n106_a_completion_whose_reply_is_lost_is_an_execution,
    n106_a_completion_that_is_never_acknowledged_is_unrecorded,
];

async fn n104_with_the_store_down_the_handler_does_not_run(cx: Context) {
    let (engine, faults) = faulty(&cx, |builder| builder);
    faults.set_all(Some(Fault::Refused(StoreErrorKind::Unavailable)));
    let refused = engine.execute(&cx.key(), &fingerprint("payload"), never_run).await;
    assert!(matches!(refused, Err(ExecuteError::Store(_))), "{refused:?}");
    faults.set_all(None);
    assert_eq!(next_attempt(&cx, &engine).await, 1);
}

async fn n104_a_reservation_given_up_as_unknown_is_released(cx: Context) {
    let (engine, faults) = faulty(&cx, |builder| builder.reserve_timeout(cx.span()));
    faults.set(Operation::Reserve, Some(Fault::ReplyLost));
    let refused = engine.execute(&cx.key(), &fingerprint("payload"), never_run).await;
    assert!(matches!(refused, Err(ExecuteError::Store(_))), "{refused:?}");
    faults.set(Operation::Reserve, None);
    cx.until("the release is acknowledged", async || cx.caller().get().await.is_none()).await;
    assert_eq!(next_attempt(&cx, &engine).await, 1);
}

async fn n105_failing_open_the_handler_runs_and_the_outcome_is_unprotected(cx: Context) {
    let (engine, faults) = faulty(&cx, |builder| builder.store_failure(StoreFailurePolicy::FailOpen));
    faults.set_all(Some(Fault::Refused(StoreErrorKind::Unavailable)));
    let handler = |attempt: Attempt| async move { Ok::<_, Infallible>(attempt.is_unprotected()) };
    let outcome = engine.execute(&cx.key(), &fingerprint("payload"), handler).await;
    assert!(matches!(outcome, Ok(Outcome::Unprotected(true))), "{outcome:?}");
}

async fn n105_failing_open_never_covers_a_store_that_answered_with_an_error(cx: Context) {
    let (engine, faults) = faulty(&cx, |builder| builder.store_failure(StoreFailurePolicy::FailOpen));
    for kind in [StoreErrorKind::Corrupt, StoreErrorKind::Incompatible, StoreErrorKind::Misconfigured] {
        faults.set_all(Some(Fault::Refused(kind)));
        let refused = engine.execute(&cx.key(), &fingerprint("payload"), never_run).await;
        assert!(matches!(&refused, Err(ExecuteError::Store(error)) if error.kind == kind), "{refused:?}");
    }
    faults.set_all(None);
    assert_eq!(next_attempt(&cx, &engine).await, 1);
}

async fn n106_a_completion_that_fails_is_sent_again(cx: Context) {
    let (engine, faults) = faulty(&cx, |builder| builder);
    faults.next(Operation::Complete, Fault::Refused(StoreErrorKind::Unavailable));
    faults.next(Operation::Complete, Fault::RequestLost);
    assert!(matches!(run(&cx, &engine, "first").await, Ok(Outcome::Executed(_))));
    assert!(matches!(run(&cx, &engine, "second").await, Ok(Outcome::Replayed(value)) if value == "first"));
}

async fn n106_a_completion_whose_reply_is_lost_is_an_execution(cx: Context) {
    let (engine, faults) = faulty(&cx, |builder| builder);
    faults.next(Operation::Complete, Fault::ReplyLost);
    assert!(matches!(run(&cx, &engine, "first").await, Ok(Outcome::Executed(_))));
    assert!(matches!(run(&cx, &engine, "second").await, Ok(Outcome::Replayed(value)) if value == "first"));
}

async fn n106_a_completion_that_is_never_acknowledged_is_unrecorded(cx: Context) {
    let (engine, faults) = faulty(&cx, |builder| builder.complete_timeout(cx.span()));
    faults.set(Operation::Complete, Some(Fault::RequestLost));
    let unrecorded = run(&cx, &engine, "first").await;
    assert!(
        matches!(unrecorded, Ok(Outcome::Unrecorded { ref value, .. }) if value == "first"),
        "{unrecorded:?}"
    );
    let blocked = cx.caller().reserve().await;
    assert!(matches!(blocked, ReserveOutcome::InFlight { attempt: 1, .. }), "{blocked:?}");
}
