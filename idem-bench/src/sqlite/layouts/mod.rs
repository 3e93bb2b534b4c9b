//! Figures h to k: what a first request costs in four forms of the table, each with what a sweep needs, in bare SQLite: a
//! record is inserted, found by its key, and written again with its answer, 64 requests a transaction. The disk's flush is
//! left out (`synchronous=OFF`): it is the same for all of them.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

use super::setup::Scale;
use crate::load::{Load, Request};
use crate::report::{Figure, Target};
use crate::rounds::{Spread, nanos_each};

/// Requests in a transaction.
const GROUP: u64 = 64;
/// What a record is except its key and answer, about.
const RECORD: [u8; 72] = [5; 72];
/// Microseconds since the epoch, which take as many bytes as those of a real record.
const EXPIRES_AT: i64 = 1_800_000_000_000_000;
/// One layout is measured at this part of the large scale.
const PART: u64 = 5;
/// How much of the last part is timed, when the file has its size.
const TIMED: u64 = 10;

/// Which layout, and how it finds a key.
#[derive(Clone, Copy)]
enum Layout {
    Unique,
    WithoutRowid,
    Digest,
    Zones,
}

pub(super) fn compared(scale: &Scale, directory: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let layouts = [
        ("h", Layout::Unique, "rowid table, the key as unique index"),
        ("i", Layout::WithoutRowid, "WITHOUT ROWID"),
        ("j", Layout::Digest, "rowid table, index of the key's digest"),
        ("k", Layout::Zones, "the same, one row for 128 expiries (as idem-sqlite has it)"),
    ];
    let records = scale.large / PART;
    let mut figures = Vec::new();
    for (id, layout, name) in layouts {
        let (each, bytes) = measure(layout, records, directory)?;
        figures.push(Figure {
            id,
            what: format!("layout: {name}; {records} records, {bytes} bytes each beyond key and answer"),
            unit: "ns",
            target: Target::Untargeted,
            value: Spread::single(each),
            comparisons: Vec::new(),
            flush: None,
        });
    }
    Ok(figures)
}

/// Nanoseconds per request at the end, and bytes per record.
fn measure(layout: Layout, records: u64, directory: &Path) -> Result<(f64, u64), Box<dyn Error>> {
    let files = tempfile::tempdir_in(directory)?;
    let file = files.path().join("layout.db");
    let mut connection = Connection::open(&file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.execute_batch(layout.schema())?;

    let load = Load::new(64);
    let timed_from = records - records / TIMED;
    let (mut took, mut timed) = (0.0, 0_u32);
    let mut first = 0;
    while first < records {
        let end = records.min(first + GROUP);
        let requests = load.requests(first..end);
        let started = Instant::now();
        let transaction = connection.transaction()?;
        for request in &requests {
            layout.first_request(&transaction, request, EXPIRES_AT + i64::try_from(first)?)?;
        }
        transaction.commit()?;
        if first >= timed_from {
            took += nanos_each(started, requests.len());
            timed += 1;
        }
        first = end;
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let bytes = fs::metadata(&file)?.len() / records - load.bytes_each() as u64;
    Ok((took / f64::from(timed.max(1)), bytes))
}

impl Layout {
    fn schema(self) -> &'static str {
        match self {
            Self::Unique => include_str!("unique.sql"),
            Self::WithoutRowid => include_str!("without_rowid.sql"),
            Self::Digest => include_str!("digest.sql"),
            Self::Zones => include_str!("zones.sql"),
        }
    }

    /// Looks for the key, inserts its record, finds it again and writes it with its answer.
    fn first_request(self, connection: &Connection, request: &Request, at: i64) -> rusqlite::Result<()> {
        let key = request.key.as_bytes();
        let record = [&RECORD[..], &request.answer].concat();
        match self {
            Self::Unique | Self::WithoutRowid => {
                let found = "SELECT record FROM record WHERE key = ?1";
                assert!(!connection.prepare_cached(found)?.exists([key])?);
                let insert = "INSERT INTO record (key, expires_at, record) VALUES (?1, ?2, ?3)";
                connection.prepare_cached(insert)?.execute(params![key, at, RECORD])?;
                assert!(connection.prepare_cached(found)?.exists([key])?);
                let update = "UPDATE record SET expires_at = ?2, record = ?3 WHERE key = ?1";
                connection.prepare_cached(update)?.execute(params![key, at + 1, record])?;
            }
            Self::Digest | Self::Zones => {
                let mut first = [0; 4];
                first.copy_from_slice(&request.key.digest().as_bytes()[..4]);
                let digest = i32::from_be_bytes(first);
                let found = "SELECT id FROM record WHERE digest = ?1 AND key = ?2";
                assert!(!connection.prepare_cached(found)?.exists(params![digest, key])?);
                let insert = "INSERT INTO record (digest, key, expires_at, record) VALUES (?1, ?2, ?3, ?4)";
                connection.prepare_cached(insert)?.execute(params![digest, key, at, RECORD])?;
                let id: i64 =
                    connection.prepare_cached(found)?.query_row(params![digest, key], |row| row.get(0))?;
                let update = "UPDATE record SET expires_at = ?2, record = ?3 WHERE id = ?1";
                connection.prepare_cached(update)?.execute(params![id, at + 1, record])?;
            }
        }
        Ok(())
    }
}
