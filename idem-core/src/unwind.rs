//! [`catch_unwind`] for futures.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// What a panic carries.
pub type Panic = Box<dyn Any + Send>;

/// Runs a future to its end and returns its panic, if it panics, as an error.
///
/// Unwind safety is asserted: the future is dropped after a panic, so nothing sees what it left half changed. The caller
/// must not look at state that the future shared with it either.
pub fn catch_unwind<F: Future>(future: F) -> impl Future<Output = Result<F::Output, Panic>> {
    CatchUnwind { future }
}

pin_project! {
    // An `async fn` would hold the future twice: as its argument, and pinned.
    struct CatchUnwind<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
