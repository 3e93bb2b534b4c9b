//! [`Writer`]: the one connection that writes, its queue and its thread.
//!
//! *Group commit*: the thread runs all waiting jobs in one transaction, so that they share one flush of the disk. While
//! a group commits, the next one gathers.
//!
//! *Inline commit*: if nobody else writes and commits are short, the caller's own thread commits; see [`InlineCommit`].
//!
//! INV-1: jobs that are in the queue when the store is closed still run.
//! INV-2: a panic of the clock, or of a value that is dropped here, does not end the thread.
//!
//! [`InlineCommit`]: inline_commit::InlineCommit

mod committer;
mod inline_commit;
pub(crate) mod job;

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, ThreadId};

use rusqlite::Connection;

use crate::error::Cause;
use crate::file::database::{DatabaseFile, close_on_panic};
use crate::sync::lock;
use committer::{Committer, Jobs, fail};
use job::Job;

/// The most jobs in one transaction: enough to share a flush, and few enough that the first does not wait long.
const MAX_GROUP: usize = 1024;
/// The thread waits at most this part of a commit's time for a group to gather: a half.
const GATHER_DIVISOR: u32 = 2;

/// What the writing thread, the callers and maintenance share.
pub(crate) struct Writer {
    committer: Committer,
    /// `None` after a failure: the thread opens it again.
    connection: Mutex<Option<Connection>>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// The same as in the queue, to be read without its lock.
    is_closed: AtomicBool,
    /// Set when the writing thread starts.
    thread: OnceLock<ThreadId>,
}

#[derive(Default)]
struct Queue {
    jobs: Jobs,
    /// How many jobs the thread waits for while it gathers a group.
    wanted: usize,
    is_closed: bool,
}

impl Writer {
    pub(crate) fn new(file: Arc<DatabaseFile>, connection: Connection) -> Self {
        Self {
            committer: Committer::new(file),
            connection: Mutex::new(Some(connection)),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            is_closed: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Runs the job on this thread if that is allowed and nobody else is writing. Otherwise queues it.
    pub(crate) fn submit(&self, job: Box<dyn Job>) {
        let is_inline = lock(&self.committer.inline_commit).allows();
        let job = if is_inline { self.try_inline(job) } else { Some(job) };
        if let Some(job) = job {
            self.enqueue(job);
        }
    }

    /// Queues the job for the thread.
    pub(crate) fn enqueue(&self, job: Box<dyn Job>) {
        let mut queue = lock(&self.queue);
        let queued = queue.jobs.len();
        let refusal = if self.thread.get() == Some(&thread::current().id()) {
            // A step that waits here for its own thread would wait forever.
            Cause::InsideStep
        } else if queue.is_closed {
            Cause::Closed
        } else if queued >= self.committer.file.options.queue_capacity {
            Cause::QueueFull { queued }
        } else {
            queue.jobs.push(job);
            // The thread checks the queue before it waits, so only the first job and the last of a gathering group wake
            // it.
            if queued == 0 || queue.jobs.len() == queue.wanted {
                self.arrived.notify_one();
            }
            return;
        };
        drop(queue);
        fail(job, &refusal.into());
    }

    /// Refuses later jobs. The thread ends when it has run those that are queued.
    pub(crate) fn close(&self) {
        lock(&self.queue).is_closed = true;
        self.is_closed.store(true, Ordering::Release);
        self.arrived.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The body of the writing thread.
    pub(crate) fn run(&self) {
        // Only this line sets it.
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
            // Jobs that arrive while an inline commit holds the connection still join this group.
            let mut connection = lock(&self.connection);
            let jobs: Jobs = {
                let mut queue = lock(&self.queue);
                let count = queue.jobs.len().min(MAX_GROUP);
                queue.jobs.drain(..count).collect()
            };
            group = jobs.len();
            // INV-2. The jobs that a panic drops report that their outcome is unknown.
            let _ = close_on_panic(&mut connection, |connection| self.committer.commit(connection, jobs));
        }
    }

    /// Waits a little for as many jobs as the last group had. Callers that were just answered often come back with their
    /// next job, and one that comes too late waits for another flush. If they do not come back, the thread waits only
    /// once, because the next group is smaller.
    fn gather(&self, mut queue: MutexGuard<'_, Queue>, last_group: usize) {
        if last_group < 2 {
            return;
        }
        let timeout = lock(&self.committer.inline_commit).average() / GATHER_DIVISOR;
        queue.wanted = last_group;
        let is_less = |queue: &mut Queue| queue.jobs.len() < last_group && !queue.is_closed;
        let gathered = self.arrived.wait_timeout_while(queue, timeout, is_less);
        gathered.unwrap_or_else(PoisonError::into_inner).0.wanted = 0;
    }

    /// Runs the job on this thread. Returns it if somebody else is writing, in this process or in another.
    fn try_inline(&self, job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        let mut connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Some(job),
        };
        {
            let queue = lock(&self.queue);
            // The thread opens the connection again after a failure.
            if queue.is_closed || !queue.jobs.is_empty() || connection.is_none() {
                return Some(job);
            }
        }
        close_on_panic(&mut connection, |connection| self.committer.try_commit(connection, job))
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    }
}
