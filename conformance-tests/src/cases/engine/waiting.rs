//! Waiting: callers that wait for another's answer, and what they cost the store.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use idem_core::{Engine, InFlightPolicy, Operation, Outcome, ReservationStore};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

use super::support::{Executed, build};
use crate::Counted;
use crate::case::{Context, cases, joined};
use crate::values::{HOUR, SECOND, fingerprint, key, usual_key};

cases![Engine:
    n71_a_thousand_waiters_have_one_run_and_are_all_answered,
    n71_a_thousand_waiters_cost_the_store_what_one_costs,
    n71_a_thousand_waiters_of_another_process_cost_the_store_what_one_costs,
    n71_when_the_owner_vanishes_exactly_one_waiter_runs,
    n72_a_slow_key_delays_no_other,
    n73_a_waiter_that_joins_at_the_instant_of_completion_gets_the_answer,
    n74_waiters_with_another_payload_get_no_bytes,
];

const WAITERS: usize = 1000;

async fn n71_a_thousand_waiters_have_one_run_and_are_all_answered(cx: Context) {
    let (outcomes, _) = a_thousand_waiters(&cx).await;
    let executed = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Executed(_)))).count();
    let answered =
        |outcome: &&Executed| matches!(outcome, Ok(Outcome::Replayed(value)) if value == "the answer");
    assert_eq!((executed, outcomes.iter().filter(answered).count()), (1, WAITERS - 1));
}

async fn n71_a_thousand_waiters_cost_the_store_what_one_costs(cx: Context) {
    let (_, counted) = a_thousand_waiters(&cx).await;
    assert_eq!((counted.calls(Operation::Reserve), counted.calls(Operation::Complete)), (1, 1));
    assert!(counted.total() <= 5, "{counted:?}");
}

/// The owner is not in this process, so it has to be watched through the store.
async fn n71_a_thousand_waiters_of_another_process_cost_the_store_what_one_costs(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    let counted = Counted::new(cx.second_handle().await);
    let engine = waiting(counted.clone());
    let waiters: Vec<_> = (0..WAITERS).map(|_| wait(&engine, "payload")).collect();
    tokio::time::sleep(SECOND).await;
    let answer = idem_core::Codec::Json.encode(0, &"the answer").expect("a string can be encoded");
    owner.completed_for(HOUR, answer.into()).await;
    for waiter in waiters {
        let outcome = joined(waiter).await;
        assert!(matches!(&outcome, Ok(Outcome::Replayed(value)) if value == "the answer"), "{outcome:?}");
    }
    // One waiter alone polls a few times a second.
    assert!(counted.total() <= 100, "{counted:?}");
}

