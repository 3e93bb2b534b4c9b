//! [`Writer`]: the one connection that writes, and its thread.
//!
//! *Group commit*: the thread takes everything that waits and does it in one transaction, so that all of it shares one
//! flush of the disk. While that is under way, the next group gathers.
//!
//! *Inline commit*: where nobody else wants to write, the caller's own thread does it, and saves waking another twice.
//! Only if commits are so short that this does not hold up an executor; see [`Pace`].
//!
//! INV-1: nobody is answered before the commit of their transaction has returned.
//! INV-2: a commit whose outcome is not known makes every outcome in it unknown, and its connection is closed.
//! INV-3: what is in the queue when the store is closed is still done.
//! INV-4: a panic of what is not ours (a clock, or a value that is dropped here) does not end the thread.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use idem_core::{Effect, Operation, StoreError};
use rusqlite::{Connection, ErrorCode};
use tokio::task;

use crate::connection::Opener;
use crate::error::{Cause, Failure, code, of_sqlite};
use crate::job::Job;
use crate::place::Place;

/// The most operations in one transaction: enough to share a flush, few enough that the first does not wait for long.
const MAX_GROUP: usize = 1024;

type Jobs = Vec<Box<dyn Job>>;

/// What the writing thread, the callers and the keeper share.
pub(crate) struct Writer {
    pub(crate) opener: Opener,
    pub(crate) place: Place,
    /// `None` after a failure: opened again when it is needed.
    connection: Mutex<Option<Connection>>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct Queue {
    jobs: Jobs,
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
        let refusal = if queue.is_closed {
            Cause::Closed
        } else if queued >= self.opener.options.max_queued {
            Cause::QueueFull { queued }
        } else {
            queue.jobs.push(job);
            self.arrived.notify_one();
            return;
        };
        drop(queue);
        let operation = job.operation();
        job.fail(refusal.of(operation));
    }

    /// No more jobs are taken; the thread ends when it has done those that are there.
    pub(crate) fn close(&self) {
        lock(&self.queue).is_closed = true;
        self.arrived.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.queue).is_closed
    }

    /// The life of the writing thread.
    pub(crate) fn run(&self) {
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
            drop(queue);
            // What arrives while another holds the connection still joins this group.
            let mut connection = lock(&self.connection);
            let jobs = {
                let mut queue = lock(&self.queue);
                let count = queue.jobs.len().min(MAX_GROUP);
                queue.jobs.drain(..count).collect()
            };
            // INV-4. Those whose jobs are dropped with it are told that nobody knows what was done.
            let _ = or_close(&mut connection, |connection| self.commit(connection, jobs));
        }
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
            self.attempt(connection, vec![job], WhenBusy::Fail);
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
        let (failure, effect, is_worth_another_try) = match trouble {
            Trouble::Begin(failure) if failure.is_busy() && when_busy == WhenBusy::GiveBack => return jobs,
            Trouble::Begin(failure) => (failure, Effect::NotApplied, false),
            Trouble::Statement(failure) => (failure, Effect::NotApplied, true),
            Trouble::Commit(error) => {
                let is_of_disk = code(&error) == Some(ErrorCode::SystemIoFailure);
                let effect = if is_of_disk || !is_undone { Effect::Unknown } else { Effect::NotApplied };
                (Failure::Sqlite(error), effect, effect == Effect::NotApplied)
            }
        };
        if !is_undone || effect == Effect::Unknown {
            // INV-2. Closing it also rolls back what could not be.
            *slot = None;
        }
        let error_of = |operation| match &failure {
            Failure::Sqlite(error) => of_sqlite(error, effect, operation),
            Failure::Frame(error) => Failure::Frame(error.clone()).not_applied(operation),
            Failure::Store(error) => error.clone(),
        };
        // On a full disk, say, those that only have to be refused need no room.
        if is_worth_another_try && jobs.len() > 1 {
            for job in &mut jobs {
                let error = error_of(job.operation());
                job.undone(&error);
            }
            return jobs;
        }
        fail_each(jobs, error_of);
        Vec::new()
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
    Statement(Failure),
    Commit(rusqlite::Error),
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
    for job in jobs {
        // Asked here, where no other writer can come between: what is read is as old as this, and no older.
        job.run(connection, clock.now()).map_err(Trouble::Statement)?;
        if connection.is_autocommit() {
            let ended = Cause::TransactionEnded.of(job.operation());
            return Err(Trouble::Statement(Failure::Store(ended)));
        }
    }
    execute("COMMIT").map(|_| ()).map_err(Trouble::Commit)
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

/// Whether callers commit on their own threads.
///
/// That saves a lone caller two wake-ups, some tens of microseconds. It must not be done where commits are long, since
/// it would hold up an executor's thread, and nothing is saved there: the flush is what takes the time. And it must not
/// be done where several callers write, since each would flush for itself where one flush is enough for all.
struct Pace {
    /// What a transaction takes, on average over the latest.
    commit: Duration,
    /// Who handed in the latest job, and when.
    latest: Option<(Option<task::Id>, Instant)>,
}

impl Pace {
    /// The longest commit that is done inline: about as long as an executor's thread may be held between two awaits.
    const LONGEST_INLINE: Duration = Duration::from_micros(500);
    /// A writer that comes so long after another is no competitor of it.
    const APART: Duration = Duration::from_millis(5);

    fn new() -> Self {
        // Until it is known better, commits are long.
        Self { commit: Self::LONGEST_INLINE * 2, latest: None }
    }

    fn allows_inline(&mut self) -> bool {
        let now = Instant::now();
        let caller = task::try_id();
        let latest = self.latest.replace((caller, now));
        let is_alone =
            latest.is_none_or(|(before, at)| before == caller || now.duration_since(at) > Self::APART);
        is_alone && self.commit <= Self::LONGEST_INLINE
    }

    fn committed(&mut self, took: Duration) {
        self.commit = (self.commit * 7 + took) / 8;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks by a panic: a connection that was in a transaction is closed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
