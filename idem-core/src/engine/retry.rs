//! [`retry`]: sends a store operation until it is answered, with a deadline and always with the same token.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backoff::Backoff;
use crate::error::{Effect, Operation, StoreError, StoreErrorKind};
use crate::observe;

/// The first pause before an operation is sent again. Doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_BACKGROUND_PAUSE: Duration = Duration::from_secs(15);
/// How long one sending may stay unanswered before the operation is sent again.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// After which failures an operation is sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryPolicy {
    /// Failures of an operation that may have taken effect. The caller gets all others at once.
    IfUnknown,
    /// All failures that may pass: the caller could do nothing better than to try again.
    IfTransient,
    /// As `IfTransient`, with long pauses: nobody waits, and the sendings must not keep a store down.
    InBackground,
}

impl RetryPolicy {
    fn longest_pause(self) -> Duration {
        match self {
            Self::IfUnknown | Self::IfTransient => LONGEST_PAUSE,
            Self::InBackground => LONGEST_BACKGROUND_PAUSE,
        }
    }
}

/// Sends an operation until it is answered, fails for good, or `timeout` has passed since the first sending.
///
/// A sending without an answer is repeated after [`LONGEST_SILENCE`], or after half of the timeout if that is shorter, so
/// that a lost request leaves time for another. Each call of `send` must use the same token: that makes it safe.
///
/// INV-1: once one sending may have taken effect, no later failure says that the operation had none.
pub(crate) async fn retry<'a, T: Send + 'a>(
    operation: Operation,
    timeout: Duration,
    policy: RetryPolicy,
    mut send: impl FnMut() -> StoreFuture<'a, T>,
) -> Result<T, StoreError> {
    // The common case needs no timer and no clock: the store answers at the first poll.
    let mut first = send();
    match std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await {
        Poll::Ready(Ok(answer)) => Ok(answer),
        // Boxed, since timers are large, and every future that calls a store would be as large and be moved around.
        Poll::Ready(failed) => {
            let failed = Box::pin(std::future::ready(failed));
            Box::pin(retry_after(operation, timeout, policy, failed, send)).await
        }
        Poll::Pending => Box::pin(retry_after(operation, timeout, policy, first, send)).await,
    }
}

/// [`retry`] after a first sending that failed, or that was not answered at its first poll.
async fn retry_after<'a, T: Send + 'a>(
    operation: Operation,
    timeout: Duration,
    policy: RetryPolicy,
    first: StoreFuture<'a, T>,
    mut send: impl FnMut() -> StoreFuture<'a, T>,
) -> Result<T, StoreError> {
    let silence = LONGEST_SILENCE.min(timeout / 2);
    let start = Instant::now();
    let deadline = start + timeout;
    let mut result = answer_by(start + silence, operation, first).await;
    let mut is_unknown = false;
    let mut backoff = Backoff::new(FIRST_PAUSE, policy.longest_pause());
    loop {
        let mut error = match result {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        is_unknown |= error.effect == Effect::Unknown;
        let is_worth_it = error.is_transient() && (is_unknown || policy != RetryPolicy::IfUnknown);
        // Judged by the longest pause, so that some time is left for the answer to the last sending.
        let now = Instant::now();
        if !is_worth_it || now + backoff.longest_next_pause() >= deadline {
            if is_unknown {
                error.effect = Effect::Unknown;
            }
            return Err(error);
        }
        observe::resend(operation, &error);
        sleep_until(now + backoff.next_pause()).await;
        result = answer_by(deadline.min(Instant::now() + silence), operation, send()).await;
    }
}

async fn answer_by<T>(
    deadline: Instant,
    operation: Operation,
    sending: StoreFuture<'_, T>,
) -> Result<T, StoreError> {
    timeout_at(deadline, sending)
        .await
        .unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::Timeout, Effect::Unknown, operation)))
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn unavailable(effect: Effect) -> StoreError {
        StoreError::new(StoreErrorKind::Unavailable, effect, Operation::Complete)
    }

    /// Sends with the given answers, one per sending, and returns how many were used.
    async fn retry_with(
        policy: RetryPolicy,
        mut answers: impl FnMut(usize) -> StoreFuture<'static, u8>,
    ) -> (Result<u8, StoreError>, usize) {
        let mut sendings = 0;
        let result = retry(Operation::Complete, TIMEOUT, policy, || {
            sendings += 1;
            answers(sendings)
        })
        .await;
        (result, sendings)
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_is_sent_again_until_it_is_known() {
        let (result, sendings) = retry_with(RetryPolicy::IfUnknown, |sending| {
            Box::pin(async move { if sending < 4 { Err(unavailable(Effect::Unknown)) } else { Ok(7) } })
        })
        .await;
        assert_eq!((result.unwrap(), sendings), (7, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_without_effect_is_returned_at_once_or_sent_again_by_policy() {
        let fail =
            |_| -> StoreFuture<'static, u8> { Box::pin(async { Err(unavailable(Effect::NotApplied)) }) };
        assert_eq!(retry_with(RetryPolicy::IfUnknown, fail).await.1, 1);

        let start = Instant::now();
        let (result, sendings) = retry_with(RetryPolicy::IfTransient, fail).await;
        assert!(result.is_err() && sendings > 5, "{sendings}");
        assert!(start.elapsed() <= TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_taken_effect_is_never_reported_as_without_effect() {
        for last in [StoreErrorKind::Unavailable, StoreErrorKind::Corrupt] {
            let (result, sendings) = retry_with(RetryPolicy::IfUnknown, |sending| {
                Box::pin(async move {
                    Err(match sending {
                        1 => unavailable(Effect::Unknown),
                        _ => StoreError::new(last, Effect::NotApplied, Operation::Complete),
                    })
                })
            })
            .await;
            let error = result.unwrap_err();
            assert_eq!((error.kind, error.effect), (last, Effect::Unknown));
            // A store that is down may come back and answer. A corrupt record is an answer.
            assert_eq!(sendings > 2, last == StoreErrorKind::Unavailable, "{sendings} sendings");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_deadline_does_not_make_one_silent_sending_long() {
        let (result, sendings) = {
            let mut sendings = 0;
            let hour = Duration::from_secs(3600);
            let result =
                retry(Operation::Complete, hour, RetryPolicy::IfTransient, || -> StoreFuture<'_, u8> {
                    sendings += 1;
                    if sendings == 1 { Box::pin(std::future::pending()) } else { Box::pin(async { Ok(7) }) }
                });
            let start = Instant::now();
            let result = result.await;
            assert!(start.elapsed() <= LONGEST_SILENCE + FIRST_PAUSE);
            (result, sendings)
        };
        assert_eq!((result.unwrap(), sendings), (7, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_failure_is_never_sent_again() {
        let (result, sendings) = retry_with(RetryPolicy::IfTransient, |_| {
            Box::pin(async {
                Err(StoreError::new(StoreErrorKind::Corrupt, Effect::NotApplied, Operation::Complete))
            })
        })
        .await;
        assert_eq!((result.unwrap_err().kind, sendings), (StoreErrorKind::Corrupt, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_leaves_time_for_a_second_sending_and_ends_at_the_deadline() {
        let start = Instant::now();
        let (result, sendings) =
            retry_with(RetryPolicy::IfUnknown, |_| Box::pin(std::future::pending())).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::Unknown));
        assert_eq!(sendings, 2);
        assert_eq!(start.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for() {
        let (result, sendings) = retry_with(RetryPolicy::IfUnknown, |_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(7)
            })
        })
        .await;
        assert_eq!((result.unwrap(), sendings), (7, 1));
    }
}
