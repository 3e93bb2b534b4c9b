//! [`Instant`]: a `timestamptz` of the server, to the microsecond.

use std::error::Error;

use idem_core::store::Timestamp;
use tokio_postgres::types::{FromSql, Type};

/// From the Unix epoch to Postgres's, the year 2000, in microseconds.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// An instant as the server sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) Timestamp);

/// What lies before the Unix epoch, `-infinity` too, counts as the epoch itself: nothing of ours is before it.
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
    fn an_instant_is_read_to_the_microsecond_and_what_is_no_instant_is_not_read() {
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
