//! [`Remote`]: a store in another process, so that two processes meet at one store. The other one is this very program,
//! started again; calls and replies go through its standard input and output.

use idem_core::store::Span;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Effect, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError, StoreErrorKind,
};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::child::{Child, Task};
use crate::context::Context;
use crate::wire::{Asked, Failed, Told};
use crate::{Harness, Instance};

/// A context whose second handle is another process, at a new location.
pub(crate) async fn of_two_processes(cx: &Context) -> Context {
    let location = cx.harness().new_location();
    let here = cx.harness().open(&location).await;
    let there = Arc::new(Remote::start(&location));
    let harness: Arc<dyn Harness> = Arc::clone(cx.harness());
    Context::over(harness, Box::new(TwoProcesses { here, there }), cx.setting())
}

/// An instance of this process whose second handle is another process.
struct TwoProcesses {
    here: Box<dyn Instance>,
    there: Arc<Remote>,
}

#[async_trait]
impl Instance for TwoProcesses {
    fn store(&self) -> Arc<dyn ReservationStore> {
        self.here.store()
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        self.there.clone()
    }

    async fn advance(&self, by: Duration) {
        self.here.advance(by).await;
    }
}

type Result<T> = std::result::Result<T, StoreError>;
type Waiting = Mutex<HashMap<u64, oneshot::Sender<std::result::Result<Told, Failed>>>>;

/// The store of a child process.
struct Remote {
    _child: Child,
    input: Mutex<ChildStdin>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
}

impl Remote {
    fn start(location: &str) -> Self {
        let mut child = Child::start(&Task::Serve, location);
        let (input, mut output) = child.pipes();
        let waiting = Arc::<Waiting>::default();
        let listener = Arc::clone(&waiting);
        thread::spawn(move || {
            while let Ok(frame) = read_frame(&mut output) {
                let (number, told) = postcard::from_bytes(&frame).expect("both processes are one program");
                if let Some(caller) = lock(&listener).remove(&number) {
                    // A caller that was dropped does not want to know.
                    let _ = caller.send(told);
                }
            }
            // The child is gone: nobody is told anything more.
            lock(&listener).clear();
        });
        Self { _child: child, input: Mutex::new(input), waiting, next: AtomicU64::new(0) }
    }

    async fn ask(&self, operation: Operation, asked: Asked) -> Result<Told> {
        let gone = || StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, operation);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (caller, told) = oneshot::channel();
        lock(&self.waiting).insert(number, caller);
        let frame = postcard::to_stdvec(&(number, asked)).expect("plain data can be written");
        write_frame(&mut *lock(&self.input), &frame).map_err(|error| gone().with_source(error))?;
        told.await.map_err(|_| gone())?.map_err(|failed| failed.error(operation))
    }
}

/// What a reply says, which answers this very operation: the other process is the same program.
macro_rules! told {
    ($asking:expr, $variant:ident) => {
        match $asking.await? {
            Told::$variant(outcome) => Ok(outcome),
            other => unreachable!("a reply to another operation: {other:?}"),
        }
    };
}

#[async_trait]
impl ReservationStore for Remote {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome> {
        told!(self.ask(Operation::Reserve, Asked::reserve(key, &request)), Reserve)
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome> {
        told!(self.ask(Operation::Renew, Asked::renew(key, owner, lease)), Renew)
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome> {
        told!(self.ask(Operation::Complete, Asked::complete(key, owner, &completion)), Complete)
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome> {
        told!(self.ask(Operation::Release, Asked::release(key, owner)), Release)
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome> {
        told!(self.ask(Operation::Abandon, Asked::abandon(key, owner)), Abandon)
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>> {
        let view: Result<_> = told!(self.ask(Operation::Get, Asked::get(key)), Get);
        Ok(view?.map(RecordView::from))
    }

    async fn sweep(&self, limit: usize) -> Result<usize> {
        told!(self.ask(Operation::Sweep, Asked::Sweep { limit }), Sweep)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

/// The life of the child: carries out what it is asked, all at once, until nobody asks any more.
pub(crate) fn serve(runtime: &Runtime, instance: &dyn Instance) {
    let mut input = io::stdin().lock();
    while let Ok(frame) = read_frame(&mut input) {
        let (number, asked): (u64, Asked) =
            postcard::from_bytes(&frame).expect("both processes are one program");
        let store = instance.store();
        runtime.spawn(async move {
            let told = asked.carry_out(&*store).await.map_err(|error| Failed::from(&error));
            let frame = postcard::to_stdvec(&(number, told)).expect("plain data can be written");
            // If the parent is gone, there is nobody to tell.
            let _ = write_frame(&mut io::stdout().lock(), &frame);
        });
    }
}

fn read_frame(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(output: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).expect("no case has answers of gigabytes");
    output.write_all(&[&length.to_le_bytes(), frame].concat())?;
    output.flush()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
