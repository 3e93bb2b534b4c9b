//! Crowds: many callers of the same keys at once, of which one runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use idem_core::store::ReserveOutcome;
use idem_core::{Engine, InFlightPolicy, Outcome};

use crate::Caller;
use crate::case::{Context, cases, joined};
use crate::values::{HOUR, bytes, fingerprint, key};

cases![Threads:
    n61_callers_around_the_expiry_of_an_answer_get_one_kind_of_answer_each,
    n66_of_64_reserves_at_once_one_is_reserved,
    n67_of_64_reserves_at_the_end_of_a_lease_one_takes_over,
    n75_200_keys_times_16_callers_have_one_owner_each,
    n75_200_keys_times_16_callers_of_two_engines_run_each_handler_once,
];

async fn n61_callers_around_the_expiry_of_an_answer_get_one_kind_of_answer_each(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(cx.span(), bytes("an answer")).await;
    let expire = cx.clone();
    let expired = tokio::spawn(async move { expire.pass(expire.span()).await });
    let outcomes = cx
        .race(8, |_, store| {
            let (cx, store) = (cx.clone(), store);
            async move {
                let mut outcomes = Vec::new();
                loop {
                    let outcome = cx.caller().through(store.clone()).reserve().await;
                    let is_over = !matches!(outcome, ReserveOutcome::Completed { .. });
                    outcomes.push(outcome);
                    if is_over {
                        return outcomes;
                    }
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
    joined(expired).await;
    let (mut reserved, mut others) = (0, Vec::new());
    for outcome in outcomes.into_iter().flatten() {
        match outcome {
            ReserveOutcome::Completed { answer, attempt: 1 } if answer == bytes("an answer") => {}
            ReserveOutcome::Reserved { attempt: 1, .. } => reserved += 1,
            ReserveOutcome::InFlight { attempt: 1, .. } => {}
            other => others.push(other),
        }
    }
    assert_eq!((reserved, others), (1, vec![]));
}

async fn n66_of_64_reserves_at_once_one_is_reserved(cx: Context) {
    let outcomes = cx.race(64, |_, store| reserve(cx.caller().through(store))).await;
    expect_one_owner(&outcomes, 1);
}

async fn n67_of_64_reserves_at_the_end_of_a_lease_one_takes_over(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let outcomes = cx.race(64, |_, store| reserve(cx.caller().through(store))).await;
    expect_one_owner(&outcomes, 2);
}

async fn n75_200_keys_times_16_callers_have_one_owner_each(cx: Context) {
    let keys: Vec<_> = (0..200).map(|number| key("double create", format!("{number}"))).collect();
    let outcomes = cx
        .race(16, |_, store| {
            let callers: Vec<_> = keys.iter().map(|key| cx.caller_of(key).through(store.clone())).collect();
            async move {
                let mut outcomes = Vec::new();
                for caller in callers {
                    outcomes.push(caller.reserve().await);
                }
                outcomes
            }
        })
        .await;
    for number in 0..keys.len() {
        let of_key: Vec<_> = outcomes.iter().map(|of_caller| of_caller[number].clone()).collect();
        expect_one_owner(&of_key, 1);
    }
}

/// The double create: every caller would create the database, and one does.
async fn n75_200_keys_times_16_callers_of_two_engines_run_each_handler_once(cx: Context) {
    let keys: Vec<_> = (0..200).map(|number| key("database", format!("{number}"))).collect();
    let created: Arc<[AtomicUsize]> = keys.iter().map(|_| AtomicUsize::new(0)).collect();
    let policy = InFlightPolicy::Wait { timeout: HOUR };
    let engines = [cx.store(), cx.second_handle().await].map(|store| {
        Engine::builder(store).lease(HOUR).in_flight(policy).build().expect("the settings are valid")
    });
    cx.race(16, |index, _| {
        let (engine, keys, created) = (engines[index % 2].clone(), keys.clone(), Arc::clone(&created));
        async move {
            for (key, created) in keys.iter().zip(&*created) {
                let create = |_| async { Ok::<_, Infallible>(created.fetch_add(1, Ordering::SeqCst)) };
                match engine.execute(key, &fingerprint("payload"), create).await {
                    Ok(Outcome::Executed(0) | Outcome::Replayed(0)) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    })
    .await;
    assert!(created.iter().all(|created| created.load(Ordering::SeqCst) == 1));
}

async fn reserve(caller: Caller) -> ReserveOutcome {
    caller.reserve().await
}

/// Expects one caller to own the key as this attempt, and the others to find it in flight.
fn expect_one_owner(outcomes: &[ReserveOutcome], expected: u32) {
    let owners = outcomes.iter().filter(
        |outcome| matches!(outcome, ReserveOutcome::Reserved { attempt, .. } if *attempt == expected),
    );
    let refused = outcomes.iter().filter(
        |outcome| matches!(outcome, ReserveOutcome::InFlight { attempt, .. } if *attempt == expected),
    );
    assert_eq!((owners.count(), refused.count()), (1, outcomes.len() - 1), "{outcomes:?}");
}
