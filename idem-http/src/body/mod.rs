//! Bodies: the types that wrap them, and reading them up to a limit.

pub(crate) mod read;
mod wrapper;

pub(crate) use self::read::BoxError;
pub use self::wrapper::{RequestBody, ResponseBody};
