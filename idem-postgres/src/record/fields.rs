//! [`Fields`]: the columns of an anonymous record (`ROW(..)`), which is what a function returns.
//!
//! A statement that named the columns would make the server describe each of them with every answer, also with an answer
//! that has none.

use std::error::Error;

use tokio_postgres::types::{FromSql, Type};

use super::format::RowError;

/// The type of each column, and its bytes or null.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fields<'a>(Vec<(u32, Option<&'a [u8]>)>);

impl<'a> Fields<'a> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get<T: FromSql<'a>>(&self, index: usize, name: &'static str) -> Result<T, RowError> {
        let malformed = RowError::Malformed(name);
        let (oid, raw) = self.0.get(index).ok_or(malformed.clone())?;
        let ty = Type::from_oid(*oid).filter(T::accepts).ok_or(malformed.clone())?;
        T::from_sql_nullable(&ty, *raw).map_err(|_| malformed)
    }
}

/// The format of `record_send`: the number of columns, and for each its type, its length (-1 for null) and its bytes.
impl<'a> FromSql<'a> for Fields<'a> {
    fn from_sql(_: &Type, mut raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let count = integer(&mut raw)?;
        let mut fields = Vec::with_capacity(usize::try_from(count)?.min(raw.len() / 8));
        for _ in 0..count {
            let oid = u32::from_be_bytes(integer(&mut raw)?.to_be_bytes());
            let bytes = match integer(&mut raw)? {
                -1 => None,
                length => Some(take(&mut raw, usize::try_from(length)?)?),
            };
            fields.push((oid, bytes));
        }
        if !raw.is_empty() {
            return Err("bytes follow the record".into());
        }
        Ok(Self(fields))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::RECORD
    }
}

fn integer(raw: &mut &[u8]) -> Result<i32, Box<dyn Error + Sync + Send>> {
    Ok(i32::from_be_bytes(take(raw, 4)?.try_into()?))
}

fn take<'a>(raw: &mut &'a [u8], length: usize) -> Result<&'a [u8], Box<dyn Error + Sync + Send>> {
    let (taken, rest) = raw.split_at_checked(length).ok_or("the record is truncated")?;
    *raw = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ROW(7::int8, NULL::int2, ''::bytea)`.
    fn record() -> Vec<u8> {
        let mut raw = 3_i32.to_be_bytes().to_vec();
        for (ty, length, bytes) in
            [(Type::INT8, 8, &7_i64.to_be_bytes()[..]), (Type::INT2, -1, &[]), (Type::BYTEA, 0, &[])]
        {
            raw.extend(ty.oid().to_be_bytes());
            raw.extend(i32::to_be_bytes(length));
            raw.extend(bytes);
        }
        raw
    }

    #[test]
    fn a_column_is_read_as_its_own_type_only() {
        let raw = record();
        let fields = Fields::from_sql(&Type::RECORD, &raw).unwrap();
        assert_eq!(fields.len(), 3);
        assert_eq!(fields.get::<i64>(0, "a"), Ok(7));
        assert_eq!(fields.get::<Option<i16>>(1, "b"), Ok(None));
        assert_eq!(fields.get::<&[u8]>(2, "c"), Ok(&[][..]));
        assert_eq!(fields.get::<i32>(0, "a"), Err(RowError::Malformed("a")));
        assert_eq!(fields.get::<i16>(1, "b"), Err(RowError::Malformed("b")));
        assert_eq!(fields.get::<i64>(3, "d"), Err(RowError::Malformed("d")));
    }

    #[test]
    fn a_truncated_or_overlong_record_is_refused() {
        let raw = record();
        for length in 0..raw.len() {
            assert!(Fields::from_sql(&Type::RECORD, &raw[..length]).is_err(), "{length}");
        }
        let longer = [&raw[..], &[0]].concat();
        assert!(Fields::from_sql(&Type::RECORD, &longer).is_err());
        for count in [-1, i32::MAX] {
            let wrong = [&i32::to_be_bytes(count)[..], &raw[4..]].concat();
            assert!(Fields::from_sql(&Type::RECORD, &wrong).is_err(), "{count}");
        }
    }
}
