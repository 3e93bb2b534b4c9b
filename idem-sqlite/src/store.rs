//! [`SqliteStore`]: the trait, over the writer and the readers.

use idem_core::store::Span;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, Timestamp, transition,
};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Effect, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError, StoreErrorKind,
};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::Options;
use crate::connection::Opener;
use crate::error::{Cause, Failure};
use crate::job::Task;
use crate::keeper::{Keeper, SWEEP_BATCH};
use crate::readers::Readers;
use crate::table;
use crate::writer::Writer;

/// A store in one SQLite file. Clones share it; other processes of the machine may open the same file.
///
/// Every operation is acknowledged when it is committed, by default after the disk has flushed it. When the last clone
/// is dropped, what is still waiting is done, and the threads end; [`close`](Self::close) waits for that.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idem_core::Engine;
/// use idem_sqlite::SqliteStore;
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("idem.db");
/// # let url = format!("sqlite:{}", path.display());
/// let store = SqliteStore::connect(&url).await?; // for example "sqlite:/var/lib/shop/idem.db"
/// let engine = Engine::builder(store.clone()).build()?;
/// # drop(engine);
/// store.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones share. Its end is the end of the threads.
pub(crate) struct Inner {
    pub(crate) writer: Arc<Writer>,
    readers: Arc<Readers>,
    keeper: Arc<Keeper>,
    /// Its senders are the threads', which drop them when they end.
    running: watch::Receiver<()>,
}

impl SqliteStore {
    /// Opens the store of a URL, `sqlite:` and a path, with the default [`Options`]. The file is made if it is not
    /// there; its directory has to be.
    ///
    /// The path is taken as it is, without percent-encoding. `sqlite:///path` is `sqlite:/path`; a URL with a host or a
    /// query (`?mode=rwc`) is refused.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let path = url.strip_prefix("sqlite:").filter(|path| !path.contains('?'));
        let path = path.and_then(|path| match path.strip_prefix("//") {
            Some(after_host) => after_host.starts_with('/').then_some(after_host),
            None => Some(path).filter(|path| !path.is_empty()),
        });
        match path {
            Some(path) => Self::open(path, Options::new()).await,
            None => Err(Cause::NotASqliteUrl.of(Operation::Connect)),
        }
    }

    /// Opens the store in a file.
    ///
    /// Fails as `Misconfigured` where no such file can be (a directory that is missing or not writable, a network file
    /// system), or if it is another application's; as `Incompatible` if a later release made it; as `Corrupt` if it is
    /// damaged; and as `Unavailable` if another process keeps it locked for longer than the `busy_timeout`. A file that
    /// is refused is left as it was.
    pub async fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        if path.as_os_str().is_empty() || path == Path::new(":memory:") {
            return Err(Cause::InMemory.of(Operation::Connect));
        }
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(path, options)).await;
        opened
            .unwrap_or_else(|panic| Err(internal(Operation::Connect, Effect::NotApplied).with_source(panic)))
    }

    fn open_blocking(path: PathBuf, options: Options) -> Result<Self, StoreError> {
        // Absolute, since the process may change its directory.
        let path = std::path::absolute(&path).unwrap_or(path);
        let opener = Opener { path, options };
        let (connection, place) = opener.create()?;
        let writer = Writer::new(opener, place, connection);
        let (readers, keeper) = (Arc::new(Readers::new()), Arc::new(Keeper::default()));
        let (of_threads, running) = watch::channel(());

        let spawn = |name: &str, life: Box<dyn FnOnce() + Send>| {
            let running = of_threads.clone();
            let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
                let _running = running;
                life();
            });
            thread.map(drop).map_err(|error| {
                StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, Operation::Connect)
                    .with_source(error)
            })
        };
        spawn("idem-sqlite-writer", {
            let writer = Arc::clone(&writer);
            Box::new(move || writer.run())
        })?;
        let inner = Inner {
            writer: Arc::clone(&writer),
            readers: Arc::clone(&readers),
            keeper: Arc::clone(&keeper),
            running,
        };
        spawn("idem-sqlite-keeper", Box::new(move || keeper.run(&writer, &readers)))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Closes the store for all its clones: what was handed in before is done, what comes later fails as `Unavailable`.
    /// Returns when the file is closed.
    pub async fn close(&self) {
        self.inner.close();
        let mut running = self.inner.running.clone();
        // Nothing is ever sent: it fails when the last thread has ended.
        while running.changed().await.is_ok() {}
        self.inner.readers.close();
    }

    /// Looks for a record without the writer.
    fn look<T>(
        &self,
        operation: Operation,
        look: impl FnOnce(&Connection, Timestamp) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let inner = &*self.inner;
        if inner.writer.is_closed() {
            return Err(Cause::Closed.of(operation));
        }
        inner.readers.check(&inner.writer.opener).map_err(|cause| cause.of(operation))?;
        let clock = &inner.writer.opener.options.clock;
        let found =
            inner.readers.read(operation, &inner.writer.opener, |connection| look(connection, clock.now()));
        found.map_err(|failure| failure.not_applied(operation))
    }

    /// Does a step in a transaction of the writer.
    async fn write<T: Send + 'static>(
        &self,
        operation: Operation,
        step: impl FnMut(&Connection, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (task, answer) = Task::new(operation, step);
        self.inner.writer.submit(Box::new(task));
        answer.await.unwrap_or_else(|_| Err(writer_gone(operation)))
    }

    /// The same, for a transition of one record.
    async fn change<T: Send + 'static>(
        &self,
        operation: Operation,
        key: &Key,
        step: impl Fn(Option<&Record>, Timestamp) -> (T, Option<Record>) + Send + 'static,
    ) -> Result<T, StoreError> {
        let key = key.clone();
        self.write(operation, move |connection, now| {
            let found = table::find(connection, &key, now)?;
            let (outcome, change) = step(found.as_ref().map(|found| &found.record), now);
            table::write(connection, &key, found.as_ref(), change.as_ref())?;
            Ok(outcome)
        })
        .await
    }

    /// The same, for a transition that may write a record for an absent key.
    async fn upsert<T: Send + 'static>(
        &self,
        operation: Operation,
        key: &Key,
        step: impl Fn(Option<&Record>, Timestamp) -> Result<(T, Option<Record>), StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let key = key.clone();
        self.write(operation, move |connection, now| {
            let found = table::find(connection, &key, now)?;
            let (outcome, change) = match &found {
                Some(found) => step(Some(&found.record), now),
                None => step(table::stand_in(connection)?.as_ref(), now),
            }
            .map_err(Failure::Store)?;
            table::write(connection, &key, found.as_ref(), change.as_ref())?;
            Ok(outcome)
        })
        .await
    }

    pub(crate) fn max_answer_bytes(&self) -> usize {
        self.inner.writer.opener.options.max_answer_bytes
    }
}

