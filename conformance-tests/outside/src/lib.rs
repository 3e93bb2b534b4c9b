//! A reservation store in a directory: one JSON file for each key, and a lock file for all of them.
//!
//! It implements the contract in the documentation of [`ReservationStore`] without `idem_core::store::transition`, so that
//! the suite runs over an implementation that shares no code with idem's. Several processes may share a directory. What was
//! acknowledged survives a killed process, but not a power cut.

mod row;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, Span};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Effect, ExpiredLeasePolicy, FencingToken, Key, Operation,
    ReleaseOutcome, RenewOutcome, ReservationStore, StoreError, StoreErrorKind,
};

use crate::row::{Row, State, StoredAnswer, Unreadable};

/// The longest answer that it stores.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// How long a tombstone stays at least.
const TOMBSTONE: u64 = 5 * 60 * 1_000_000;

/// A reservation store in a directory.
#[derive(Debug)]
pub struct DirectoryStore {
    directory: PathBuf,
}

impl DirectoryStore {
    /// Opens the store in a directory, and makes the directory if it does not exist.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// Moves the clock of this directory forward, for every process.
    pub fn advance(&self, by: Duration) -> io::Result<()> {
        let _lock = self.lock()?;
        replace(&self.directory.join("skew"), (self.skew() + whole_micros(by)).to_string().as_bytes())
    }

    /// The file that holds a key's row.
    pub fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(key.digest().to_hex()).with_extension("json")
    }

    /// Runs `step` on a key's row under the lock, and writes the row if it changed.
    fn step<T>(
        &self,
        operation: Operation,
        key: &Key,
        step: impl FnOnce(&mut Option<Row>, u64) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let io = |error: io::Error| {
            StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, operation).with_source(error)
        };
        let _lock = self.lock().map_err(io)?;
        let path = self.path(key);
        let before = Row::read(&path).map_err(|unreadable| match unreadable {
            Unreadable::Io(error) => io(error),
            Unreadable::Later => StoreError::new(StoreErrorKind::Incompatible, Effect::NotApplied, operation),
            Unreadable::Corrupt(error) => {
                StoreError::new(StoreErrorKind::Corrupt, Effect::NotApplied, operation).with_source(error)
            }
        })?;
        let mut after = before.clone();
        let outcome = step(&mut after, self.now())?;
        match &after {
            Some(row) if after != before => replace(&path, &row.to_json()).map_err(io)?,
            _ => {}
        }
        Ok(outcome)
    }

    fn lock(&self) -> io::Result<File> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(self.directory.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn now(&self) -> u64 {
        whole_micros(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
            + self.skew()
    }

    fn skew(&self) -> u64 {
        let skew = fs::read_to_string(self.directory.join("skew")).ok();
        skew.and_then(|skew| skew.parse().ok()).unwrap_or_default()
    }
}

#[async_trait]
impl ReservationStore for DirectoryStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.step(Operation::Reserve, key, |slot, now| {
            let Some(row) = slot.as_mut().filter(|row| now < row.expires_at) else {
                return grant(slot, &request, 1, now);
            };
            let is_mine = row.owner == *request.owner.as_bytes();
            let is_same = row.fingerprint == *request.fingerprint.as_bytes();
            let attempt = row.attempt;
            match &mut row.state {
                State::Released if is_mine => Ok(ReserveOutcome::Stale),
                State::Released => grant(slot, &request, attempt, now),
                _ if !is_same => Ok(ReserveOutcome::FingerprintMismatch),
                State::Completed { .. } if is_mine => Ok(ReserveOutcome::Stale),
                State::Completed { answer, .. } => {
                    Ok(ReserveOutcome::Completed { answer: answer.clone().into(), attempt })
                }
                State::InFlight { abandoned: true, .. } if is_mine => Ok(ReserveOutcome::Stale),
                State::InFlight { lease_until, lease, record_ttl, .. } if is_mine => {
                    extend(lease_until, lease, request.lease.as_micros(), now);
                    row.expires_at = *lease_until + *record_ttl;
                    let lease_left = Duration::from_micros(lease_until.saturating_sub(now));
                    Ok(ReserveOutcome::Reserved { attempt, fence: row.fence, lease_left })
                }
                State::InFlight { lease_until, abandoned: false, .. } if now < *lease_until => {
                    Ok(ReserveOutcome::InFlight {
                        attempt,
                        lease_left: Duration::from_micros(*lease_until - now),
                    })
                }
                State::InFlight { .. } => match request.on_expired_lease {
                    ExpiredLeasePolicy::TakeOver => grant(slot, &request, attempt + 1, now),
                    ExpiredLeasePolicy::Refuse => Ok(ReserveOutcome::LeaseExpired { attempt }),
                },
            }
        })
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.step(Operation::Renew, key, |slot, now| {
            let Some(row) = mine(slot, owner, now) else { return Ok(RenewOutcome::Lost) };
            match &mut row.state {
                State::Completed { .. } => Ok(RenewOutcome::AlreadyCompleted),
                State::InFlight { lease_until, lease: last, record_ttl, abandoned: false } => {
                    extend(lease_until, last, lease.as_micros(), now);
                    row.expires_at = *lease_until + *record_ttl;
                    Ok(RenewOutcome::Renewed { lease_left: Duration::from_micros(*lease_until - now) })
                }
                State::InFlight { .. } | State::Released => Ok(RenewOutcome::Lost),
            }
        })
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        if completion.answer.len() > MAX_ANSWER_BYTES {
            return Err(StoreError::new(StoreErrorKind::TooLarge, Effect::NotApplied, Operation::Complete));
        }
        self.step(Operation::Complete, key, |slot, now| {
            let Some(row) = mine(slot, owner, now) else { return Ok(CompleteOutcome::Lost) };
            let wanted = StoredAnswer::from(&completion.answer);
            match &row.state {
                State::InFlight { .. } => {
                    row.state = State::Completed { answer: wanted, at: now };
                    row.expires_at = now + completion.retention.as_micros();
                    Ok(CompleteOutcome::Completed)
                }
                State::Completed { answer, .. } if *answer == wanted => Ok(CompleteOutcome::AlreadyCompleted),
                State::Completed { .. } => Ok(CompleteOutcome::AnswerConflict),
                State::Released => Ok(CompleteOutcome::Lost),
            }
        })
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.step(Operation::Release, key, |slot, now| {
            let Some(row) = slot.as_mut().filter(|row| now < row.expires_at) else {
                *slot = Some(Row {
                    owner: *owner.as_bytes(),
                    fence: next_fence(slot.as_ref(), Operation::Release, now)?,
                    attempt: 1,
                    fingerprint: [0; 32],
                    expires_at: now + TOMBSTONE,
                    state: State::Released,
                });
                return Ok(ReleaseOutcome::AlreadyReleased);
            };
            if row.owner != *owner.as_bytes() {
                return Ok(ReleaseOutcome::Lost);
            }
            match &row.state {
                State::Completed { .. } => Ok(ReleaseOutcome::AlreadyCompleted),
                State::Released => Ok(ReleaseOutcome::AlreadyReleased),
                State::InFlight { lease, record_ttl, .. } => {
                    let remembered = if row.attempt > 1 { *record_ttl } else { 0 };
                    row.expires_at = now + TOMBSTONE.max(*lease).max(remembered);
                    row.state = State::Released;
                    Ok(ReleaseOutcome::Released)
                }
            }
        })
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.step(Operation::Abandon, key, |slot, now| {
            let Some(row) = mine(slot, owner, now) else { return Ok(AbandonOutcome::Lost) };
            match &mut row.state {
                State::Completed { .. } => Ok(AbandonOutcome::AlreadyCompleted),
                State::Released => Ok(AbandonOutcome::Lost),
                State::InFlight { abandoned: true, .. } => Ok(AbandonOutcome::Abandoned),
                State::InFlight { abandoned, record_ttl, .. } => {
                    *abandoned = true;
                    row.expires_at = now + *record_ttl;
                    Ok(AbandonOutcome::Abandoned)
                }
            }
        })
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.step(Operation::Get, key, |slot, now| Ok(slot.as_ref().and_then(|row| row.view(now))))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.remove_expired(limit).map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, Operation::Sweep).with_source(error)
        })
    }
}

