//! How digests, tokens, spans and instants are sent to the server and read from it.

use std::error::Error;
use std::fmt;

use bytes::{BufMut, BytesMut};
use idem_core::Key;
use idem_core::store::{OwnerToken, Span, Timestamp};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// From the Unix epoch to Postgres's epoch, the year 2000, in microseconds.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

pub(crate) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A digest or a token, sent as `bytea`.
#[derive(Clone, Copy)]
pub(crate) struct Binary<const N: usize>(pub(crate) [u8; N]);

impl From<&Key> for Binary<32> {
    fn from(key: &Key) -> Self {
        Self(*key.digest().as_bytes())
    }
}

impl From<OwnerToken> for Binary<16> {
    fn from(owner: OwnerToken) -> Self {
        Self(*owner.as_bytes())
    }
}

impl<const N: usize> ToSql for Binary<N> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::BYTEA
    }

    to_sql_checked!();
}

/// Hides the bytes: they can be an owner's token, and drivers log parameters at debug level.
impl<const N: usize> fmt::Debug for Binary<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binary({N} bytes)")
    }
}

/// An `interval` in microseconds, without days and months: those have no fixed length, because clocks change to and from
/// summer time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) i64);

impl From<Span> for Interval {
    fn from(span: Span) -> Self {
        // A span is at most ten years, which fits.
        Self(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
    }
}

impl ToSql for Interval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0);
        // Days and months.
        out.put_i64(0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Interval {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let (micros, days_and_months) = raw.split_first_chunk().ok_or("an interval has 16 bytes")?;
        if days_and_months != [0; 8] {
            return Err("an interval with days or months has no fixed length".into());
        }
        Ok(Self(i64::from_be_bytes(*micros)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }
}

/// A `timestamptz`, to the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) Timestamp);

/// Everything before the Unix epoch, also `-infinity`, becomes the epoch: the store writes nothing before it.
impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        let micros = since_2000.saturating_add(POSTGRES_EPOCH);
        Ok(Self(Timestamp::from_micros(u64::try_from(micros).unwrap_or(0))))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_back_to_the_microsecond_and_an_interval_of_days_is_refused() {
        for micros in [0, 1, -1, 86_400_000_000, i64::MAX] {
            let mut sent = BytesMut::new();
            assert!(matches!(Interval(micros).to_sql(&Type::INTERVAL, &mut sent), Ok(IsNull::No)));
            assert_eq!(Interval::from_sql(&Type::INTERVAL, &sent).unwrap(), Interval(micros));
        }
        let mut a_day = [0; 16];
        a_day[11] = 1;
        assert!(Interval::from_sql(&Type::INTERVAL, &a_day).is_err());
        assert!(Interval::from_sql(&Type::INTERVAL, &[0; 8]).is_err());
        assert!(Interval::from_sql(&Type::INTERVAL, &[0; 4]).is_err());
    }

    #[test]
    fn an_instant_is_read_to_the_microsecond_and_other_types_are_refused() {
        let read =
            |since_2000: i64| Instant::from_sql(&Type::TIMESTAMPTZ, &since_2000.to_be_bytes()).unwrap();
        assert_eq!(read(0).0.as_micros(), 946_684_800_000_000);
        assert_eq!(read(820_584_000_000_001).0.as_micros(), 1_767_268_800_000_001);
        assert_eq!(read(i64::MIN).0.as_micros(), 0);
        assert_eq!(read(i64::MAX).0.as_micros(), i64::MAX.unsigned_abs());
        assert!(Instant::from_sql(&Type::TIMESTAMPTZ, &[0; 4]).is_err());
        assert!(!<Instant as FromSql<'_>>::accepts(&Type::TIMESTAMP));
    }
}
