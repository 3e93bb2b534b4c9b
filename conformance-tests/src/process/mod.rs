//! Other processes: the test program starts itself again to be killed, or to be the other side of a store.

mod child;
mod frame;
mod remote;
mod serve;
mod task;
mod two;
mod wire;

pub(crate) use child::Child;
pub(crate) use serve::serve;
pub(crate) use task::Task;
pub(crate) use two::with_second_process;
