//! Handlers that return, fail, panic, or are dropped: what their callers get, and the state of the key afterwards.

use std::any::Any;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use idem_core::{Engine, ExecuteError, HandlerErrorPolicy, Operation, Outcome};
use tokio::sync::oneshot;

use super::support::{Executed, build, builder, can_be_taken_over, engine, is_completed, next_attempt, run};
use crate::case::{Context, cases};
use crate::values::fingerprint;
use crate::{Counted, Fault, Faulty};

cases![Engine:
    n98_a_request_is_executed_and_then_replayed,
    n98_a_request_is_replayed_by_another_engine,
    n98_a_value_without_bytes_is_replayed,
    n99_a_handlers_error_is_returned_untouched,
    n99_a_handlers_error_frees_the_key_for_attempt_1,
    n99_a_handlers_error_that_proves_nothing_abandons_the_key,
    n100_a_panic_reaches_its_caller,
    n100_after_a_panic_the_next_caller_runs_at_once_as_attempt_2,
    n101_after_a_dropped_execution_the_next_caller_runs_at_once_as_attempt_2,
    n102_an_execution_dropped_after_its_handler_returned_is_completed,
    n103_a_detached_handler_survives_its_caller,
];

async fn n98_a_request_is_executed_and_then_replayed(cx: Context) {
    let engine = engine(&cx);
    assert!(matches!(run(&cx, &engine, "first").await, Ok(Outcome::Executed(value)) if value == "first"));
    assert!(matches!(run(&cx, &engine, "second").await, Ok(Outcome::Replayed(value)) if value == "first"));
}

async fn n98_a_request_is_replayed_by_another_engine(cx: Context) {
    let other = build(Engine::builder(cx.second_handle().await));
    assert!(matches!(run(&cx, &engine(&cx), "first").await, Ok(Outcome::Executed(_))));
    assert!(matches!(run(&cx, &other, "second").await, Ok(Outcome::Replayed(value)) if value == "first"));
}

async fn n98_a_value_without_bytes_is_replayed(cx: Context) {
    let (engine, key, payload) = (engine(&cx), cx.key(), fingerprint("payload"));
    let empty = || async { Ok::<_, Infallible>(Bytes::new()) };
    let first = engine.execute_bytes(&key, &payload, |_| empty()).await;
    assert!(matches!(first, Ok(Outcome::Executed(_))), "{first:?}");
    let again = engine.execute_bytes(&key, &payload, |_| empty()).await;
    assert!(matches!(&again, Ok(Outcome::Replayed(value)) if value.is_empty()), "{again:?}");
}

async fn n99_a_handlers_error_is_returned_untouched(cx: Context) {
    let failed = fail(&cx, &engine(&cx)).await;
    assert!(matches!(failed, Err(ExecuteError::Handler("its own error"))), "{failed:?}");
}

async fn n99_a_handlers_error_frees_the_key_for_attempt_1(cx: Context) {
    let engine = engine(&cx);
    let _ = fail(&cx, &engine).await;
    assert_eq!(next_attempt(&cx, &engine).await, 1);
}

async fn n99_a_handlers_error_that_proves_nothing_abandons_the_key(cx: Context) {
    let engine = build(builder(&cx).handler_error(HandlerErrorPolicy::Abandon));
    let _ = fail(&cx, &engine).await;
    assert_eq!(next_attempt(&cx, &engine).await, 2);
}

async fn n100_a_panic_reaches_its_caller(cx: Context) {
    let engine = engine(&cx);
    let panicked = panic_in_a_handler(&cx, &engine).await;
    assert_eq!(panicked.downcast_ref(), Some(&"the handler's own panic"));
}

async fn n100_after_a_panic_the_next_caller_runs_at_once_as_attempt_2(cx: Context) {
    let engine = engine(&cx);
    panic_in_a_handler(&cx, &engine).await;
    assert_eq!(next_attempt(&cx, &engine).await, 2);
}

async fn n101_after_a_dropped_execution_the_next_caller_runs_at_once_as_attempt_2(cx: Context) {
    let engine = engine(&cx);
    let (started, has_started) = oneshot::channel();
    let (key, payload) = (cx.key(), fingerprint("payload"));
    let hung = engine.execute(&key, &payload, |_| async {
        let _ = started.send(());
        pending::<Result<String, Infallible>>().await
    });
    tokio::select! {
        outcome = hung => panic!("{outcome:?}"),
        started = has_started => started.expect("the handler runs"),
    }
    cx.until("the abandon is acknowledged", async || can_be_taken_over(&cx).await).await;
    assert_eq!(next_attempt(&cx, &engine).await, 2);
}

async fn n102_an_execution_dropped_after_its_handler_returned_is_completed(cx: Context) {
    let faults = Arc::new(Faulty::new(cx.store()));
    let counted = Counted::new(faults.clone());
    faults.next(Operation::Complete, Fault::NeverArrives);
    let engine = build(Engine::builder(counted.clone()));
    tokio::select! {
        outcome = run(&cx, &engine, "first") => panic!("{outcome:?}"),
        () = cx.until("the completion is sent", async || counted.calls(Operation::Complete) > 0) => {}
    }
    cx.until("the completion is acknowledged", async || is_completed(&cx).await).await;
    assert!(matches!(run(&cx, &engine, "second").await, Ok(Outcome::Replayed(value)) if value == "first"));
}

async fn n103_a_detached_handler_survives_its_caller(cx: Context) {
    let engine = engine(&cx);
    let (started, has_started) = oneshot::channel();
    let (finish, may_finish) = oneshot::channel();
    let (key, payload) = (cx.key(), fingerprint("payload"));
    let detached = engine.execute_detached(&key, &payload, |_| async {
        let _ = started.send(());
        Ok::<String, Infallible>(may_finish.await.expect("the test lets it finish"))
    });
    tokio::select! {
        outcome = detached => panic!("{outcome:?}"),
        started = has_started => started.expect("the handler runs"),
    }
    finish.send("first".to_owned()).expect("the handler still runs");
    cx.until("the completion is acknowledged", async || is_completed(&cx).await).await;
    assert!(matches!(run(&cx, &engine, "second").await, Ok(Outcome::Replayed(value)) if value == "first"));
}

async fn fail(cx: &Context, engine: &Engine) -> Executed<&'static str> {
    engine.execute(&cx.key(), &fingerprint("payload"), |_| async { Err("its own error") }).await
}

async fn panic_in_a_handler(cx: &Context, engine: &Engine) -> Box<dyn Any + Send> {
    let (engine, key) = (engine.clone(), cx.key());
    let task = tokio::spawn(async move {
        let handler = |_| async { panic!("the handler's own panic") };
        let outcome: Executed = engine.execute(&key, &fingerprint("payload"), handler).await;
        drop(outcome);
    });
    task.await.expect_err("the handler panicked").into_panic()
}
