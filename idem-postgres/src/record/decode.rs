//! Reads records and grants from the rows that the statements return.
//!
//! INV-1: a row that is not a record of a known version, column by column, is an error. It never becomes a record, and it
//! does not count as absent before it expires.

use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{OwnerToken, Record, ReserveOutcome, Span, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Format, StoredValue};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::fields::Fields;
use super::format::{RowError, VERSION, state};
use crate::sql::{Instant, Interval};

/// The record of a key.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: Record,
    /// The time before the record was read.
    before: Timestamp,
    /// The time after the record was read. Outcomes are decided at this time.
    pub(crate) now: Timestamp,
    /// The clock stepped back after the record was written, and its lease was shortened to its span.
    pub(crate) is_clamped: bool,
}

impl Found {
    /// Decodes the row of `sql/find.sql`.
    pub(crate) fn decode(row: &Row) -> Result<Self, RowError> {
        Self::from_fields(&column(row, 0, "record")?)
    }

    fn from_fields(row: &Fields<'_>) -> Result<Self, RowError> {
        let (before, now) = (instant(row, 0, "now")?, instant(row, 1, "now")?);
        let expires_at = instant(row, 8, "expires_at")?;
        let fence: i64 = row.get(5, "fence")?;
        let fence = fencing_token(fence)?;

        let version: i16 = row.get(2, "version")?;
        if version != VERSION {
            // An expired record counts as absent, and its expiry and its fence mean the same in every version.
            if now >= expires_at {
                let record = expired(fence, expires_at);
                return Ok(Self { record, before, now, is_clamped: false });
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
        let is_clamped = record.clamp_lease(now);
        Ok(Self { record, before, now, is_clamped })
    }

    /// Whether neither the lease nor the record ended while the record was read: the outcome is the same at both times.
    pub(crate) fn is_stable(&self) -> bool {
        let has_ended = |end: Timestamp| (self.before >= end) != (self.now >= end);
        let lease_until = match self.record.state {
            State::InFlight { lease_until, .. } => Some(lease_until),
            State::Completed { .. } | State::Released => None,
        };
        !has_ended(self.record.expires_at) && !lease_until.is_some_and(has_ended)
    }
}

/// The result of looking for a record and inserting a reservation if there is none.
pub(crate) enum FindOrInsert {
    Inserted(Grant),
    Found(Found),
    /// Another caller was faster: look again.
    Raced,
}

impl FindOrInsert {
    /// Decodes the row of `sql/reserve.sql`. The outer error is about a reservation that may have been written, the inner
    /// one about a record that was only read.
    pub(crate) fn decode(row: &Row) -> Result<Result<Self, RowError>, RowError> {
        let Some(fields) = column::<Option<Fields<'_>>>(row, 0, "record")? else {
            return Ok(Ok(Self::Raced));
        };
        if fields.len() == 1 {
            let inserted: Vec<i64> = fields.get(0, "grant")?;
            return Grant::of_inserted(&inserted).map(|grant| Ok(Self::Inserted(grant)));
        }
        Ok(Found::from_fields(&fields).map(Self::Found))
    }
}

/// What a written reservation or renewal grants.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) attempt: u32,
    pub(crate) fence: FencingToken,
    pub(crate) lease_left: Duration,
}

impl Grant {
    /// Decodes the row of `sql/claim.sql` and `sql/renew.sql`.
    pub(crate) fn decode(row: &Row) -> Result<Self, RowError> {
        let attempt: i64 = column(row, 0, "attempt")?;
        let fence: i64 = column(row, 1, "fence")?;
        let lease_until = column::<Instant>(row, 2, "lease_until")?.0;
        let now = column::<Instant>(row, 3, "now")?.0;
        Ok(Self {
            attempt: u32::try_from(attempt).map_err(|_| RowError::Malformed("attempt"))?,
            fence: fencing_token(fence)?,
            lease_left: lease_until.since(now),
        })
    }

    /// Decodes the row of `sql/insert.sql`. `None`: another caller was faster.
    pub(crate) fn decode_inserted(row: &Row) -> Result<Option<Self>, RowError> {
        let inserted = column::<Option<Vec<i64>>>(row, 0, "grant")?;
        inserted.map(|inserted| Self::of_inserted(&inserted)).transpose()
    }

    /// From the fence and the microseconds that the lease still runs.
    fn of_inserted(inserted: &[i64]) -> Result<Self, RowError> {
        let [fence, lease_left] = *inserted else { return Err(RowError::Malformed("grant")) };
        let lease_left = Duration::from_micros(u64::try_from(lease_left).unwrap_or(0));
        Ok(Self { attempt: 1, fence: fencing_token(fence)?, lease_left })
    }
}

impl From<Grant> for ReserveOutcome {
    fn from(Grant { attempt, fence, lease_left }: Grant) -> Self {
        Self::Reserved { attempt, fence, lease_left }
    }
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

/// Stands for an expired record whose other columns are not known.
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

fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize, name: &'static str) -> Result<T, RowError> {
    row.try_get(index).map_err(|_| RowError::Malformed(name))
}

fn instant(row: &Fields<'_>, index: usize, name: &'static str) -> Result<Timestamp, RowError> {
    row.get::<Instant>(index, name).map(|instant| instant.0)
}

fn span(row: &Fields<'_>, index: usize, name: &'static str) -> Result<Span, RowError> {
    let Interval(micros) = row.get(index, name)?;
    let span = u64::try_from(micros).ok().and_then(|micros| Span::from_micros(micros).ok());
    span.ok_or(RowError::Malformed(name))
}

fn fencing_token(fence: i64) -> Result<FencingToken, RowError> {
    u64::try_from(fence).ok().and_then(FencingToken::new).ok_or(RowError::Malformed("fence"))
}

fn bytes<const N: usize>(row: &Fields<'_>, index: usize, name: &'static str) -> Result<[u8; N], RowError> {
    row.get::<&[u8]>(index, name)?.try_into().map_err(|_| RowError::Malformed(name))
}