async fn n71_when_the_owner_vanishes_exactly_one_waiter_runs(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    let engine = waiting(cx.second_handle().await);
    let waiters: Vec<_> = (0..100).map(|_| wait(&engine, "payload")).collect();
    yield_now().await;
    owner.abandoned().await;
    let mut executed = 0;
    for waiter in waiters {
        match joined(waiter).await {
            Ok(Outcome::Executed(_)) => executed += 1,
            Ok(Outcome::Replayed(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(executed, 1);
}

async fn n72_a_slow_key_delays_no_other(cx: Context) {
    let engine = waiting(cx.store());
    let (started, has_started) = oneshot::channel();
    let slow = tokio::spawn({
        let (engine, key) = (engine.clone(), cx.key());
        async move {
            let handler = |_| async {
                let _ = started.send(());
                pending::<Result<String, Infallible>>().await
            };
            drop(engine.execute(&key, &fingerprint("payload"), handler).await);
        }
    });
    has_started.await.expect("the handler runs");
    let waiters: Vec<_> = (0..100).map(|_| wait(&engine, "payload")).collect();
    for number in 0..100 {
        let key = key("quick", format!("{number}"));
        let outcome: Executed =
            engine.execute(&key, &fingerprint("payload"), |_| async { Ok(String::new()) }).await;
        assert!(matches!(outcome, Ok(Outcome::Executed(_))), "{outcome:?}");
    }
    assert!(!slow.is_finished() && waiters.iter().all(|waiter| !waiter.is_finished()));
    slow.abort();
    waiters.iter().for_each(JoinHandle::abort);
}

/// The waiter starts a little later each time, so that in some round it comes at the very instant.
async fn n73_a_waiter_that_joins_at_the_instant_of_completion_gets_the_answer(cx: Context) {
    for delay in 0..40 {
        let engine = waiting(cx.store());
        let key = key("instant", format!("{delay}"));
        let first = execute(&engine, &key, "payload");
        for _ in 0..delay {
            yield_now().await;
        }
        let second = execute(&engine, &key, "payload");
        let outcomes = [joined(first).await, joined(second).await];
        let is_answered =
            |outcome: &Executed| matches!(outcome, Ok(Outcome::Executed(_) | Outcome::Replayed(_)));
        assert!(outcomes.iter().all(is_answered), "{outcomes:?}");
    }
}

async fn n74_waiters_with_another_payload_get_no_bytes(cx: Context) {
    let engine = waiting(cx.store());
    let (finish, may_finish) = oneshot::channel::<()>();
    let owner = tokio::spawn({
        let (engine, key) = (engine.clone(), cx.key());
        async move {
            let handler = |_| async {
                let _ = may_finish.await;
                Ok::<_, Infallible>("the answer".to_owned())
            };
            engine.execute(&key, &fingerprint("payload"), handler).await
        }
    });
    yield_now().await;
    let same: Vec<_> = (0..20).map(|_| wait(&engine, "payload")).collect();
    let others: Vec<_> = (0..20).map(|_| wait(&engine, "another")).collect();
    yield_now().await;
    finish.send(()).expect("the handler runs");
    assert!(matches!(joined(owner).await, Ok(Outcome::Executed(_))));
    for waiter in same {
        assert!(matches!(joined(waiter).await, Ok(Outcome::Replayed(value)) if value == "the answer"));
    }
    for waiter in others {
        let outcome = joined(waiter).await;
        assert!(matches!(outcome, Ok(Outcome::FingerprintMismatch)), "{outcome:?}");
    }
}

/// A thousand callers of one engine, whose handler ends only when all of them have joined.
async fn a_thousand_waiters(cx: &Context) -> (Vec<Executed>, Counted) {
    let counted = Counted::new(cx.store());
    let engine = waiting(counted.clone());
    let here = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..WAITERS)
        .map(|_| {
            let (engine, key, here) = (engine.clone(), cx.key(), Arc::clone(&here));
            tokio::spawn(async move {
                here.fetch_add(1, Ordering::SeqCst);
                let handler = |_| async {
                    while here.load(Ordering::SeqCst) < WAITERS {
                        yield_now().await;
                    }
                    Ok("the answer".to_owned())
                };
                engine.execute(&key, &fingerprint("payload"), handler).await
            })
        })
        .collect();
    let mut outcomes = Vec::with_capacity(WAITERS);
    for caller in callers {
        outcomes.push(joined(caller).await);
    }
    (outcomes, counted)
}

/// An engine whose callers wait. Its leases end in no case.
fn waiting(store: impl ReservationStore) -> Engine {
    build(Engine::builder(store).lease(HOUR).in_flight(InFlightPolicy::Wait { timeout: HOUR }))
}

fn wait(engine: &Engine, payload: &'static str) -> JoinHandle<Executed> {
    execute(engine, &usual_key(), payload)
}

fn execute(engine: &Engine, key: &idem_core::Key, payload: &'static str) -> JoinHandle<Executed> {
    let (engine, key) = (engine.clone(), key.clone());
    tokio::spawn(async move {
        engine.execute(&key, &fingerprint(payload), |_| async { Ok("the answer".to_owned()) }).await
    })
}
