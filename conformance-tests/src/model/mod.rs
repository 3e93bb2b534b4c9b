//! Sequential model: random sequences of all operations, with time between them, compared with the
//! [oracle](crate::oracle).
//!
//! Each sequence has its own key in one store. A sequence that fails is shrunk and printed as code for [`regressions`].

mod regressions;
mod step;

use std::sync::Arc;
use std::time::Duration;

use idem_core::store::OwnerToken;
use idem_core::{Key, ReservationStore};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::Clock;
use crate::case::{Context, cases};
use crate::oracle::Oracle;
use crate::process::with_second_process;
use crate::rng::seed;
use crate::values::{HOUR, MILLI, key};
use step::Step;

cases![Store:
    random_sequences_agree_with_the_oracle [MovableClock],
    random_sequences_of_two_processes_agree_with_the_oracle [MovableClock, Has(OutlivesProcess)],
    sequences_that_once_failed_agree_with_the_oracle [MovableClock],
];

/// The number of random sequences.
const SEQUENCES: usize = 400;

async fn random_sequences_of_two_processes_agree_with_the_oracle(cx: Context) {
    random_sequences_agree_with_the_oracle(with_second_process(&cx).await).await;
}

async fn random_sequences_agree_with_the_oracle(cx: Context) {
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut player = Player::new(cx).await;
    for _ in 0..SEQUENCES {
        let mut tree = step::sequences().new_tree(&mut runner).expect("nothing is filtered out");
        let Err(failure) = player.play(&tree.current()).await else { continue };
        let (steps, failure) = shrunk(&mut player, &mut tree, failure).await;
        panic!("seed {seed}: {failure}\nIt failed as the last step of\n{steps:#?}");
    }
}

async fn sequences_that_once_failed_agree_with_the_oracle(cx: Context) {
    let mut player = Player::new(cx).await;
    for (name, steps) in regressions::all() {
        if let Err(failure) = player.play(&steps).await {
            panic!("{name}: {failure}\nIt failed as the last step of\n{steps:#?}");
        }
    }
}

/// The simplest sequence that proptest finds which still fails, and how.
async fn shrunk(
    player: &mut Player,
    tree: &mut impl ValueTree<Value = Vec<Step>>,
    failure: String,
) -> (Vec<Step>, String) {
    let mut simplest = (tree.current(), failure);
    let mut goes_on = tree.simplify();
    while goes_on {
        goes_on = match player.play(&tree.current()).await {
            Err(failure) => {
                simplest = (tree.current(), failure);
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
    }
    simplest
}

/// Plays sequences on one store through two handles in turn.
struct Player {
    cx: Context,
    handles: [Arc<dyn ReservationStore>; 2],
    slack: Duration,
    exact: bool,
    played: usize,
}

impl Player {
    async fn new(cx: Context) -> Self {
        let handles = [cx.store(), cx.second_handle().await];
        let exact = cx.harness().clock() != Clock::Adjustable;
        // Spans are whole hours, so that the time that passes by itself does not matter on an adjustable clock. On the
        // others, a store may round to milliseconds.
        let slack = if exact { MILLI } else { HOUR / 2 };
        Self { cx, handles, slack, exact, played: 0 }
    }

    /// Plays a sequence on a new key. The error is what the oracle did not permit.
    async fn play(&mut self, steps: &[Step]) -> Result<(), String> {
        self.played += 1;
        let key = key("model", format!("{}", self.played));
        let (mut oracle, mut now) = (Oracle::default(), Duration::ZERO);
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Hours(hours) => now += self.pass(HOUR * *hours).await,
                // Only a clock that stands still can be moved to the instant before a span ends.
                Step::Millis(millis) if self.exact => now += self.pass(MILLI * *millis).await,
                Step::Millis(_) => {}
                Step::Sweep => {
                    let swept = self.cx.store().sweep(usize::MAX).await;
                    swept.map_err(|error| format!("step {number}, {step:?}, failed: {error}"))?;
                }
                Step::Call(call) => {
                    // The number of the step decides, so that a failure repeats.
                    let handle = &self.handles[number % 2];
                    oracle = self
                        .call(&**handle, &key, &oracle, now, call)
                        .await
                        .map_err(|why| format!("step {number}: {why}"))?;
                }
            }
        }
        Ok(())
    }

    async fn call(
        &self,
        store: &dyn ReservationStore,
        key: &Key,
        oracle: &Oracle,
        now: Duration,
        call: &step::Call,
    ) -> Result<Oracle, String> {
        let call = call.with_tokens(|token| self.token(token));
        let reply = call.send(store, key).await.map_err(|error| format!("{call:?} failed: {error}"))?;
        oracle.after(now, &call, Some(&reply), self.slack).pop().ok_or_else(|| {
            format!("{call:?} got {reply:?}; the oracle permits {}", oracle.explain(now, &call))
        })
    }

    async fn pass(&self, by: Duration) -> Duration {
        self.cx.pass(by).await;
        by
    }

    /// A token of this sequence.
    fn token(&self, number: u8) -> OwnerToken {
        let mut bytes = [number; 16];
        bytes[..8].copy_from_slice(&self.played.to_be_bytes());
        OwnerToken::from_bytes(bytes)
    }
}