#[async_trait]
impl ReservationStore for SqliteStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        // A replay, and every other answer that changes nothing, needs no writer.
        let told = self.look(Operation::Reserve, |connection, now| {
            let Some(found) = table::find(connection, key, now)? else { return Ok(None) };
            let told = transition::reserve(Some(&found.record), &request, now).map_err(Failure::Store)?;
            Ok(Some(told).filter(|(_, change)| change.is_none() && !found.is_cut))
        })?;
        if let Some((outcome, _)) = told {
            return Ok(outcome);
        }
        self.upsert(Operation::Reserve, key, move |found, now| transition::reserve(found, &request, now))
            .await
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.change(Operation::Renew, key, move |found, now| transition::renew(found, owner, lease, now))
            .await
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        check_answer(completion.answer.len(), self.max_answer_bytes())?;
        self.change(Operation::Complete, key, move |found, now| {
            transition::complete(found, owner, completion.clone(), now)
        })
        .await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.upsert(Operation::Release, key, move |found, now| transition::release(found, owner, now)).await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.change(Operation::Abandon, key, move |found, now| transition::abandon(found, owner, now)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.look(Operation::Get, |connection, now| {
            Ok(table::find(connection, key, now)?.and_then(|found| found.record.view(now)))
        })
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        while removed < limit {
            let batch = u32::try_from(limit - removed).map_or(SWEEP_BATCH, |left| left.min(SWEEP_BATCH));
            let step = move |connection: &Connection, now| table::remove_expired(connection, batch, now);
            let swept = match self.write(Operation::Sweep, step).await {
                Ok(swept) => swept,
                // What the batches before it removed is removed, so that this is no failure without effect.
                Err(_) if removed > 0 => break,
                Err(error) => return Err(error),
            };
            removed += swept.removed;
            if swept.is_all {
                break;
            }
        }
        Ok(removed)
    }
}

/// Shows where the store is, never what is in it.
impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.inner.writer.opener.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        self.keeper.close();
        self.writer.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The writer ended without a word: nobody knows what was done.
pub(crate) fn writer_gone(operation: Operation) -> StoreError {
    internal(operation, Effect::Unknown).with_source(Cause::WriterGone)
}

/// Refuses an answer that is too long to be kept.
pub(crate) fn check_answer(bytes: usize, max_answer_bytes: usize) -> Result<(), StoreError> {
    if bytes > max_answer_bytes {
        return Err(Cause::AnswerTooLarge { bytes, max_answer_bytes }.of(Operation::Complete));
    }
    Ok(())
}

fn internal(operation: Operation, effect: Effect) -> StoreError {
    StoreError::new(StoreErrorKind::Internal, effect, operation)
}
