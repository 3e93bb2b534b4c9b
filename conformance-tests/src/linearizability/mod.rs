//! Linearizability: clients on several threads, with zombies and lost replies, and a search for an order that explains
//! every reply.
//!
//! There are many keys with few calls each, because the search is quick on them and a wrong reply has few other
//! explanations. A run counts only if certain rare things happened in it. So each key begins with a script that causes one
//! of them; after that, each client does what its seed decides.

#[cfg(test)]
mod bad_histories;
mod checker;
mod recorder;

use std::sync::Arc;

use idem_core::store::{Completion, OwnerToken, ReserveRequest};
use idem_core::{Answer, Key, Operation as Method};
use tokio::sync::Barrier;

use crate::case::{Context, cases};
use crate::oracle::{Call, Reply, ReplyKind};
use crate::process::with_second_process;
use crate::rng::{Rng, seed};
use crate::values::{DAY, HOUR, bytes, fingerprint, key, span};
use crate::{Fault, Faulty};
use checker::Operation;
use recorder::Recorder;

cases![Threads:
    an_order_explains_every_answer_of_concurrent_clients,
    an_order_explains_every_answer_of_clients_in_two_processes [Has(OutlivesProcess)],
];

const KEYS: usize = 120;
const CLIENTS: usize = 6;
/// How many random calls a client makes for each key, without resends.
const CALLS: u64 = 4;
/// One call in this many has a fault.
const FAULT_IN: u32 = 8;
/// How often a client resends a call with an unknown outcome.
const RESENDS: usize = 2;

async fn an_order_explains_every_answer_of_clients_in_two_processes(cx: Context) {
    an_order_explains_every_answer_of_concurrent_clients(with_second_process(&cx).await).await;
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
        "the run does not count, because one of these never happened: {witness:?}"
    );
}

/// One client. It goes on with its token after it lost the key, as a zombie.
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

    /// The first client abandons the key, the second takes it over, and the first completes after that.
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

    /// The reply to the first client's reservation is lost, and the client resends it.
    async fn lost_reply(&mut self, key: &Key) {
        if self.index == 0 {
            self.faults.next(Method::Reserve, Fault::ReplyLost);
            self.certainly(key, self.reserve()).await;
        }
    }

    /// The first client completes, then the second reserves.
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

    /// Sends a call until it gets a reply. A fault is no reply.
    async fn certainly(&self, key: &Key, call: Call) {
        while self.recorder.send(&self.faults, key, call.clone()).await.is_none() {}
    }

    /// Sends a call, and resends it a few times if its outcome is unknown.
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

    /// Each owner has a different answer, so that a wrong one shows.
    fn complete(&self) -> Call {
        let answer: Answer = bytes(self.owner.as_bytes().to_vec());
        Call::Complete { owner: self.owner, completion: Completion::new(answer, span(DAY)) }
    }
}

/// Counts what has to happen in a run.
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
                operation.call.owner() == owner && matches!(reply.kind, ReplyKind::Reserved { .. })
            })
        };
        for (operation, Reply { kind, .. }) in replies() {
            match kind {
                ReplyKind::Reserved { attempt } if *attempt > 1 => self.takeovers += 1,
                ReplyKind::Replay { .. } => self.replays += 1,
                ReplyKind::Lost if was_granted(operation.call.owner()) => self.refused_zombies += 1,
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
