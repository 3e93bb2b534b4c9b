//! [`Setting`] and [`Need`]: what a case runs in, and what it needs of a backend.

use crate::{Ability, Clock, Harness};

/// What a case runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// One thread. The clock moves in leaps.
    Store,
    /// One thread. Tokio's timers run too, so time passes step by step.
    Engine,
    /// Several threads, in real time.
    Threads,
}

/// What a case needs of a backend beyond the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The clock can be moved: the case looks at a record some time before a span ends, and after it.
    MovableClock,
    /// The clock stands still unless it is moved: the case looks at the very instant at which a span ends.
    ExactClock,
    /// The store has a limit on answers.
    AnswerLimit,
    /// Expired records stay until a sweep, so that the case knows how many a sweep removes.
    RemovesOnlyWhenSwept,
    /// The harness has a hook.
    Has(Ability),
}

impl Need {
    /// Why the backend does not meet this need; `None` if it does.
    pub(super) fn unmet(self, harness: &dyn Harness, setting: Setting) -> Option<&'static str> {
        let clock = harness.clock();
        match self {
            Self::MovableClock => (!is_movable(clock, setting)).then_some(
                "the clock cannot be moved here, and the case looks at a record before its time is up",
            ),
            Self::ExactClock => (!is_movable(clock, setting) || clock == Clock::Adjustable).then_some(
                "the clock does not stand still, and the case looks at the instant when a span ends",
            ),
            Self::AnswerLimit => {
                harness.max_answer_bytes().is_none().then_some("the store has no limit of its own")
            }
            Self::RemovesOnlyWhenSwept => {
                harness.removes_by_itself().then_some("the backend removes expired records by itself")
            }
            Self::Has(ability) => harness.lacks(ability),
        }
    }
}

/// Whether the case can move time and need not wait.
pub(super) fn is_movable(clock: Clock, setting: Setting) -> bool {
    match (clock, setting) {
        (Clock::Real, _) => false,
        // A runtime with several threads cannot pause tokio's clock.
        (Clock::Tokio, setting) => setting != Setting::Threads,
        // The engine's timers are tokio's, and the store's clock must not run ahead of them.
        (Clock::Manual | Clock::Adjustable, setting) => setting != Setting::Engine,
    }
}
