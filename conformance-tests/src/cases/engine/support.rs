//! Engines and handlers that the cases share.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use idem_core::{Attempt, Engine, EngineBuilder, ExecuteError, Outcome};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Faulty;
use crate::case::Context;
use crate::values::{DAY, HOUR, fingerprint};

pub(super) type Executed<E = Infallible> = Result<Outcome<String>, ExecuteError<E>>;

pub(super) fn builder(cx: &Context) -> EngineBuilder {
    Engine::builder(cx.store()).lease(HOUR).retention(DAY)
}

pub(super) fn engine(cx: &Context) -> Engine {
    build(builder(cx))
}

pub(super) fn build(builder: EngineBuilder) -> Engine {
    builder.build().expect("the cases' settings are valid")
}

pub(super) fn faulty(
    cx: &Context,
    settings: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> (Engine, Arc<Faulty>) {
    let faults = Arc::new(Faulty::new(cx.store()));
    (build(settings(Engine::builder(faults.clone()).lease(HOUR))), faults)
}

pub(super) async fn run(cx: &Context, engine: &Engine, value: &'static str) -> Executed {
    engine.execute(&cx.key(), &fingerprint("payload"), |_| async { Ok(value.to_owned()) }).await
}

pub(super) async fn never_run(attempt: Attempt) -> Result<String, Infallible> {
    panic!("the handler ran as attempt {}", attempt.number)
}

pub(super) async fn hang(cx: &Context, engine: &Engine) -> JoinHandle<()> {
    let (engine, key) = (engine.clone(), cx.key());
    let (started, has_started) = oneshot::channel();
    let hung = tokio::spawn(async move {
        let handler = |_| async {
            let _ = started.send(());
            pending::<Result<String, Infallible>>().await
        };
        drop(engine.execute(&key, &fingerprint("payload"), handler).await);
    });
    has_started.await.expect("the handler runs");
    hung
}

pub(super) async fn next_attempt(cx: &Context, engine: &Engine) -> u32 {
    let handler = |attempt: Attempt| async move { Ok::<_, Infallible>(attempt.number) };
    match engine.execute(&cx.key(), &fingerprint("payload"), handler).await {
        Ok(Outcome::Executed(number)) => number,
        other => panic!("the next caller did not run: {other:?}"),
    }
}

pub(super) async fn can_be_taken_over(cx: &Context) -> bool {
    cx.caller().get().await.is_some_and(|view| view.can_be_taken_over())
}

pub(super) async fn is_completed(cx: &Context) -> bool {
    cx.caller().snapshot().await.is_some_and(|snapshot| snapshot.answer.is_some())
}