impl DirectoryStore {
    fn remove_expired(&self, limit: usize) -> io::Result<usize> {
        let _lock = self.lock()?;
        let now = self.now();
        let mut removed = 0;
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if removed == limit {
                break;
            }
            // A row that cannot be read stays.
            let row =
                if path.extension().is_some_and(|end| end == "json") { Row::read(&path) } else { continue };
            if row.is_ok_and(|row| row.is_some_and(|row| now >= row.expires_at)) {
                fs::remove_file(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn mine(slot: &mut Option<Row>, owner: OwnerToken, now: u64) -> Option<&mut Row> {
    slot.as_mut().filter(|row| now < row.expires_at && row.owner == *owner.as_bytes())
}

fn grant(
    slot: &mut Option<Row>,
    request: &ReserveRequest,
    attempt: u32,
    now: u64,
) -> Result<ReserveOutcome, StoreError> {
    let fence = next_fence(slot.as_ref(), Operation::Reserve, now)?;
    let lease = request.lease.as_micros();
    let lease_until = now + lease;
    let record_ttl = request.record_ttl.as_micros();
    *slot = Some(Row {
        owner: *request.owner.as_bytes(),
        fence,
        attempt,
        fingerprint: *request.fingerprint.as_bytes(),
        expires_at: lease_until + record_ttl,
        state: State::InFlight { lease_until, lease, record_ttl, abandoned: false },
    });
    Ok(ReserveOutcome::Reserved { attempt, fence, lease_left: Duration::from_micros(lease_until - now) })
}

/// Moves the end of a lease to `new` from now, if that is later.
fn extend(lease_until: &mut u64, lease: &mut u64, new: u64, now: u64) {
    if now + new >= *lease_until {
        (*lease_until, *lease) = (now + new, new);
    }
}

fn next_fence(row: Option<&Row>, operation: Operation, now: u64) -> Result<FencingToken, StoreError> {
    let after = row.map_or(0, |row| row.fence.get());
    FencingToken::new(now.max(after + 1))
        .ok_or_else(|| StoreError::new(StoreErrorKind::Internal, Effect::NotApplied, operation))
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(new, path)
}
