//! The `tracing` events of the layer. [`idem_core::observe`] lists those of the engine.
//!
//! Names are stable. Events show a key by its digest, and never show headers or bodies.
//!
//! | event (target `idem_http`) | level | when |
//! |---|---|---|
//! | `idem.http.store_failed` | error | the store failed before the handler ran, and the request was refused |
//! | `idem.http.unreadable` | error | this version cannot read a stored response |
//! | `idem.http.panicked` | error | a handler panicked; its key was abandoned |
//! | `idem.http.response_broken` | error | a handler's response broke off while it was read; its key was abandoned |
//! | `idem.http.unconfirmed` | error | the store did not say whether a transactional step was committed |
//! | `idem.http.not_committed` | error | a handler returned a success, but its transactional step was not committed |
//!
//! A guarded handler runs in the span `idem.http.run` (debug), with the fields `key` and `attempt`.

use std::error::Error;
use std::fmt;

use idem_core::Key;
use tracing::{Span, debug_span, error};

pub(crate) fn run(key: &Key, attempt: u32) -> Span {
    debug_span!(target: "idem_http", "idem.http.run", key = %key.digest(), attempt)
}

pub(crate) fn store_failed(key: &Key, error: &dyn Error) {
    error!(name: "idem.http.store_failed", target: "idem_http", key = %key.digest(), error = %Chain(error), "the request was refused");
}

pub(crate) fn unreadable(key: &Key, error: &dyn Error) {
    error!(name: "idem.http.unreadable", target: "idem_http", key = %key.digest(), error = %Chain(error), "a stored response cannot be replayed");
}

pub(crate) fn panicked(key: &Key) {
    error!(name: "idem.http.panicked", target: "idem_http", key = %key.digest(), "the handler panicked");
}

pub(crate) fn response_broken(key: &Key, error: &dyn Error) {
    error!(name: "idem.http.response_broken", target: "idem_http", key = %key.digest(), error = %Chain(error), "the handler's response broke off");
}

pub(crate) fn unconfirmed(key: &Key, error: &dyn Error) {
    error!(name: "idem.http.unconfirmed", target: "idem_http", key = %key.digest(), error = %Chain(error), "the store did not say whether the step was committed");
}

pub(crate) fn not_committed(key: &Key) {
    error!(name: "idem.http.not_committed", target: "idem_http", key = %key.digest(), "the handler returned a success, but its step was not committed");
}

/// Shows an error with all of its sources, which its own `Display` leaves out.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
