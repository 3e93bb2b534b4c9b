//! [`Binary`]: a digest or a token as the parameter of a statement.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use idem_core::Key;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// Bytes of a known length, sent as `bytea`.
#[derive(Clone, Copy)]
pub(crate) struct Binary<const N: usize>(pub(crate) [u8; N]);

impl Binary<32> {
    /// What stands for the key in the table.
    pub(crate) fn digest(key: &Key) -> Self {
        Self(*key.digest().as_bytes())
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

/// Not the bytes: one of them is an owner's token, and drivers print parameters when they are asked to log.
impl<const N: usize> std::fmt::Debug for Binary<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Binary({N} bytes)")
    }
}
