//! Linearizability: clients on real threads, with zombies and lost answers, and a search for an order that explains
//! every answer they got.
//!
//! Many short keys rather than a few long ones: the search is quick on them, and a wrong answer has few calls to hide
//! behind. A run counts only if the rare things happened in it, so each key has a plot that brings one of them about,
//! before everybody does as their seed says.

#[cfg(test)]
mod bad_histories;
mod checker;
mod recorder;

use crate::span;
use std::sync::Arc;

use idem_core::store::{Completion, OwnerToken, ReserveRequest};
use idem_core::{Answer, Key, Operation as Method};
use tokio::sync::Barrier;

use crate::call::{Call, Reply, Says};
use crate::caller::bytes;
use crate::case::cases;
use crate::context::{Context, DAY, HOUR, fingerprint, key};
use crate::remote::of_two_processes;
use crate::rng::{Rng, seed};
use crate::{Fault, Faulty};
use checker::Operation;
use recorder::Recorder;

cases![Threads:
    an_order_explains_every_answer_of_concurrent_clients,
    an_order_explains_every_answer_of_clients_in_two_processes [Has(OutlivesProcess)],
];

const KEYS: usize = 120;
const CLIENTS: usize = 6;
/// How many calls a client makes of each key by chance, besides those that it sends again.
const CALLS: u64 = 4;
/// One call in so many meets a fault.
const FAULT_IN: u32 = 8;
/// How often a client sends a call again whose outcome it does not know, before it gives up.
const RESENDS: usize = 2;

async fn an_order_explains_every_answer_of_clients_in_two_processes(cx: Context) {
    an_order_explains_every_answer_of_concurrent_clients(of_two_processes(&cx).await).await;
}

async fn an_order_explains_every_answer_of_concurrent_clients(cx: Context) {
    let seed = seed();
    let recorder = Arc::new(Recorder::default());
    let step = Arc::new(Barrier::new(CLIENTS));
    let keys: Arc<[Key]> = (0..KEYS).map(|number| key("linearizability", format!("{number}"))).collect();
    cx.race(CLIENTS, |index, store| {
        let client = Client {
            index,
            faults: Faulty::seeded(store, seed ^ (index as u64 + 1), FAULT_IN),
            rng: Rng::new(seed.rotate_left(32) ^ (index as u64 + 1)),
            recorder: Arc::clone(&recorder),
            step: Arc::clone(&step),
            owner: cx.token(),
            cx: cx.clone(),
        };
        client.run(Arc::clone(&keys))
    })
    .await;

    let mut witness = Witness::default();
    for (key, mut operations) in recorder.histories() {
        operations.sort_by_key(|operation| operation.invoked);
        witness.look_at(&operations);
        if let Err(report) = checker::check(&operations) {
            panic!("seed {seed}, key {}: {report}", key.name().escape_ascii());
        }
    }
    assert!(
        witness.saw_everything(),
        "the run does not count, since some of this never happened: {witness:?}"
    );
}

/// One client. It keeps using a token after it lost the key with it: that is what makes it a zombie.
struct Client {
    index: usize,
    faults: Faulty,
    rng: Rng,
    recorder: Arc<Recorder>,
    step: Arc<Barrier>,
    owner: OwnerToken,
    cx: Context,
}

impl Client {
    async fn run(mut self, keys: Arc<[Key]>) {
        for (number, key) in keys.iter().enumerate() {
            self.step.wait().await;
            match number % 4 {
                0 => self.takeover_and_zombie(key).await,
                1 => self.lost_reply(key).await,
                2 => self.replay(key).await,
                _ => {}
            }
            self.step.wait().await;
            for _ in 0..CALLS {
                let call = self.some_call();
                self.send(key, call).await;
            }
            self.owner = self.cx.token();
        }
    }

