//! [`catch_unwind`] for futures.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;

/// The payload of a panic.
pub type Panic = Box<dyn Any + Send>;

/// Runs a future to its end. If it panics, returns the panic as an error.
///
/// Unwind safety is asserted: the future is dropped after a panic. Do not use state that the future shared with its
/// caller after that.
pub async fn catch_unwind<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
