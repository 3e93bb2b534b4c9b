//! Duels: two calls on one key at once, many times. Either may come first; a case refuses what no order explains.

use std::sync::Arc;

use idem_core::store::ReserveOutcome;
use idem_core::{AbandonOutcome, CompleteOutcome, Key, ReleaseOutcome, RenewOutcome, ReservationStore};
use tokio::sync::Barrier;

use crate::Caller;
use crate::case::{Context, cases, joined};
use crate::values::{HOUR, bytes, key};

cases![Threads:
    n68_of_a_completion_and_a_takeover_exactly_one_is_accepted,
    n68_of_two_different_completions_by_the_owner_one_is_accepted,
    n68_of_a_completion_and_a_release_by_the_owner_one_is_accepted,
    n69_a_release_against_a_reserve_leaves_no_phantom_owner,
    n70_a_renewal_against_an_abandon_leaves_the_key_open,
];

/// How many duels a case has. Both orders must occur for the case to mean much.
const ROUNDS: usize = 64;

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
        let (one, other) = (owner.clone(), owner.clone().through(Arc::clone(&round.second_handle)));
        let one = async move { one.complete("one").await };
        let other = async move { other.complete("the other").await };
        let stored = match round.duel(one, other).await {
            (CompleteOutcome::Completed, CompleteOutcome::AnswerConflict) => "one",
            (CompleteOutcome::AnswerConflict, CompleteOutcome::Completed) => "the other",
            other => panic!("no order explains {other:?}"),
        };
        assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes(stored))));
    }
}

async fn n68_of_a_completion_and_a_release_by_the_owner_one_is_accepted(cx: Context) {
    for round in Round::all(&cx).await {
        let owner = round.left();
        owner.reserved().await;
        let (one, other) = (owner.clone(), owner.clone().through(Arc::clone(&round.second_handle)));
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
        let challenger = next.clone();
        let reserve = async move { challenger.reserve().await };
        match round.duel(release, reserve).await {
            (ReleaseOutcome::Released, ReserveOutcome::Reserved { attempt: 1, .. }) => {
                assert_eq!(next.complete("an answer").await, CompleteOutcome::Completed);
            }
            (ReleaseOutcome::Released, ReserveOutcome::InFlight { .. }) => {
                assert_eq!(next.complete("an answer").await, CompleteOutcome::Lost);
                assert_eq!(cx.caller_of(next.key()).reserved().await.attempt, 1);
            }
            other => panic!("no order explains {other:?}"),
        }
    }
}

async fn n70_a_renewal_against_an_abandon_leaves_the_key_open(cx: Context) {
    for round in Round::all(&cx).await {
        let owner = round.left();
        owner.reserved().await;
        let other = owner.clone().through(Arc::clone(&round.second_handle));
        let renew = async move { owner.renew(HOUR).await };
        let abandon = async move { other.abandon().await };
        match round.duel(renew, abandon).await {
            (RenewOutcome::Renewed { .. } | RenewOutcome::Lost, AbandonOutcome::Abandoned) => {}
            other => panic!("no order explains {other:?}"),
        }
        assert_eq!(cx.caller_of(&round.key).reserved().await.attempt, 2);
    }
}

/// One of many duels. Each has its own key.
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

    /// Runs both at once. The one that reaches the barrier last runs first, so they take turns at that: both orders occur,
    /// even if one thread is slow to wake.
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
