//! What the layer tells the outside about itself: `tracing` events, beside those of [`idem_core::observe`].
//!
//! Names are stable. A key is shown by its digest; headers and bodies are never shown.
//!
//! | event (target `idem_http`) | level | when |
//! |---|---|---|
//! | `idem.http.store_failed` | error | the store failed before the handler ran, and the client was refused |
//! | `idem.http.unreadable` | error | a stored answer is not one that this version can read |
//! | `idem.http.panicked` | error | a handler panicked; its key was abandoned |
//! | `idem.http.response_broken` | error | a handler's response broke off while it was collected; its key was abandoned |
//! | `idem.http.unconfirmed` | error | the store could not be asked whether a transactional step was committed |
//! | `idem.http.not_committed` | error | a handler claims success after a transactional step that was not committed |
//!
//! A guarded handler runs in a span `idem.http.run` (debug) with the fields `key` and `attempt`.

use std::error::Error;
use std::fmt;

use idem_core::{Key, StoreError};
use tracing::{Span, debug_span, error};

use crate::body::BoxError;
use crate::stored::Unreadable;

pub(crate) fn run(key: &Key, attempt: u32) -> Span {
    debug_span!(target: "idem_http", "idem.http.run", key = %key.digest(), attempt)
}

pub(crate) fn store_failed(key: &Key, error: &StoreError) {
    error!(name: "idem.http.store_failed", target: "idem_http", key = %key.digest(), error = %Chain(error), "the request was refused");
}

pub(crate) fn unreadable(key: &Key, error: Unreadable) {
    error!(name: "idem.http.unreadable", target: "idem_http", key = %key.digest(), %error, "a stored answer cannot be replayed");
}

pub(crate) fn panicked(key: &Key) {
    error!(name: "idem.http.panicked", target: "idem_http", key = %key.digest(), "the handler panicked");
}

pub(crate) fn response_broken(key: &Key, error: &BoxError) {
    error!(name: "idem.http.response_broken", target: "idem_http", key = %key.digest(), error = %Chain(&**error), "the handler's response broke off");
}

pub(crate) fn unconfirmed(key: &Key) {
    error!(name: "idem.http.unconfirmed", target: "idem_http", key = %key.digest(), "the store could not be asked whether the step was committed");
}

pub(crate) fn not_committed(key: &Key) {
    error!(name: "idem.http.not_committed", target: "idem_http", key = %key.digest(), "the handler claims success, and its step was not committed");
}

/// An error with its sources, which its `Display` leaves out.
struct Chain<'a>(&'a (dyn Error + 'static));

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
