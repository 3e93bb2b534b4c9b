//! The reservation while the handler runs, and the transactional step that takes it.

pub(crate) mod slot;
mod transactional;

pub use self::slot::TransactionalStepRejection;
pub use self::transactional::{ResponseEncoder, TransactionalStep};
