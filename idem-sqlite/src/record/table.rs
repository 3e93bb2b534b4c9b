//! The statements: they find, write and remove records on one connection.
//!
//! INV-1: no statement that writes returns rows. SQLite can report such a statement as done although its commit failed.
//! INV-2: an expired record is found like any other, because the next fence must exceed its fence. The state machine
//! treats the record as absent.

use idem_core::store::{OwnerToken, Record, State, Timestamp};
use idem_core::{FencingToken, Key};
use rusqlite::{Connection, OptionalExtension};

use crate::error::Failure;
use crate::record::frame;

/// The records that one transaction of a sweep removes: few, so that other operations do not wait long for it.
pub(crate) const SWEEP_BATCH: u32 = 256;
/// The zones that one transaction of a sweep looks at, for the same reason.
const SWEEP_ZONES: usize = 32;

/// A record in the table.
#[derive(Debug)]
pub(crate) struct Found {
    id: i64,
    pub(crate) record: Record,
    /// The clock stepped back, and the lease was cut. The cut must be written: otherwise every look would start the
    /// lease again.
    pub(crate) is_clamped: bool,
}

/// The record of the key, expired or not.
pub(crate) fn find(connection: &Connection, key: &Key, now: Timestamp) -> Result<Option<Found>, Failure> {
    let mut statement = connection.prepare_cached(include_str!("../sql/find.sql"))?;
    let found = statement
        .query_row((digest(key), key.as_bytes()), |row| {
            let expires_at = from_column(row.get(1)?);
            // A column that is not a blob is as malformed as a blob that is not a record.
            let bytes = row.get_ref(2)?.as_blob().unwrap_or_default();
            Ok((row.get(0)?, frame::decode(bytes, expires_at)))
        })
        .optional()?;
    let Some((id, record)) = found else { return Ok(None) };
    let mut record = record?;
    let is_clamped = record.clamp_lease(now);
    Ok(Some(Found { id, record, is_clamped }))
}

/// Writes the record in place of `found`. Without a record, writes `found` itself if its lease was cut.
pub(crate) fn write(
    connection: &Connection,
    key: &Key,
    found: Option<&Found>,
    record: Option<&Record>,
) -> Result<(), Failure> {
    let clamped = found.filter(|found| found.is_clamped).map(|found| &found.record);
    let Some(record) = record.or(clamped) else { return Ok(()) };
    let (expires_at, bytes) = (to_column(record.expires_at), frame::encode(record));
    if let Some(found) = found {
        let mut statement = connection.prepare_cached(include_str!("../sql/update.sql"))?;
        statement.execute((found.id, expires_at, bytes))?;
    } else {
        let mut statement = connection.prepare_cached(include_str!("../sql/insert.sql"))?;
        statement.execute((digest(key), expires_at, key.as_bytes(), bytes))?;
    }
    Ok(())
}

/// The record to use for a key that has none: an expired one with the greatest fence that was ever removed. New fences
/// exceed it even if the clock has stepped back.
pub(crate) fn fence_floor(connection: &Connection) -> Result<Option<Record>, Failure> {
    let mut statement = connection.prepare_cached(include_str!("../sql/removed_fence.sql"))?;
    let fence: i64 = statement.query_row([], |row| row.get(0))?;
    Ok(FencingToken::new(from_column(fence).as_micros()).map(|fence| Record {
        owner: OwnerToken::from_bytes([0; 16]),
        fence,
        attempt: 1,
        fingerprint: Record::NO_FINGERPRINT,
        state: State::Released,
        expires_at: Timestamp::from_micros(0),
    }))
}

/// What one batch of a sweep did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) removed: usize,
    /// No more records have expired.
    pub(crate) is_all: bool,
}

/// Removes at most `limit` expired records.
pub(crate) fn remove_expired(connection: &Connection, limit: u32, now: Timestamp) -> Result<Swept, Failure> {
    let mut removed = 0;
    for _ in 0..SWEEP_ZONES {
        let Some(zone) = due_zone(connection, now)? else { return Ok(Swept { removed, is_all: true }) };
        // `removed` is at most `limit`, which is a `u32`.
        let left = limit - u32::try_from(removed).unwrap_or(limit);
        if left == 0 {
            break;
        }
        removed += remove_expired_in(connection, zone, left, now)?;
    }
    Ok(Swept { removed, is_all: false })
}

/// Whether a record may have expired.
pub(crate) fn is_sweep_due(connection: &Connection, now: Timestamp) -> Result<bool, Failure> {
    Ok(due_zone(connection, now)?.is_some())
}

/// A zone in which a record may have expired.
fn due_zone(connection: &Connection, now: Timestamp) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached(include_str!("../sql/due_zone.sql"))?;
    statement.query_row([to_column(now)], |row| row.get(0)).optional()
}

fn remove_expired_in(
    connection: &Connection,
    zone: i64,
    limit: u32,
    now: Timestamp,
) -> Result<usize, Failure> {
    let mut statement = connection.prepare_cached(include_str!("../sql/expired.sql"))?;
    let fences: Vec<u64> = statement
        .query_map((zone, to_column(now), limit), |row| {
            let record =
                frame::decode(row.get_ref(1)?.as_blob().unwrap_or_default(), from_column(row.get(0)?));
            // A malformed record expires too. Its fence came from the clock, which has reached `now`.
            Ok(record.map_or(now.as_micros(), |record| record.fence.get()))
        })?
        .collect::<Result<_, _>>()?;
    let mut removed = 0;
    if let Some(greatest) = fences.into_iter().max() {
        let mut raise = connection.prepare_cached(include_str!("../sql/raise_removed_fence.sql"))?;
        raise.execute([to_column(Timestamp::from_micros(greatest))])?;
        // One statement removes the same records, so that a failure removes none of them.
        let mut remove = connection.prepare_cached(include_str!("../sql/remove.sql"))?;
        removed = remove.execute((zone, to_column(now), limit))?;
    }
    // Afterwards the zone says when the first of its remaining records expires.
    connection.prepare_cached(include_str!("../sql/update_zone.sql"))?.execute([zone])?;
    connection.prepare_cached(include_str!("../sql/remove_empty_zone.sql"))?.execute([zone])?;
    Ok(removed)
}

/// The first four bytes of the key's digest. Two keys rarely share them; the statements also compare the key itself.
fn digest(key: &Key) -> i32 {
    let mut first = [0; 4];
    first.copy_from_slice(&key.digest().as_bytes()[..4]);
    i32::from_be_bytes(first)
}

/// The value of a column, which is signed. A later instant is stored as the last one.
fn to_column(at: Timestamp) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

/// The instant in a column. The store writes no negative values.
fn from_column(value: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(value).unwrap_or(0))
}
