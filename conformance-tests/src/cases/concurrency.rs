//! Concurrency: callers on real threads, half of them through a second handle, who all want the same at once.
//!
//! Where an outcome depends on who comes first, the case accepts either, and refuses what no order explains.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use idem_core::store::ReserveOutcome;
use idem_core::{
    AbandonOutcome, CompleteOutcome, Engine, InFlightPolicy, Key, Outcome, ReleaseOutcome, RenewOutcome,
    ReservationStore,
};
use tokio::sync::Barrier;

use crate::caller::{Caller, bytes};
use crate::case::cases;
use crate::context::{Context, HOUR, fingerprint, joined, key};

cases![Threads:
    n61_callers_around_the_expiry_of_an_answer_get_one_kind_of_answer_each,
    n63_a_sweep_against_reserves_of_expired_keys_loses_no_reservation,
    n63_a_sweep_under_load_loses_nothing,
    n66_of_64_reserves_at_once_one_is_reserved,
    n67_of_64_reserves_at_the_end_of_a_lease_one_takes_over,
    n68_of_a_completion_and_a_takeover_exactly_one_is_accepted,
    n68_of_two_different_completions_by_the_owner_one_is_accepted,
    n68_of_a_completion_and_a_release_by_the_owner_one_is_accepted,
    n69_a_release_against_a_reserve_leaves_no_phantom_owner,
    n70_a_renewal_against_an_abandon_leaves_the_key_open,
    n75_200_keys_times_16_callers_have_one_owner_each,
    n75_200_keys_times_16_callers_of_two_engines_run_each_handler_once,
    n82_flushed_scripts_under_load_lose_nothing [Has(FlushScripts)],
];

/// How often two callers duel. Either order has to be seen for the case to mean much.
const ROUNDS: usize = 64;

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

async fn n63_a_sweep_against_reserves_of_expired_keys_loses_no_reservation(cx: Context) {
    let keys: Vec<_> = (0..2 * ROUNDS).map(|round| key("swept", format!("{round}"))).collect();
    for key in &keys {
        let owner = cx.caller_of(key);
        owner.reserved().await;
        owner.completed_for(cx.span(), bytes("an old answer")).await;
    }
    cx.pass(cx.span()).await;
    let (busy, sweeping) = (Arc::new(AtomicUsize::new(6)), Arc::new(AtomicBool::new(false)));
    let sweeps_and_reserves = cx.race(8, |index, store| {
        let callers: Vec<_> = keys.iter().map(|key| cx.caller_of(key).through(store.clone())).collect();
        let (busy, sweeping) = (Arc::clone(&busy), Arc::clone(&sweeping));
        async move {
            if index >= 6 {
                sweeping.store(true, Ordering::SeqCst);
                sweep_while(&*store, &busy).await;
                return Vec::new();
            }
            while !sweeping.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            let mut winners = Vec::new();
            for caller in callers {
                if let ReserveOutcome::Reserved { attempt, .. } = caller.reserve().await {
                    assert_eq!(attempt, 1);
                    winners.push(caller);
                }
                // Gives the sweepers their turn, so that they meet.
                tokio::task::yield_now().await;
            }
            busy.fetch_sub(1, Ordering::SeqCst);
            winners
        }
    });
    let winners: Vec<_> = sweeps_and_reserves.await.into_iter().flatten().collect();
    assert_eq!(winners.len(), keys.len(), "each key has one new owner");
    for winner in winners {
        assert_eq!(winner.complete("a new answer").await, CompleteOutcome::Completed);
    }
}

