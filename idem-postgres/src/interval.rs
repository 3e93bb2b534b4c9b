//! [`Interval`]: a span as an `interval` of the server.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use idem_core::store::Span;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// Microseconds, and neither days nor months: those have no length of their own, since clocks are put forward and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) i64);

impl Interval {
    pub(crate) fn of(span: Span) -> Self {
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
        let raw: [u8; 16] = raw.try_into()?;
        let [micros, days_and_months] = [&raw[..8], &raw[8..]].map(|half| {
            let mut word = [0; 8];
            word.copy_from_slice(half);
            i64::from_be_bytes(word)
        });
        if days_and_months != 0 {
            return Err("an interval of days or months has no length".into());
        }
        Ok(Self(micros))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_comes_back_to_the_microsecond_and_one_of_days_is_none() {
        for micros in [0, 1, -1, 86_400_000_000, i64::MAX] {
            let mut sent = BytesMut::new();
            assert!(matches!(Interval(micros).to_sql(&Type::INTERVAL, &mut sent), Ok(IsNull::No)));
            assert_eq!(Interval::from_sql(&Type::INTERVAL, &sent).unwrap(), Interval(micros));
        }
        let mut a_day = [0; 16];
        a_day[11] = 1;
        assert!(Interval::from_sql(&Type::INTERVAL, &a_day).is_err());
        assert!(Interval::from_sql(&Type::INTERVAL, &[0; 8]).is_err());
    }
}
