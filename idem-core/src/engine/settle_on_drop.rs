//! [`SettleOnDrop`]: settles a run at the store, whatever happens to the future that runs it.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::answer::Answer;
use crate::engine::attempt::Attempt;
use crate::engine::heartbeat::RenewalHandle;
use crate::engine::reserve::{Grant, Request};
use crate::engine::retry::{RetryPolicy, retry};
use crate::engine::run::{Lease, Run};
use crate::engine::settlement::{self, Settlement};
use crate::engine::shared::Shared;
use crate::engine::single_flight::{Leader, SharedResult};
use crate::engine::tracker::RunGuard;
use crate::error::{Operation, StoreError};
use crate::fingerprint::Fingerprint;
use crate::observe;
use crate::store::{AbandonOutcome, CompleteOutcome, Completion, ReleaseOutcome, StateView};

/// The guard of a granted key: its lease is renewed, and the run is settled even if the caller goes away.
///
/// INV-1: `unsettled` is always what has to be done if the guard is dropped now. It is decided before anything is sent,
/// and cleared only when that was acknowledged, or its time is up.
/// INV-2: before a release or an abandon is sent, the run has lost its key, for its own handler too, and is not renewed
/// any more.
pub(crate) struct SettleOnDrop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) attempt: Attempt,
    pub(crate) fingerprint: Fingerprint,
    runtime: Option<Handle>,
    renewal: Option<RenewalHandle>,
    unsettled: Option<Settlement>,
    /// Boxed: most runs have none, and the guard is moved around.
    leader: Option<Box<Leader>>,
    _tracked: RunGuard,
}

impl SettleOnDrop {
    pub(crate) fn new(request: Request<'_>, grant: Grant, leader: Option<Leader>, tracked: RunGuard) -> Self {
        let lease = Lease::granted(grant.sent_at, grant.lease_left);
        let run = Arc::new(Run::granted(request.key, grant.owner, grant.fence, grant.attempt, lease));
        if let Some(leader) = &leader {
            leader.start(&run);
        }
        if run.attempt > 1 {
            observe::takeover(&run);
        }
        let heartbeat = &request.shared.heartbeat;
        let register = |runtime| heartbeat.register(runtime, Arc::clone(&run), grant.sent_at);
        let renewal = request.runtime.as_ref().map(register);
        Self {
            shared: Arc::clone(request.shared),
            attempt: Attempt::new(run),
            fingerprint: *request.fingerprint,
            runtime: request.runtime,
            renewal,
            unsettled: Some(Settlement::Abandon),
            leader: leader.map(Box::new),
            _tracked: tracked,
        }
    }

    pub(crate) fn run(&self) -> &Run {
        self.attempt.run()
    }

    /// Decides how the run ends.
    pub(crate) fn decide(&mut self, settlement: Settlement) {
        self.run().decide();
        if matches!(settlement, Settlement::Release | Settlement::Abandon) {
            self.stop_renewing();
            self.run().lose();
        }
        self.unsettled = Some(settlement);
    }

    /// Decides that the run ends with this answer.
    pub(crate) fn decide_completion(&mut self, answer: Answer) -> Completion {
        let completion = Completion::new(answer, self.shared.settings.retention);
        self.decide(Settlement::Complete(completion.clone()));
        completion
    }

    /// Sends the completion that was decided. It is not sent any more after its timeout. Returns the answer that was
    /// recorded.
    pub(crate) async fn complete(
        &mut self,
        completion: Completion,
    ) -> Result<(CompleteOutcome, Answer), StoreError> {
        let timeout = self.shared.settings.complete_timeout;
        let result = settlement::complete(&*self.shared.store, self.run(), completion, timeout).await;
        self.unsettled = None;
        self.stop_renewing();
        match &result {
            Ok((CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted, answer)) => {
                self.publish(answer);
            }
            Ok((CompleteOutcome::AnswerConflict | CompleteOutcome::Lost, _)) => {
                observe::lease_lost(self.run());
                self.run().lose();
            }
            Err(error) => observe::unrecorded(self.run(), error),
        }
        // Without an answer, one of the waiters becomes the leader and asks the store.
        self.leader = None;
        result
    }

    /// Sends the release that was decided. When the caller's time is up, it continues in the background.
    pub(crate) async fn release(&mut self) -> Result<ReleaseOutcome, StoreError> {
        let timeout = self.shared.settings.reserve_timeout;
        let store = &*self.shared.store;
        let result = settlement::release(store, self.run(), timeout, RetryPolicy::IfTransient).await;
        self.acknowledge(result)
    }

    /// Sends the abandon that was decided. When the caller's time is up, it continues in the background.
    pub(crate) async fn abandon(&mut self) -> Result<AbandonOutcome, StoreError> {
        let timeout = self.shared.settings.reserve_timeout;
        let store = &*self.shared.store;
        let result = settlement::abandon(store, self.run(), timeout, RetryPolicy::IfTransient).await;
        self.acknowledge(result)
    }

    /// The run was completed with this answer by other means.
    pub(crate) fn mark_committed(&mut self, answer: &Answer) {
        self.run().decide();
        self.unsettled = None;
        self.publish(answer);
    }

    /// The answer that the store holds for this request, if another run of it was accepted.
    pub(crate) async fn accepted_answer(&self) -> Option<Answer> {
        let timeout = self.shared.settings.reserve_timeout;
        let get = || self.shared.store.get(&self.run().key);
        let view = retry(Operation::Get, timeout, RetryPolicy::IfTransient, get).await.ok()??;
        match view.state {
            StateView::Completed { answer, .. } if view.fingerprint == self.fingerprint => Some(answer),
            StateView::Completed { .. } | StateView::InFlight { .. } => None,
        }
    }

    fn acknowledge<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_ok() {
            self.unsettled = None;
        }
        self.leader = None;
        result
    }

    /// Gives the answer to the callers that wait in this process.
    fn publish(&mut self, answer: &Answer) {
        if let Some(leader) = self.leader.take() {
            leader.publish(SharedResult::Answered(answer.clone()));
        }
    }

    fn stop_renewing(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            self.shared.heartbeat.remove(renewal);
        }
    }
}

impl Drop for SettleOnDrop {
    fn drop(&mut self) {
        let Some(settlement) = self.unsettled.take() else {
            self.stop_renewing();
            return;
        };
        self.decide(settlement.clone());
        // All that is left to do moves into a task, with the renewal, which ends when `rest` is dropped. `rest` itself
        // has nothing to settle, whatever happens to the task.
        self.unsettled = None;
        let mut rest = Self {
            shared: Arc::clone(&self.shared),
            attempt: self.attempt.clone(),
            fingerprint: self.fingerprint,
            runtime: None,
            renewal: self.renewal.take(),
            unsettled: None,
            leader: self.leader.take(),
            _tracked: self.shared.tracker.track(),
        };
        let background = async move {
            match settlement {
                Settlement::Complete(completion) => drop(rest.complete(completion).await),
                Settlement::Release => settlement::release_in_background(&rest.shared, rest.run()).await,
                Settlement::Abandon => settlement::abandon_in_background(&rest.shared, rest.run()).await,
            }
        };
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(background)),
            None => drop(background),
        }
    }
}
