//! Runs a guarded handler in a task of its own, from its start to the client's response.
//!
//! INV-1: the handler's response is sent only after the store has acknowledged its completion, release or abandon, so
//! that the next request sees it.
//! INV-2: the response of a run that lost its key is never sent. The client gets the response that was accepted.
//! INV-3: a panic loses no reservation: it is in the slot or in the call that settles it, and is settled or abandoned.

mod settle;
mod start;

pub(crate) use self::start::start;
