//! [`Writer`]: the one connection that writes, and its thread.
//!
//! *Group commit*: the thread takes everything that waits and does it in one transaction, so that all of it shares one
//! flush of the disk. While that is under way, the next group gathers; and a little longer, if it is smaller then.
//!
//! *Inline commit*: where nobody else wants to write, the caller's own thread does it, and saves waking another twice.
//! Only if commits are so short that this does not hold up an executor; see [`Pace`].
//!
//! INV-1: nobody is answered before the commit of their transaction has returned.
//! INV-2: a commit whose outcome is not known makes every outcome in it unknown, and its connection is closed.
//! INV-3: what is in the queue when the store is closed is still done.
//! INV-4: a panic of what is not ours (a clock, or a value that is dropped here) does not end the thread.

use std::error::Error;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use idem_core::{Effect, Operation, StoreError};
use rusqlite::{Connection, ErrorCode};

use crate::connection::Opener;
use crate::error::{Cause, Failure, code, of_sqlite};
use crate::job::Job;
use crate::pace::Pace;
use crate::place::Place;

/// The most operations in one transaction: enough to share a flush, few enough that the first does not wait for long.
const MAX_GROUP: usize = 1024;
/// Which part of a commit's time the thread waits at the most for a group to gather.
const GATHERING: u32 = 2;

type Jobs = Vec<Box<dyn Job>>;

/// What the writing thread, the callers and the keeper share.
pub(crate) struct Writer {
    pub(crate) opener: Opener,
    pub(crate) place: Place,
    /// `None` after a failure: opened again when it is needed.
    connection: Mutex<Option<Connection>>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// What the queue says, for those who only look.
    is_closed: AtomicBool,
    /// The writing thread, once it runs.
    thread: OnceLock<ThreadId>,
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct Queue {
    jobs: Jobs,
    /// How many the thread waits for, if it gathers.
    wanted: usize,
    is_closed: bool,
}

impl Writer {
    pub(crate) fn new(opener: Opener, place: Place, connection: Connection) -> Arc<Self> {
        Arc::new(Self {
            opener,
            place,
            connection: Mutex::new(Some(connection)),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            is_closed: AtomicBool::new(false),
            thread: OnceLock::new(),
            pace: Mutex::new(Pace::new()),
        })
    }

    /// Does the job now, if nobody else is writing, or leaves it to the thread.
    pub(crate) fn submit(&self, job: Box<dyn Job>) {
        let job = if lock(&self.pace).allows_inline() { self.try_inline(job) } else { Some(job) };
        if let Some(job) = job {
            self.enqueue(job);
        }
    }

    /// Leaves the job to the thread.
    pub(crate) fn enqueue(&self, job: Box<dyn Job>) {
        let mut queue = lock(&self.queue);
        let queued = queue.jobs.len();
        let refusal = if self.thread.get() == Some(&thread::current().id()) {
            // Whoever waits here for what only this thread does waits for ever.
            Cause::InsideStep
        } else if queue.is_closed {
            Cause::Closed
        } else if queued >= self.opener.options.max_queued {
            Cause::QueueFull { queued }
        } else {
            queue.jobs.push(job);
            // The thread looks before it waits: it has to be woken for the first, and for the last that it gathers.
            if queued == 0 || queue.jobs.len() == queue.wanted {
                self.arrived.notify_one();
            }
            return;
        };
        drop(queue);
        let operation = job.operation();
        job.fail(refusal.of(operation));
    }

