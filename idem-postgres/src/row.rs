//! How a row becomes a [`Record`].
//!
//! The form of a row has a number, its `version`: the meaning of a column never changes, and a new meaning gets a new
//! number. Rows of every version are kept in `tests/golden` and read by tests for ever.
//!
//! INV-1: what is not a record of a known version, column by column, is an error; never a record, and never absent
//! before it expires.

use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{OwnerToken, Record, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Format, StoredValue};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use crate::fields::Fields;
use crate::instant::Instant;
use crate::interval::Interval;

/// The version that is written.
pub(crate) const VERSION: i16 = 1;

/// The states, as the column `state` holds them.
pub(crate) mod state {
    pub(crate) const IN_FLIGHT: i8 = i8::from_be_bytes([b'i']);
    pub(crate) const ABANDONED: i8 = i8::from_be_bytes([b'a']);
    pub(crate) const COMPLETED: i8 = i8::from_be_bytes([b'c']);
    pub(crate) const NOT_KEPT: i8 = i8::from_be_bytes([b'n']);
    pub(crate) const RELEASED: i8 = i8::from_be_bytes([b'r']);
}

/// What was found for a key.
#[derive(Debug)]
pub(crate) struct Found {
    /// The time before it was looked for, and after.
    pub(crate) between: (Timestamp, Timestamp),
    pub(crate) record: Record,
    /// The clock has stepped back since it was written, and its lease was cut to its length.
    pub(crate) is_cut: bool,
}

/// Why a row is not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowError {
    #[error("the record has version {0}, and this release reads versions up to {VERSION}")]
    LaterVersion(i16),
    #[error("the record's column `{0}` does not hold what it should")]
    Malformed(&'static str),
}

impl RowError {
    /// Why a row of a version other than [`VERSION`] is not read.
    pub(crate) fn of_version(version: i16) -> Self {
        if version > VERSION { Self::LaterVersion(version) } else { Self::Malformed("version") }
    }
}

/// The record of a row that `sql/look.sql` gave.
pub(crate) fn decode(row: &Row) -> Result<Found, RowError> {
    decode_record(&column(row, 0, "record")?)
}

/// What becomes of a key that is looked at, and reserved if it has no record.
pub(crate) enum Reserved {
    Granted(FirstGrant),
    Found(Found),
    /// Others were in the way: it is to be asked again.
    Not,
}

/// What `sql/reserve.sql` gave. The outer error is of an answer that may have been a reservation, the inner one of a record that
/// was only looked at.
pub(crate) fn decode_reserved(row: &Row) -> Result<Result<Reserved, RowError>, RowError> {
    let Some(fields) = column::<Option<Fields<'_>>>(row, 0, "record")? else { return Ok(Ok(Reserved::Not)) };
    if fields.len() == 1 {
        let granted: Vec<i64> = fields.get(0, "grant")?;
        return Ok(Ok(Reserved::Granted(FirstGrant::of(&granted)?)));
    }
    Ok(decode_record(&fields).map(Reserved::Found))
}

fn decode_record(row: &Fields<'_>) -> Result<Found, RowError> {
    let between = (instant(row, 0, "now")?, instant(row, 1, "now")?);
    let expires_at = instant(row, 8, "expires_at")?;
    let fence: i64 = row.get(5, "fence")?;
    let fence = fencing_token(fence)?;

    let version: i16 = row.get(2, "version")?;
    if version != VERSION {
        // Whatever it was, it counts as absent from then on; and an instant and a fence are that in every version.
        if between.1 >= expires_at {
            return Ok(Found { between, record: expired(fence, expires_at), is_cut: false });
        }
        return Err(RowError::of_version(version));
    }

    let attempt: i64 = row.get(6, "attempt")?;
    let mut record = Record {
        owner: OwnerToken::from_bytes(bytes(row, 4, "owner")?),
        fence,
        attempt: u32::try_from(attempt).map_err(|_| RowError::Malformed("attempt"))?,
        fingerprint: Fingerprint::from_bytes(bytes(row, 7, "fingerprint")?),
        state: decode_state(row)?,
        expires_at,
    };
    let is_cut = record.clamp_lease(between.1);
    Ok(Found { between, record, is_cut })
}