    /// The first client gives the key up, the second takes it over, and the first completes all the same.
    async fn takeover_and_zombie(&mut self, key: &Key) {
        match self.index {
            0 => {
                self.certainly(key, self.reserve()).await;
                self.certainly(key, Call::Abandon { owner: self.owner }).await;
                self.step.wait().await;
                self.step.wait().await;
                self.certainly(key, self.complete()).await;
            }
            1 => {
                self.step.wait().await;
                self.certainly(key, self.reserve()).await;
                self.step.wait().await;
            }
            _ => {
                self.step.wait().await;
                self.step.wait().await;
            }
        }
    }

    /// The first client's reservation arrives, its reply does not, and it is sent again.
    async fn lost_reply(&mut self, key: &Key) {
        if self.index == 0 {
            self.faults.next(Method::Reserve, Fault::ReplyLost);
            self.certainly(key, self.reserve()).await;
        }
    }

    /// The first client completes, then the second asks.
    async fn replay(&mut self, key: &Key) {
        match self.index {
            0 => {
                self.certainly(key, self.reserve()).await;
                self.certainly(key, self.complete()).await;
                self.step.wait().await;
            }
            1 => {
                self.step.wait().await;
                self.certainly(key, self.reserve()).await;
            }
            _ => {
                self.step.wait().await;
            }
        }
    }

    /// Sends a call until it is answered. A fault without effect is no answer.
    async fn certainly(&self, key: &Key, call: Call) {
        while self.recorder.send(&self.faults, key, call.clone()).await.is_none() {}
    }

    /// Sends a call, again if its outcome is unknown, and gives up at last.
    async fn send(&self, key: &Key, call: Call) {
        for _ in 0..=RESENDS {
            if self.recorder.send(&self.faults, key, call.clone()).await.is_some() {
                return;
            }
        }
    }

    fn some_call(&mut self) -> Call {
        let owner = self.owner;
        match self.rng.below(10) {
            0..=3 => self.reserve(),
            4 | 5 => self.complete(),
            6 => Call::Release { owner },
            7 => Call::Abandon { owner },
            8 => Call::Renew { owner, lease: HOUR },
            _ => Call::Get,
        }
    }

    fn reserve(&self) -> Call {
        Call::Reserve(ReserveRequest::new(self.owner, fingerprint("payload"), span(HOUR)))
    }

    /// Each owner has an answer of its own, so that a wrong one shows.
    fn complete(&self) -> Call {
        let answer: Answer = bytes(self.owner.as_bytes().to_vec());
        Call::Complete { owner: self.owner, completion: Completion::new(answer, span(DAY)) }
    }
}

/// What has to happen in a run for it to count.
#[derive(Debug, Default)]
struct Witness {
    takeovers: usize,
    refused_zombies: usize,
    resent_unknowns: usize,
    replays: usize,
}

impl Witness {
    fn look_at(&mut self, operations: &[Operation]) {
        let replies =
            || operations.iter().filter_map(|operation| Some((operation, &operation.returned.as_ref()?.1)));
        let was_granted = |owner| {
            replies().any(|(operation, reply)| {
                operation.call.owner() == owner && matches!(reply.says, Says::Reserved { .. })
            })
        };
        for (operation, Reply { says, .. }) in replies() {
            match says {
                Says::Reserved { attempt } if *attempt > 1 => self.takeovers += 1,
                Says::Replay { .. } => self.replays += 1,
                Says::Lost if was_granted(operation.call.owner()) => self.refused_zombies += 1,
                _ => {}
            }
        }
        let unknown = operations.iter().filter(|operation| operation.returned.is_none());
        self.resent_unknowns += unknown
            .filter(|unknown| {
                replies().any(|(again, _)| again.call == unknown.call && again.invoked > unknown.invoked)
            })
            .count();
    }

    fn saw_everything(&self) -> bool {
        [self.takeovers, self.refused_zombies, self.resent_unknowns, self.replays]
            .iter()
            .all(|count| *count > 0)
    }
}
