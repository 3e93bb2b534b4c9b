//! Callers that all ask at once.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use idem_core::ReservationStore;
use tokio::runtime::Runtime;

use crate::load::Request;
use crate::rounds::nanos_each;
use crate::subject::{fingerprint, first_request};

/// Lets each caller do its share, all of them at once, in tasks of their own; and gives the nanoseconds for each item.
pub(crate) fn all_at_once<T, F, Fut>(runtime: &Runtime, shares: Vec<Vec<T>>, run: F) -> f64
where
    F: Fn(Vec<T>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let items = shares.iter().map(Vec::len).sum();
    let started = Instant::now();
    runtime.block_on(async {
        let callers: Vec<_> = shares.into_iter().map(|share| tokio::spawn(run(share))).collect();
        for caller in callers {
            caller.await.unwrap_or_else(|error| panic!("a caller failed: {error}"));
        }
    });
    nanos_each(started, items)
}

/// Lets each caller make its first requests at the store, all of them at once; and gives the nanoseconds for each.
pub(crate) fn first_requests(
    runtime: &Runtime,
    store: &Arc<impl ReservationStore + 'static>,
    shares: Vec<Vec<Request>>,
) -> f64 {
    all_at_once(runtime, shares, |requests| {
        let store = Arc::clone(store);
        async move {
            for request in requests {
                first_request(&*store, fingerprint(), request).await;
            }
        }
    })
}

/// The items, dealt out to the callers.
pub(crate) fn shares<T>(items: Vec<T>, callers: usize) -> Vec<Vec<T>> {
    let mut shares: Vec<Vec<T>> = (0..callers).map(|_| Vec::new()).collect();
    for (number, item) in items.into_iter().enumerate() {
        shares[number % callers].push(item);
    }
    shares
}

/// The range, which moves on by its own length.
pub(crate) fn next(range: &mut Range<u64>) -> Range<u64> {
    let next = range.end..range.end + (range.end - range.start);
    std::mem::replace(range, next)
}