async fn n63_a_sweep_under_load_loses_nothing(cx: Context) {
    let owners: Vec<_> =
        (0..6 * ROUNDS).map(|number| cx.caller_of(&key("load", format!("{number}")))).collect();
    let busy = Arc::new(AtomicUsize::new(6));
    cx.race(8, |index, store| {
        let (owners, busy) = (owners.clone(), Arc::clone(&busy));
        async move {
            if let Some(owners) = owners.chunks(ROUNDS).nth(index) {
                for owner in owners {
                    let owner = owner.clone().through(store.clone());
                    owner.reserved().await;
                    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
                }
                busy.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            sweep_while(&*store, &busy).await;
        }
    })
    .await;
    for owner in owners {
        assert!(owner.look().await.is_some_and(|look| look.answer == Some(bytes("an answer"))));
    }
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

async fn n68_of_a_completion_and_a_takeover_exactly_one_is_accepted(cx: Context) {
    for round in Round::all(&cx).await {
        let (owner, challenger) = (round.left(), round.right());
        owner.reserved().await;
        owner.abandoned().await;
        let complete = async move { owner.complete("the owner's").await };
        let take_over = async move {
            let reserved = challenger.reserve().await;
            (reserved, challenger.complete("the challenger's").await)
        };
        match round.duel(complete, take_over).await {
            (
                CompleteOutcome::Completed,
                (ReserveOutcome::Completed { answer, attempt: 1 }, CompleteOutcome::Lost),
            ) => assert!(answer == bytes("the owner's")),
            (
                CompleteOutcome::Lost,
                (ReserveOutcome::Reserved { attempt: 2, .. }, CompleteOutcome::Completed),
            ) => {}
            other => panic!("no order explains {other:?}"),
        }
    }
}

async fn n68_of_two_different_completions_by_the_owner_one_is_accepted(cx: Context) {
    for round in Round::all(&cx).await {
        let owner = round.left();
        owner.reserved().await;
        let (one, other) = (owner.clone(), owner.clone().through(round.right().store));
        let one = async move { one.complete("one").await };
        let other = async move { other.complete("the other").await };
        let stored = match round.duel(one, other).await {
            (CompleteOutcome::Completed, CompleteOutcome::AnswerConflict) => "one",
            (CompleteOutcome::AnswerConflict, CompleteOutcome::Completed) => "the other",
            other => panic!("no order explains {other:?}"),
        };
        assert!(owner.look().await.is_some_and(|look| look.answer == Some(bytes(stored))));
    }
}

async fn n68_of_a_completion_and_a_release_by_the_owner_one_is_accepted(cx: Context) {
    for round in Round::all(&cx).await {
        let owner = round.left();
        owner.reserved().await;
        let (one, other) = (owner.clone(), owner.clone().through(round.right().store));
        let complete = async move { one.complete("an answer").await };
        let release = async move { other.release().await };
        let is_stored = match round.duel(complete, release).await {
            (CompleteOutcome::Completed, ReleaseOutcome::AlreadyCompleted) => true,
            (CompleteOutcome::Lost, ReleaseOutcome::Released) => false,
            other => panic!("no order explains {other:?}"),
        };
        assert_eq!(owner.get().await.is_some(), is_stored);
    }
}

async fn n69_a_release_against_a_reserve_leaves_no_phantom_owner(cx: Context) {
    for round in Round::all(&cx).await {
        let (owner, next) = (round.left(), round.right());
        owner.reserved().await;
        let release = async move { owner.release().await };
        let reserve = reserve(next.clone());
        match round.duel(release, reserve).await {
            (ReleaseOutcome::Released, ReserveOutcome::Reserved { attempt: 1, .. }) => {
                assert_eq!(next.complete("an answer").await, CompleteOutcome::Completed);
            }
            (ReleaseOutcome::Released, ReserveOutcome::InFlight { .. }) => {
                assert_eq!(next.complete("an answer").await, CompleteOutcome::Lost);
                assert_eq!(cx.caller_of(&next.key).reserved().await.attempt, 1);
            }
            other => panic!("no order explains {other:?}"),
        }
    }
}

async fn n70_a_renewal_against_an_abandon_leaves_the_key_open(cx: Context) {
    for round in Round::all(&cx).await {
        let owner = round.left();
        owner.reserved().await;
        let other = owner.clone().through(round.right().store);
        let renew = async move { owner.renew(HOUR).await };
        let abandon = async move { other.abandon().await };
        match round.duel(renew, abandon).await {
            (RenewOutcome::Renewed { .. } | RenewOutcome::Lost, AbandonOutcome::Abandoned) => {}
            other => panic!("no order explains {other:?}"),
        }
        assert_eq!(cx.caller_of(&round.key).reserved().await.attempt, 2);
    }
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

/// The double create: every caller would make the database, one may.
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

async fn n82_flushed_scripts_under_load_lose_nothing(cx: Context) {
    let owners: Vec<_> =
        (0..4 * ROUNDS).map(|number| cx.caller_of(&key("load", format!("{number}")))).collect();
    cx.race(5, |index, store| {
        let (cx, owners) = (cx.clone(), owners.clone());
        async move {
            let Some(owners) = owners.chunks(ROUNDS).nth(index) else {
                for _ in 0..ROUNDS {
                    cx.instance().flush_scripts().await;
                    tokio::task::yield_now().await;
                }
                return;
            };
            for owner in owners {
                let owner = owner.clone().through(store.clone());
                owner.reserved().await;
                owner.completed("an answer").await;
            }
        }
    })
    .await;
    for owner in owners {
        assert!(owner.look().await.is_some_and(|look| look.answer == Some(bytes("an answer"))));
    }
}

/// One of many duels, on a key of its own.
struct Round {
    cx: Context,
    number: usize,
    key: Key,
    second_handle: Arc<dyn ReservationStore>,
}

impl Round {
    async fn all(cx: &Context) -> Vec<Self> {
        let second_handle = cx.second_handle().await;
        let round = |number| Self {
            cx: cx.clone(),
            number,
            key: key("round", format!("{number}")),
            second_handle: Arc::clone(&second_handle),
        };
        (0..ROUNDS).map(round).collect()
    }

    fn left(&self) -> Caller {
        self.cx.caller_of(&self.key)
    }

    fn right(&self) -> Caller {
        self.cx.caller_of(&self.key).through(Arc::clone(&self.second_handle))
    }

    /// Runs both at once. Who comes to the start last sets out first, so they take turns at that: both orders are
    /// seen, also where one thread is slow to wake.
    async fn duel<L: Send + 'static, R: Send + 'static>(
        &self,
        left: impl Future<Output = L> + Send + 'static,
        right: impl Future<Output = R> + Send + 'static,
    ) -> (L, R) {
        let start = Arc::new(Barrier::new(2));
        let (start_left, start_right) = (Arc::clone(&start), start);
        let left = async move {
            start_left.wait().await;
            left.await
        };
        let right = async move {
            start_right.wait().await;
            right.await
        };
        let (left, right) = if self.number.is_multiple_of(2) {
            (tokio::spawn(left), tokio::spawn(right))
        } else {
            let right = tokio::spawn(right);
            (tokio::spawn(left), right)
        };
        (joined(left).await, joined(right).await)
    }
}

/// Sweeps while others are busy, and once more after the last of them is done.
async fn sweep_while(store: &dyn ReservationStore, busy: &AtomicUsize) {
    let mut is_last = false;
    while !is_last {
        is_last = busy.load(Ordering::SeqCst) == 0;
        store.sweep(usize::MAX).await.expect("a sweep works");
        tokio::task::yield_now().await;
    }
}

async fn reserve(caller: Caller) -> ReserveOutcome {
    caller.reserve().await
}

/// One caller owns the key as this attempt, and everybody else was told that it is in flight.
fn expect_one_owner(outcomes: &[ReserveOutcome], expected: u32) {
    let owners = outcomes.iter().filter(
        |outcome| matches!(outcome, ReserveOutcome::Reserved { attempt, .. } if *attempt == expected),
    );
    let refused = outcomes.iter().filter(
        |outcome| matches!(outcome, ReserveOutcome::InFlight { attempt, .. } if *attempt == expected),
    );
    assert_eq!((owners.count(), refused.count()), (1, outcomes.len() - 1), "{outcomes:?}");
}
