//! [`SqliteStore`]: the store trait, over the writer and the readers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, Span, Timestamp, transition,
};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Effect, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError, StoreErrorKind,
};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::SqliteOptions;
use crate::error::{Cause, Failure};
use crate::file::database::DatabaseFile;
use crate::file::location;
use crate::maintenance::Maintenance;
use crate::readers::Readers;
use crate::record::table::{self, SWEEP_BATCH};
use crate::writer::Writer;
use crate::writer::job::Task;

/// A store in one SQLite file. Clones share it, and other processes of the machine can open the same file.
///
/// Every operation is acknowledged after its commit, by default after the disk has flushed it. When the last clone is
/// dropped, queued operations still run and then the threads end; [`close`](Self::close) waits for that.
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
    inner: Arc<Inner>,
}

/// What the clones share. When it is dropped, the threads end.
struct Inner {
    file: Arc<DatabaseFile>,
    writer: Arc<Writer>,
    readers: Arc<Readers>,
    maintenance: Arc<Maintenance>,
    /// Each thread holds a sender and drops it when it ends.
    running: watch::Receiver<()>,
}

impl SqliteStore {
    /// Opens the store at a URL, `sqlite:` and a path, with the default [`SqliteOptions`].
    ///
    /// The file is created if it does not exist; its directory must exist. The path is not percent-decoded.
    /// `sqlite:///path` means the same as `sqlite:/path`. A URL with a host or a query (`?mode=rwc`) is refused.
    ///
    /// Fails like [`open`](Self::open).
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, SqliteOptions::new()).await
    }

    /// Opens the store at a URL like [`connect`](Self::connect), with the given options.
    pub async fn connect_with(url: &str, options: SqliteOptions) -> Result<Self, StoreError> {
        match location::path_of(url) {
            Some(path) => Self::open(path, options).await,
            None => Err(Cause::NotASqliteUrl.into_store_error(Operation::Connect)),
        }
    }

    /// Opens the store in the file at a path, which can contain any character.
    ///
    /// Fails as
    /// - `Misconfigured` if no database can be at this path (a missing or read-only directory, a network file system),
    ///   or if the file belongs to another application;
    /// - `Incompatible` if a later release created the tables;
    /// - `Corrupt` if the file is damaged;
    /// - `Unavailable` if another process holds the file's lock longer than the `busy_timeout`.
    ///
    /// A file that is refused is not changed.
    pub async fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        if path.as_os_str().is_empty() || path == Path::new(":memory:") {
            return Err(Cause::InMemory.into_store_error(Operation::Connect));
        }
        match tokio::task::spawn_blocking(move || Self::open_blocking(path, options)).await {
            Ok(opened) => opened.map_err(|failure| failure.into_store_error(Operation::Connect)),
            Err(panic) => Err(connect_error(StoreErrorKind::Internal).with_source(panic)),
        }
    }

    /// Closes the store for all its clones. Operations that are queued still run; later ones fail as `Unavailable`.
    /// Returns when the file is closed.
    pub async fn close(&self) {
        self.inner.close();
        let mut running = self.inner.running.clone();
        // No thread ever sends: this fails when the last sender is dropped.
        while running.changed().await.is_ok() {}
    }

    pub(crate) fn options(&self) -> &SqliteOptions {
        &self.inner.file.options
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    fn open_blocking(path: PathBuf, options: SqliteOptions) -> Result<Self, Failure> {
        // The path stays valid if the process changes its directory.
        let path = std::path::absolute(&path).unwrap_or(path);
        let (file, connection) = DatabaseFile::create(path, options)?;
        let file = Arc::new(file);
        let writer = Arc::new(Writer::new(Arc::clone(&file), connection));
        let readers = Arc::new(Readers::new(Arc::clone(&file)));
        let maintenance = Arc::new(Maintenance::default());
        let (sender, running) = watch::channel(());
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let sender = sender.clone();
            let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
                body();
                drop(sender);
            });
            thread.map(drop).map_err(|error| connect_error(StoreErrorKind::Unavailable).with_source(error))
        };
        spawn("idem-sqlite-writer", {
            let writer = Arc::clone(&writer);
            Box::new(move || writer.run())
        })?;
        let inner = Inner { file, writer, readers, maintenance, running };
        spawn("idem-sqlite-maintenance", {
            let (file, writer) = (Arc::clone(&inner.file), Arc::clone(&inner.writer));
            let (readers, maintenance) = (Arc::clone(&inner.readers), Arc::clone(&inner.maintenance));
            Box::new(move || maintenance.run(&file, &writer, &readers))
        })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads without the writer.
    fn read<T>(
        &self,
        operation: Operation,
        query: impl FnOnce(&Connection, Timestamp) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let result = self.inner.readers.read(|connection| query(connection, self.options().clock.now()));
        result.map_err(|failure| failure.into_store_error(operation))
    }

    /// Runs `work` in a transaction of the writer.
    async fn write<T: Send + 'static>(
        &self,
        operation: Operation,
        work: impl FnMut(&Connection, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (task, answer) = Task::new(operation, work);
        self.writer().submit(Box::new(task));
        answer.await.unwrap_or_else(|_| Err(Cause::Panicked.into_store_error(operation)))
    }

    /// Runs a transition of one record in a transaction of the writer.
    async fn change<T: Send + 'static>(
        &self,
        operation: Operation,
        key: &Key,
        transition: impl Fn(Option<&Record>, Timestamp) -> Result<(T, Option<Record>), StoreError>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        let key = key.clone();
        self.write(operation, move |connection, now| {
            let found = table::find(connection, &key, now)?;
            let (outcome, change) = match &found {
                Some(found) => transition(Some(&found.record), now)?,
                None => transition(table::fence_floor(connection)?.as_ref(), now)?,
            };
            table::write(connection, &key, found.as_ref(), change.as_ref())?;
            Ok(outcome)
        })
        .await
    }
}

