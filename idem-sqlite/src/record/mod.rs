//! Records: their bytes, and the table that holds them.

pub(crate) mod frame;
pub(crate) mod table;
