//! The statements: finding, writing and removing records on one connection.
//!
//! INV-1: no statement that writes returns rows. SQLite may say that such a one was done although its commit failed.
//! INV-2: an expired record is found like any other, since its fence counts on; the state machine treats it as absent.

use idem_core::store::{OwnerToken, Record, State, Timestamp};
use idem_core::{FencingToken, Fingerprint, Key};
use rusqlite::{Connection, OptionalExtension};

use crate::error::Failure;
use crate::frame;

/// Zones that one transaction of a sweep looks at: few enough that nobody waits long for it.
const ZONES_AT_ONCE: usize = 32;

/// A record in the table.
#[derive(Debug)]
pub(crate) struct Found {
    id: i64,
    pub(crate) record: Record,
    /// The clock has stepped back since it was written, and its lease was cut to its length: that has to be written,
    /// or the lease would begin anew with every look.
    pub(crate) is_cut: bool,
}

/// The record of the key, expired or not.
pub(crate) fn find(connection: &Connection, key: &Key, now: Timestamp) -> Result<Option<Found>, Failure> {
    let mut statement = connection.prepare_cached(include_str!("sql/find.sql"))?;
    let found = statement
        .query_row((digest(key), key.as_bytes()), |row| {
            let expires_at = instant(row.get(1)?);
            // A column that is not a blob is as broken as a blob that is not a record.
            let bytes = row.get_ref(2)?.as_blob().unwrap_or_default();
            Ok((row.get(0)?, frame::decode(bytes, expires_at)))
        })
        .optional()?;
    let Some((id, record)) = found else { return Ok(None) };
    let mut record = record.map_err(Failure::Frame)?;
    let is_cut = record.clamp_lease(now);
    Ok(Some(Found { id, record, is_cut }))
}

/// Writes the record in the place of what was found; or, if nothing is to be written, what had to be cut.
pub(crate) fn write(
    connection: &Connection,
    key: &Key,
    found: Option<&Found>,
    record: Option<&Record>,
) -> Result<(), Failure> {
    let cut = found.filter(|found| found.is_cut).map(|found| &found.record);
    let Some(record) = record.or(cut) else { return Ok(()) };
    let (expires_at, bytes) = (stored(record.expires_at), frame::encode(record));
    if let Some(found) = found {
        let mut statement = connection.prepare_cached(include_str!("sql/update.sql"))?;
        statement.execute((found.id, expires_at, bytes))?;
    } else {
        let mut statement = connection.prepare_cached(include_str!("sql/insert.sql"))?;
        statement.execute((digest(key), expires_at, key.as_bytes(), bytes))?;
    }
    Ok(())
}

/// What stands for the record of a key that has none: an expired one with the greatest fence that was ever removed, so
/// that fences go on from there even if the clock has stepped back since.
pub(crate) fn stand_in(connection: &Connection) -> Result<Option<Record>, Failure> {
    let mut statement = connection.prepare_cached(include_str!("sql/removed_fence.sql"))?;
    let fence: i64 = statement.query_row([], |row| row.get(0))?;
    Ok(FencingToken::new(instant(fence).as_micros()).map(|fence| Record {
        owner: OwnerToken::from_bytes([0; 16]),
        fence,
        attempt: 1,
        fingerprint: Fingerprint::from_bytes([0; 32]),
        state: State::Released,
        expires_at: Timestamp::from_micros(0),
    }))
}

/// What a part of a sweep did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) removed: usize,
    /// Nothing more has expired.
    pub(crate) is_all: bool,
}

/// Removes at most `limit` expired records.
pub(crate) fn remove_expired(connection: &Connection, limit: u32, now: Timestamp) -> Result<Swept, Failure> {
    let mut removed = 0;
    for _ in 0..ZONES_AT_ONCE {
        let Some(zone) = due_zone(connection, now)? else { return Ok(Swept { removed, is_all: true }) };
        // At most `limit`, which is a `u32`.
        let left = limit - u32::try_from(removed).unwrap_or(limit);
        if left == 0 {
            break;
        }
        removed += remove_expired_of(connection, zone, left, now)?;
    }
    Ok(Swept { removed, is_all: false })
}

/// Whether a sweep may find something.
pub(crate) fn is_sweep_due(connection: &Connection, now: Timestamp) -> Result<bool, Failure> {
    Ok(due_zone(connection, now)?.is_some())
}

/// A zone in which a record may have expired.
fn due_zone(connection: &Connection, now: Timestamp) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached(include_str!("sql/due_zone.sql"))?;
    statement.query_row([stored(now)], |row| row.get(0)).optional()
}

fn remove_expired_of(
    connection: &Connection,
    zone: i64,
    limit: u32,
    now: Timestamp,
) -> Result<usize, Failure> {
    let mut statement = connection.prepare_cached(include_str!("sql/expired.sql"))?;
    let fences: Vec<u64> = statement
        .query_map((zone, stored(now), limit), |row| {
            let expires_at = instant(row.get(0)?);
            let record = frame::decode(row.get_ref(1)?.as_blob().unwrap_or_default(), expires_at);
            // What cannot be read is expired all the same. Its fence came from a clock, at the latest from this one.
            Ok(record.map_or(now.as_micros(), |record| record.fence.get()))
        })?
        .collect::<Result<_, _>>()?;
    let mut removed = 0;
    if let Some(greatest) = fences.into_iter().max() {
        let mut raise = connection.prepare_cached(include_str!("sql/raise_removed_fence.sql"))?;
        raise.execute([stored(Timestamp::from_micros(greatest))])?;
        // The same records, in one statement: if it fails, none was removed.
        let mut remove = connection.prepare_cached(include_str!("sql/remove.sql"))?;
        removed = remove.execute((zone, stored(now), limit))?;
    }
    // What is left of it may expire later than was said. The zone is true after each of these.
    connection.prepare_cached(include_str!("sql/look_at_zone.sql"))?.execute([zone])?;
    connection.prepare_cached(include_str!("sql/forget_zone.sql"))?.execute([zone])?;
    Ok(removed)
}

/// Four bytes, which SQLite stores in four: enough that two keys rarely share them, and those that do are told apart by
/// the key itself.
fn digest(key: &Key) -> i32 {
    let mut first = [0; 4];
    first.copy_from_slice(&key.digest().as_bytes()[..4]);
    i32::from_be_bytes(first)
}

/// The column is signed; an instant beyond its end is as good as its end.
fn stored(at: Timestamp) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

/// What [`stored`] wrote. Nothing of ours is before the epoch.
fn instant(stored: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(stored).unwrap_or(0))
}
