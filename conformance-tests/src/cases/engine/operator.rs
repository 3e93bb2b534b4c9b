//! What operators do: shut an engine down, and resolve keys whose outcome is unknown.

use std::convert::Infallible;

use bytes::Bytes;
use idem_core::{Engine, ExecuteError, ExpiredLeasePolicy, Outcome, Resolution, ResolveOutcome, StoredValue};
use tokio::sync::oneshot;

use super::support::{build, builder, engine, hang, is_completed, never_run, run};
use crate::case::{Context, cases, joined};
use crate::values::{HOUR, fingerprint};

cases![Engine:
    n110_a_shutdown_waits_for_what_ends,
    n110_a_shutdown_abandons_what_remains,
    n110_after_a_shutdown_nothing_new_runs,
    n111_an_expired_key_is_refused_until_it_is_resolved,
    n111_an_operator_completes_an_expired_key,
    n111_an_operator_releases_an_expired_key,
    n111_an_operator_does_not_disturb_a_live_owner,
    n111_an_operator_finds_nothing_to_resolve,
];

async fn n110_a_shutdown_waits_for_what_ends(cx: Context) {
    let engine = engine(&cx);
    let (started, has_started) = oneshot::channel();
    let (finish, may_finish) = oneshot::channel();
    let ending = tokio::spawn({
        let (engine, key) = (engine.clone(), cx.key());
        async move {
            let handler = |_| async {
                let _ = started.send(());
                Ok::<String, Infallible>(may_finish.await.expect("the test lets it finish"))
            };
            engine.execute(&key, &fingerprint("payload"), handler).await
        }
    });
    has_started.await.expect("the handler runs");
    let shutdown = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown(HOUR).await }
    });
    // The shutdown begins before any other call. Otherwise a slow store could have a call in flight by then, and the
    // engine would wait for that too.
    tokio::task::yield_now().await;
    let is_closed = async || engine.reserve(&cx.key(), &fingerprint("payload")).await.is_err();
    cx.until("nothing new is let in", is_closed).await;
    finish.send("first".to_owned()).expect("the handler still runs");
    assert!(matches!(joined(ending).await, Ok(Outcome::Executed(_))));
    let report = joined(shutdown).await;
    assert_eq!((report.drained, report.abandoned), (1, 0), "{report:?}");
    assert!(is_completed(&cx).await);
}

async fn n110_a_shutdown_abandons_what_remains(cx: Context) {
    let engine = engine(&cx);
    let hung = hang(&cx, &engine).await;
    let report = engine.shutdown(cx.span()).await;
    assert_eq!((report.drained, report.abandoned), (0, 1), "{report:?}");
    assert_eq!(cx.caller().reserved().await.attempt, 2);
    hung.abort();
}

async fn n110_after_a_shutdown_nothing_new_runs(cx: Context) {
    let engine = engine(&cx);
    let report = engine.shutdown(cx.span()).await;
    assert_eq!((report.drained, report.abandoned), (0, 0), "{report:?}");
    let refused = engine.execute(&cx.key(), &fingerprint("payload"), never_run).await;
    assert!(matches!(refused, Err(ExecuteError::Store(_))), "{refused:?}");
    assert_eq!(cx.caller().get().await, None);
}

async fn n111_an_expired_key_is_refused_until_it_is_resolved(cx: Context) {
    let engine = expired(&cx).await;
    let refused = engine.execute(&cx.key(), &fingerprint("payload"), never_run).await;
    assert!(matches!(refused, Ok(Outcome::LeaseExpired { attempt: 1 })), "{refused:?}");
}

async fn n111_an_operator_completes_an_expired_key(cx: Context) {
    let engine = expired(&cx).await;
    let found = Resolution::Complete(StoredValue::bytes("found by the operator"));
    assert_eq!(resolve(&cx, &engine, found).await, ResolveOutcome::Resolved);
    let handler = |_| async { Ok::<_, Infallible>(Bytes::from("run again")) };
    let replayed = engine.execute_bytes(&cx.key(), &fingerprint("payload"), handler).await;
    assert!(
        matches!(&replayed, Ok(Outcome::Replayed(value)) if value == "found by the operator"),
        "{replayed:?}"
    );
}

async fn n111_an_operator_releases_an_expired_key(cx: Context) {
    let engine = expired(&cx).await;
    assert_eq!(resolve(&cx, &engine, Resolution::Release).await, ResolveOutcome::Resolved);
    assert!(matches!(run(&cx, &engine, "first").await, Ok(Outcome::Executed(_))));
}

async fn n111_an_operator_does_not_disturb_a_live_owner(cx: Context) {
    let engine = engine(&cx);
    let owner = cx.caller();
    owner.reserved().await;
    let outcome = resolve(&cx, &engine, Resolution::Release).await;
    assert!(matches!(outcome, ResolveOutcome::StillRunning { .. }), "{outcome:?}");
    owner.completed("an answer").await;
    assert_eq!(resolve(&cx, &engine, Resolution::Release).await, ResolveOutcome::AlreadyCompleted);
}

async fn n111_an_operator_finds_nothing_to_resolve(cx: Context) {
    assert_eq!(resolve(&cx, &engine(&cx), Resolution::Release).await, ResolveOutcome::NotFound);
    assert_eq!(cx.caller().get().await, None);
}

async fn expired(cx: &Context) -> Engine {
    let owner = cx.caller();
    owner.reserved().await;
    owner.abandoned().await;
    build(builder(cx).expired_lease(ExpiredLeasePolicy::Refuse))
}

async fn resolve(cx: &Context, engine: &Engine, resolution: Resolution) -> ResolveOutcome {
    engine.resolve(&cx.key(), resolution).await.expect("the store works")
}
