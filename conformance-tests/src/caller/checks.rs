//! Checks of outcomes that name the line of the test in their failures.

use std::fmt::Debug;
use std::panic::Location;

use idem_core::StoreError;

/// The outcome of a call. An error of the store fails the test at the line that called.
#[track_caller]
pub(super) fn answered<'a, T: 'a>(
    call: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> impl Future<Output = T> + Send + 'a {
    let at = Location::caller();
    async move {
        match call.await {
            Ok(outcome) => outcome,
            Err(error) => panic!("{at}: the store failed: {error} ({:?})", std::error::Error::source(&error)),
        }
    }
}

/// What `wanted` finds in the outcome. An outcome without it fails the test at the line that called.
#[track_caller]
pub(super) fn matching<'a, T: Debug + 'a, W: 'a>(
    what: &'static str,
    call: impl Future<Output = T> + Send + 'a,
    wanted: impl FnOnce(T) -> Result<W, T> + Send + 'a,
) -> impl Future<Output = W> + Send + 'a {
    let at = Location::caller();
    async move {
        match wanted(call.await) {
            Ok(found) => found,
            Err(other) => panic!("{at}: expected {what}, and got {other:?}"),
        }
    }
}

/// Fails the test at the line that called unless this is the outcome.
#[track_caller]
pub(super) fn expected<'a, T: Debug + PartialEq + Send + 'a>(
    expected: T,
    call: impl Future<Output = T> + Send + 'a,
) -> impl Future<Output = ()> + Send + 'a {
    let at = Location::caller();
    async move {
        let outcome = call.await;
        assert!(outcome == expected, "{at}: expected {expected:?}, and got {outcome:?}");
    }
}

pub(super) fn failed<T: Debug>(at: &Location<'_>, result: Result<T, StoreError>) -> StoreError {
    match result {
        Ok(outcome) => panic!("{at}: expected an error, and got {outcome:?}"),
        Err(error) => error,
    }
}