fn decode_state(row: &Fields<'_>) -> Result<State, RowError> {
    let completed = |answer| {
        let completed_at = instant(row, 12, "completed_at")?;
        Ok(State::Completed { answer, completed_at })
    };
    match row.get::<i8>(3, "state")? {
        in_flight @ (state::IN_FLIGHT | state::ABANDONED) => Ok(State::InFlight {
            lease_until: instant(row, 9, "lease_until")?,
            lease: span(row, 10, "lease")?,
            record_ttl: span(row, 11, "record_ttl")?,
            abandoned: in_flight == state::ABANDONED,
        }),
        state::COMPLETED => {
            let (codec, schema) = (row.get::<i16>(13, "codec")?, row.get::<i64>(14, "schema")?);
            let format = Format {
                codec: u8::try_from(codec).map_err(|_| RowError::Malformed("codec"))?,
                schema: u32::try_from(schema).map_err(|_| RowError::Malformed("schema"))?,
            };
            let body = Bytes::copy_from_slice(row.get(15, "body")?);
            completed(Answer::Value(StoredValue { format, body }))
        }
        state::NOT_KEPT => completed(Answer::NotKept),
        state::RELEASED => Ok(State::Released),
        _ => Err(RowError::Malformed("state")),
    }
}

/// What stands for an expired record of which nothing else is known.
fn expired(fence: FencingToken, expires_at: Timestamp) -> Record {
    Record {
        owner: OwnerToken::from_bytes([0; 16]),
        fence,
        attempt: 1,
        fingerprint: Record::NO_FINGERPRINT,
        state: State::Released,
        expires_at,
    }
}

pub(crate) fn column<'a, T: FromSql<'a>>(
    row: &'a Row,
    index: usize,
    name: &'static str,
) -> Result<T, RowError> {
    row.try_get(index).map_err(|_| RowError::Malformed(name))
}

fn instant(row: &Fields<'_>, index: usize, name: &'static str) -> Result<Timestamp, RowError> {
    row.get::<Instant>(index, name).map(|instant| instant.0)
}

fn span(row: &Fields<'_>, index: usize, name: &'static str) -> Result<Span, RowError> {
    let Interval(micros) = row.get(index, name)?;
    let micros = u64::try_from(micros).map_err(|_| RowError::Malformed(name))?;
    Span::from_micros(micros).map_err(|_| RowError::Malformed(name))
}

fn fencing_token(fence: i64) -> Result<FencingToken, RowError> {
    u64::try_from(fence).ok().and_then(FencingToken::new).ok_or(RowError::Malformed("fence"))
}

fn bytes<const N: usize>(row: &Fields<'_>, index: usize, name: &'static str) -> Result<[u8; N], RowError> {
    row.get::<&[u8]>(index, name)?.try_into().map_err(|_| RowError::Malformed(name))
}

/// A reservation of a key that had no record.
#[derive(Debug)]
pub(crate) struct FirstGrant {
    pub(crate) fence: FencingToken,
    pub(crate) lease_left: Duration,
}

impl FirstGrant {
    fn of(granted: &[i64]) -> Result<Self, RowError> {
        let [fence, lease_left] = *granted else { return Err(RowError::Malformed("grant")) };
        let fence = fencing_token(fence)?;
        Ok(Self { fence, lease_left: Duration::from_micros(u64::try_from(lease_left).unwrap_or(0)) })
    }
}

/// What `sql/insert.sql` gave. `None`: somebody else was first.
pub(crate) fn decode_inserted(row: &Row) -> Result<Option<FirstGrant>, RowError> {
    let granted = column::<Option<Vec<i64>>>(row, 0, "grant")?;
    granted.map(|granted| FirstGrant::of(&granted)).transpose()
}

/// The attempt, the fence, the end of the lease and the time, as `claim` and `renew` return them.
pub(crate) fn decode_grant(row: &Row) -> Result<(u32, FencingToken, Timestamp, Timestamp), RowError> {
    let attempt: i64 = column(row, 0, "attempt")?;
    let fence: i64 = column(row, 1, "fence")?;
    Ok((
        u32::try_from(attempt).map_err(|_| RowError::Malformed("attempt"))?,
        fencing_token(fence)?,
        column::<Instant>(row, 2, "lease_until")?.0,
        column::<Instant>(row, 3, "now")?.0,
    ))
}

/// The types of a statement's parameters.
pub(crate) type Types = &'static [Type];
