//! Callers who all ask at once.

use std::time::Instant;

use tokio::runtime::Runtime;

use crate::rounds::nanos_each;

/// Lets each caller do its share, all of them at once, in tasks of their own; and gives the nanoseconds for each item.
pub(super) fn all_at_once<T, F, Fut>(runtime: &Runtime, shares: Vec<Vec<T>>, run: F) -> f64
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

/// The items, dealt out to the callers.
pub(super) fn shares<T>(items: Vec<T>, callers: usize) -> Vec<Vec<T>> {
    let mut shares: Vec<Vec<T>> = (0..callers).map(|_| Vec::new()).collect();
    for (number, item) in items.into_iter().enumerate() {
        shares[number % callers].push(item);
    }
    shares
}