#[async_trait]
impl ReservationStore for SqliteStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        // A replay, like every other outcome that changes nothing, does not need the writer.
        let unchanged = self.read(Operation::Reserve, |connection, now| {
            let Some(found) = table::find(connection, key, now)? else { return Ok(None) };
            let (outcome, change) = transition::reserve(Some(&found.record), &request, now)?;
            Ok(Some(outcome).filter(|_| change.is_none() && !found.is_clamped))
        })?;
        if let Some(outcome) = unchanged {
            return Ok(outcome);
        }
        self.change(Operation::Reserve, key, move |found, now| transition::reserve(found, &request, now))
            .await
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.change(Operation::Renew, key, move |found, now| Ok(transition::renew(found, owner, lease, now)))
            .await
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        completion.check(self.options().max_answer_bytes)?;
        self.change(Operation::Complete, key, move |found, now| {
            Ok(transition::complete(found, owner, completion.clone(), now))
        })
        .await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.change(Operation::Release, key, move |found, now| transition::release(found, owner, now)).await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.change(Operation::Abandon, key, move |found, now| Ok(transition::abandon(found, owner, now)))
            .await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.read(Operation::Get, |connection, now| {
            Ok(table::find(connection, key, now)?.and_then(|found| found.record.view(now)))
        })
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        while removed < limit {
            let batch = u32::try_from(limit - removed).map_or(SWEEP_BATCH, |left| left.min(SWEEP_BATCH));
            let work = move |connection: &Connection, now| table::remove_expired(connection, batch, now);
            let swept = match self.write(Operation::Sweep, work).await {
                Ok(swept) => swept,
                // Earlier batches are removed, so this is not a failure without effect.
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

/// Shows the path of the file, never its content.
impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.inner.file.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        self.maintenance.close();
        self.readers.close();
        self.writer.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn connect_error(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, Effect::NotApplied, Operation::Connect)
}