    /// No more jobs are taken; the thread ends when it has done those that are there.
    pub(crate) fn close(&self) {
        lock(&self.queue).is_closed = true;
        self.is_closed.store(true, Ordering::Release);
        self.arrived.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The life of the writing thread.
    pub(crate) fn run(&self) {
        // It is set once, here.
        let _ = self.thread.set(thread::current().id());
        let mut group = 0;
        loop {
            let mut queue = lock(&self.queue);
            while queue.jobs.is_empty() {
                if queue.is_closed {
                    drop(queue);
                    *lock(&self.connection) = None;
                    return;
                }
                queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            self.gather(queue, group);
            // What arrives while another holds the connection still joins this group.
            let mut connection = lock(&self.connection);
            let jobs: Jobs = {
                let mut queue = lock(&self.queue);
                let count = queue.jobs.len().min(MAX_GROUP);
                queue.jobs.drain(..count).collect()
            };
            group = jobs.len();
            // INV-4. Those whose jobs are dropped with it are told that nobody knows what was done.
            let _ = or_close(&mut connection, |connection| self.commit(connection, jobs));
        }
    }

    /// Waits a little for as many jobs as were in the group before: callers that were just answered come back soon with
    /// their next ones, and who comes too late waits for a whole flush. If they do not come back that is waited for once,
    /// since the group is then as small as it is.
    fn gather(&self, mut queue: MutexGuard<'_, Queue>, before: usize) {
        if before < 2 {
            return;
        }
        let patience = lock(&self.pace).commit() / GATHERING;
        queue.wanted = before;
        let is_less = |queue: &mut Queue| queue.jobs.len() < before && !queue.is_closed;
        let gathered = self.arrived.wait_timeout_while(queue, patience, is_less);
        gathered.unwrap_or_else(PoisonError::into_inner).0.wanted = 0;
    }

    /// Gives the job back if somebody else is writing, in this process or in another.
    fn try_inline(&self, job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        let mut connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Some(job),
        };
        {
            let queue = lock(&self.queue);
            if queue.is_closed || !queue.jobs.is_empty() {
                return Some(job);
            }
        }
        // After a failure it is the thread that opens it again.
        if connection.is_none() {
            return Some(job);
        }
        let attempt = |connection: &mut _| self.attempt(connection, vec![job], WhenBusy::GiveBack);
        match or_close(&mut connection, attempt) {
            Ok(busy) => busy.into_iter().next(),
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// Does the jobs in one transaction, or each in its own if that one fails for a reason that may not be everybody's.
    fn commit(&self, connection: &mut Option<Connection>, jobs: Jobs) {
        let left = self.attempt(connection, self.wanted(jobs), WhenBusy::Fail);
        for job in left {
            // Those before it may have taken long.
            self.attempt(connection, self.wanted(vec![job]), WhenBusy::Fail);
        }
    }

    /// Discards what nobody waits for any more, and what has waited too long.
    fn wanted(&self, jobs: Jobs) -> Jobs {
        let mut wanted = Vec::with_capacity(jobs.len());
        for job in jobs {
            if !job.is_wanted() {
                continue;
            }
            if job.waited() > self.opener.options.queue_timeout {
                let operation = job.operation();
                job.fail(Cause::QueueTimeout.of(operation));
            } else {
                wanted.push(job);
            }
        }
        wanted
    }

    /// One transaction. The jobs that are to be tried again come back; every other one was answered.
    fn attempt(&self, slot: &mut Option<Connection>, mut jobs: Jobs, when_busy: WhenBusy) -> Jobs {
        if jobs.is_empty() {
            return jobs;
        }
        if let Err(cause) = self.place.check() {
            fail_each(jobs, |operation| cause.clone().of(operation));
            return Vec::new();
        }
        let begun = Instant::now();
        let connection = match slot {
            Some(connection) => connection,
            None => match self.opener.open() {
                Ok(connection) => slot.insert(connection),
                Err(error) => {
                    fail_each(jobs, |operation| of_sqlite(&error, Effect::NotApplied, operation));
                    return Vec::new();
                }
            },
        };
        let patience = match when_busy {
            WhenBusy::GiveBack => Duration::ZERO,
            WhenBusy::Fail => self.opener.busy_timeout(),
        };
        let trouble = match transaction(connection, &mut jobs, &self.opener.options.clock, patience) {
            Ok(()) => {
                lock(&self.pace).committed(begun.elapsed());
                for job in jobs {
                    job.answer();
                }
                return Vec::new();
            }
            Err(trouble) => trouble,
        };
        let is_undone = connection.is_autocommit() || rollback(connection).is_ok();
        let (failure, effect, culprit) = match trouble {
            Trouble::Begin(failure) if failure.is_busy() && when_busy == WhenBusy::GiveBack => return jobs,
            Trouble::Begin(failure) => (failure, Effect::NotApplied, None),
            Trouble::Statement { job, failure } => (failure, Effect::NotApplied, Some(Culprit::Job(job))),
            Trouble::Commit(error) if is_undone && has_not_begun(&error) => {
                (Failure::Sqlite(error), Effect::NotApplied, Some(Culprit::Somebody))
            }
            Trouble::Commit(error) => (Failure::Sqlite(error), Effect::Unknown, None),
        };
        // INV-2. Closing it also rolls back what could not be. And one that cannot begin for a reason of its own would
        // not be able to the next time.
        if !is_undone || effect == Effect::Unknown || (culprit.is_none() && !failure.is_busy()) {
            *slot = None;
        }
        let error_of = |operation| match &failure {
            Failure::Sqlite(error) => of_sqlite(error, effect, operation),
            Failure::Frame(error) => Failure::Frame(error.clone()).not_applied(operation),
            Failure::Store(error) => error.clone(),
        };
        match culprit {
            // On a full disk, say, those that only have to be refused need no room.
            Some(culprit) if jobs.len() > 1 => {
                for (index, job) in jobs.iter_mut().enumerate() {
                    let operation = job.operation();
                    let error = error_of(operation);
                    let is_its_own = culprit == Culprit::Job(index);
                    job.undone(if is_its_own { error } else { undone_with_others(&error, operation) });
                }
                jobs
            }
            _ => {
                fail_each(jobs, error_of);
                Vec::new()
            }
        }
    }
}

/// A panic in the midst of a transaction closes its connection, so that no lock on the file stays behind.
fn or_close<T>(
    connection: &mut Option<Connection>,
    work: impl FnOnce(&mut Option<Connection>) -> T,
) -> thread::Result<T> {
    let done = panic::catch_unwind(AssertUnwindSafe(|| work(connection)));
    if done.is_err() {
        *connection = None;
    }
    done
}

/// What an attempt does if another process is writing for longer than the connection waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenBusy {
    GiveBack,
    Fail,
}

/// Where a transaction failed.
enum Trouble {
    Begin(Failure),
    /// In the job with this index.
    Statement {
        job: usize,
        failure: Failure,
    },
    Commit(rusqlite::Error),
}

/// Who is to blame for a transaction that was undone, and may not be in the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Culprit {
    Job(usize),
    Somebody,
}

fn transaction(
    connection: &Connection,
    jobs: &mut Jobs,
    clock: &crate::Clock,
    patience: Duration,
) -> Result<(), Trouble> {
    connection.busy_timeout(patience).map_err(|error| Trouble::Begin(error.into()))?;
    let execute = |sql| connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    execute("BEGIN IMMEDIATE").map_err(|error| Trouble::Begin(error.into()))?;
    for (index, job) in jobs.iter_mut().enumerate() {
        let failed = |failure| Trouble::Statement { job: index, failure };
        // Asked here, where no other writer can come between: what is read is as old as this, and no older.
        job.run(connection, clock.now()).map_err(failed)?;
        if connection.is_autocommit() {
            return Err(failed(Failure::Store(Cause::TransactionEnded.of(job.operation()))));
        }
    }
    execute("COMMIT").map(|_| ()).map_err(Trouble::Commit)
}

/// Whether a commit failed before it wrote anything that could be found again: there was no room, a constraint was
/// violated, or another process was in the way. Of any other failure nobody knows.
fn has_not_begun(error: &rusqlite::Error) -> bool {
    use ErrorCode::{ConstraintViolation, DatabaseBusy, DatabaseLocked, DiskFull};
    matches!(code(error), Some(ConstraintViolation | DatabaseBusy | DatabaseLocked | DiskFull))
}

/// What a job is told that cannot be run again, when it is not known to be the one that failed.
fn undone_with_others(error: &StoreError, operation: Operation) -> StoreError {
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    Cause::UndoneWithOthers { why }.of(operation)
}

fn rollback(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("ROLLBACK")
}

fn fail_each(jobs: Jobs, error: impl Fn(Operation) -> StoreError) {
    for job in jobs {
        let operation = job.operation();
        job.fail(error(operation));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks by a panic: a connection that was in a transaction is closed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
