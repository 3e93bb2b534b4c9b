//! [`Remote`]: a store in another process. Calls and replies go through the child's standard input and output.

use std::collections::HashMap;
use std::fmt;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use async_trait::async_trait;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, Span};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Effect, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError, StoreErrorKind,
};
use tokio::sync::oneshot;

use super::child::Child;
use super::frame;
use super::task::Task;
use super::wire::{Failure, Reply, Request};

type Result<T> = std::result::Result<T, StoreError>;
type Waiting = Mutex<HashMap<u64, oneshot::Sender<std::result::Result<Reply, Failure>>>>;

/// The store of a child process.
pub(super) struct Remote {
    _child: Child,
    input: Mutex<ChildStdin>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
}

impl Remote {
    pub(super) fn start(harness: &str, location: &str) -> Self {
        let mut child = Child::start(harness, &Task::Serve, location);
        let (input, mut output) = child.pipes();
        let waiting = Arc::<Waiting>::default();
        let listener = Arc::clone(&waiting);
        thread::spawn(move || {
            while let Ok((number, reply)) = frame::read(&mut output) {
                if let Some(caller) = lock(&listener).remove(&number) {
                    // The caller may have been dropped.
                    let _ = caller.send(reply);
                }
            }
            // The child is gone: every waiting caller gets an error.
            lock(&listener).clear();
        });
        Self { _child: child, input: Mutex::new(input), waiting, next: AtomicU64::new(0) }
    }

    async fn send(&self, operation: Operation, request: Request) -> Result<Reply> {
        let gone = || StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, operation);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (caller, reply) = oneshot::channel();
        lock(&self.waiting).insert(number, caller);
        frame::write(&mut *lock(&self.input), &(number, request))
            .map_err(|error| gone().with_source(error))?;
        reply.await.map_err(|_| gone())?.map_err(|failure| failure.error(operation))
    }
}

/// The outcome in a reply. The other process runs the same program, so the reply is to this operation.
macro_rules! outcome {
    ($sent:expr, $variant:ident) => {
        match $sent.await? {
            Reply::$variant(outcome) => Ok(outcome),
            other => unreachable!("a reply to another operation: {other:?}"),
        }
    };
}

#[async_trait]
impl ReservationStore for Remote {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome> {
        outcome!(self.send(Operation::Reserve, Request::reserve(key, &request)), Reserve)
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome> {
        outcome!(self.send(Operation::Renew, Request::renew(key, owner, lease)), Renew)
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome> {
        outcome!(self.send(Operation::Complete, Request::complete(key, owner, &completion)), Complete)
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome> {
        outcome!(self.send(Operation::Release, Request::release(key, owner)), Release)
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome> {
        outcome!(self.send(Operation::Abandon, Request::abandon(key, owner)), Abandon)
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>> {
        let view: Result<_> = outcome!(self.send(Operation::Get, Request::get(key)), Get);
        Ok(view?.map(RecordView::from))
    }

    async fn sweep(&self, limit: usize) -> Result<usize> {
        outcome!(self.send(Operation::Sweep, Request::Sweep { limit }), Sweep)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
