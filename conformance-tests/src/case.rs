//! [`Case`]: one named guarantee, and `cases!`, the list at the head of each file of them.

use std::pin::Pin;

use crate::context::Context;
use crate::{Ability, Clock, Harness};

/// One case of the suite: a behaviour, checked on a fresh store.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub(crate) module: &'static str,
    pub(crate) function: &'static str,
    pub(crate) setting: Setting,
    pub(crate) needs: &'static [Need],
    pub(crate) run: fn(Context) -> CaseFuture,
}

impl Case {
    /// The name: the chapter, the scenario's number and the guarantee, like
    /// `reserve::n03_another_owner_during_the_lease_is_in_flight`.
    pub fn name(&self) -> String {
        let chapter = self.module.split_once("::").map_or(self.module, |(_crate, module)| module);
        format!("{}::{}", chapter.trim_start_matches("cases::"), self.function)
    }

    /// Why the backend cannot take part; `None` if it can.
    pub fn ignored(&self, harness: &dyn Harness) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.unmet(harness, self.setting))
    }

    /// Whether threads run against each other in it, so that a broken store may pass by luck.
    pub fn is_concurrent(&self) -> bool {
        self.setting == Setting::Threads
    }
}

/// What a case's function returns. It stays on the thread that made it.
pub(crate) type CaseFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What a case runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// One thread; the clock is moved in leaps.
    Store,
    /// One thread; tokio's timers run too, so time passes step by step.
    Engine,
    /// Real threads, in real time.
    Threads,
}

/// What a case needs of a backend beyond the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The clock can be moved: the case looks at a record some time before a span ends, then after it.
    MovableClock,
    /// The clock stands still unless it is moved: the case looks at the very instant at which a span ends.
    ExactClock,
    /// The store has a limit on answers.
    AnswerLimit,
    /// Expired records stay until they are swept, so that a sweep's count can be foretold.
    RemovesOnlyWhenSwept,
    /// The harness has a hook.
    Has(Ability),
}

impl Need {
    fn unmet(self, harness: &dyn Harness, setting: Setting) -> Option<&'static str> {
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

/// Whether time can be moved rather than waited for.
pub(crate) fn is_movable(clock: Clock, setting: Setting) -> bool {
    match (clock, setting) {
        (Clock::Real, _) => false,
        // A runtime with threads cannot pause tokio's clock.
        (Clock::Tokio, setting) => setting != Setting::Threads,
        // The engine's timers are tokio's, and have to keep pace with the store.
        (Clock::Manual | Clock::Adjustable, setting) => setting != Setting::Engine,
    }
}

/// Lists the cases of a file as its `CASES`. Each is a private function, so one that is left out is a warning.
///
/// The setting stands first; what a case needs beyond the contract follows its name.
macro_rules! cases {
    ($setting:ident: $($function:ident $([$($need:expr),+])?),+ $(,)?) => {
        pub(crate) const CASES: &[$crate::case::Case] = &[$(
            $crate::case::Case {
                module: module_path!(),
                function: stringify!($function),
                setting: $crate::case::Setting::$setting,
                needs: {
                    #[allow(unused_imports, reason = "most cases need nothing")]
                    use $crate::{Ability::*, case::Need::*};
                    &[$($($need),+)?]
                },
                run: |cx| Box::pin($function(cx)),
            }
        ),+];
    };
}
pub(crate) use cases;
