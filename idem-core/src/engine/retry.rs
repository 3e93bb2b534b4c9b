//! How the engine calls a store: with a deadline, and sent again with the same token while the outcome is unknown.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backoff::Backoff;
use crate::{Effect, Operation, StoreError, StoreErrorKind, observe};

/// The first pause before an operation is sent again. Doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_BACKGROUND_PAUSE: Duration = Duration::from_secs(15);
/// The longest that one sending may stay unanswered before it is repeated.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Which failures are worth another sending.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resend {
    /// Only those of an operation that may have taken effect: whoever asked can be told of the others at once.
    Unknown,
    /// Everything that may pass: there is nobody to tell who could do better.
    Transient,
    /// The same, with long pauses: nobody waits for it, and a store that is down must not be kept down by it.
    InBackground,
}

impl Resend {
    fn longest_pause(self) -> Duration {
        match self {
            Self::Unknown | Self::Transient => LONGEST_PAUSE,
            Self::InBackground => LONGEST_BACKGROUND_PAUSE,
        }
    }
}

/// Sends an operation until it is answered, fails for good, or `within` has passed since the first sending.
///
/// A silent sending is given up and repeated after [`LONGEST_SILENCE`], and after half of the time at the latest, so
/// that a link that swallows a request leaves time for another. `send` must send the same token each time; that is
/// what makes this safe.
///
/// INV-1: once one sending may have taken effect, no later failure says that the operation had none.
pub(crate) async fn call<'a, T: Send + 'a>(
    operation: Operation,
    within: Duration,
    resend: Resend,
    mut send: impl FnMut() -> StoreFuture<'a, T>,
) -> Result<T, StoreError> {
    // The common case needs no timer and no clock: the store answers when it is first asked.
    let mut first = send();
    match std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await {
        Poll::Ready(Ok(answer)) => Ok(answer),
        // Boxed, since timers are large, and every future that calls a store would be as large and be moved about.
        Poll::Ready(failed) => {
            let failed = Box::pin(std::future::ready(failed));
            Box::pin(persist(operation, within, resend, failed, send)).await
        }
        Poll::Pending => Box::pin(persist(operation, within, resend, first, send)).await,
    }
}

/// Goes on with an operation that was not answered with its first poll, or that failed.
async fn persist<'a, T: Send + 'a>(
    operation: Operation,
    within: Duration,
    resend: Resend,
    first: StoreFuture<'a, T>,
    mut send: impl FnMut() -> StoreFuture<'a, T>,
) -> Result<T, StoreError> {
    let silence = LONGEST_SILENCE.min(within / 2);
    let start = Instant::now();
    let deadline = start + within;
    let mut result = answer_by(start + silence, operation, first).await;
    let mut is_unknown = false;
    let mut backoff = Backoff::new(FIRST_PAUSE, resend.longest_pause());
    loop {
        let mut error = match result {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        is_unknown |= error.effect == Effect::Unknown;
        let is_worth_it = error.is_transient() && (is_unknown || resend != Resend::Unknown);
        let pause_until = Instant::now() + backoff.next_pause();
        if !is_worth_it || pause_until >= deadline {
            if is_unknown {
                error.effect = Effect::Unknown;
            }
            return Err(error);
        }
        observe::resend(operation, &error);
        sleep_until(pause_until).await;
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
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(5);

    fn unavailable(effect: Effect) -> StoreError {
        StoreError::new(StoreErrorKind::Unavailable, effect, Operation::Complete)
    }

    /// Calls with the given answers, one per sending, and says how many were used.
    async fn call_with(
        resend: Resend,
        mut answers: impl FnMut(usize) -> StoreFuture<'static, u8>,
    ) -> (Result<u8, StoreError>, usize) {
        let mut sendings = 0;
        let result = call(Operation::Complete, WITHIN, resend, || {
            sendings += 1;
            answers(sendings)
        })
        .await;
        (result, sendings)
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_is_sent_again_until_it_is_known() {
        let (result, sendings) = call_with(Resend::Unknown, |sending| {
            Box::pin(async move { if sending < 4 { Err(unavailable(Effect::Unknown)) } else { Ok(7) } })
        })
        .await;
        assert_eq!((result.unwrap(), sendings), (7, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_without_effect_is_told_at_once_or_sent_again_as_asked() {
        let fail =
            |_| -> StoreFuture<'static, u8> { Box::pin(async { Err(unavailable(Effect::NotApplied)) }) };
        assert_eq!(call_with(Resend::Unknown, fail).await.1, 1);

        let start = Instant::now();
        let (result, sendings) = call_with(Resend::Transient, fail).await;
        assert!(result.is_err() && sendings > 5, "{sendings}");
        assert!(start.elapsed() <= WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_taken_effect_is_never_said_to_have_had_none() {
        for last in [StoreErrorKind::Unavailable, StoreErrorKind::Corrupt] {
            let (result, sendings) = call_with(Resend::Unknown, |sending| {
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
            // A store that is down may come back and tell; one that answers has told.
            assert_eq!(sendings > 2, last == StoreErrorKind::Unavailable, "{sendings} sendings");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_deadline_does_not_make_one_silent_sending_long() {
        let (result, sendings) = {
            let mut sendings = 0;
            let hour = Duration::from_secs(3600);
            let result = call(Operation::Complete, hour, Resend::Transient, || -> StoreFuture<'_, u8> {
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
    async fn what_cannot_pass_is_never_sent_again() {
        let (result, sendings) = call_with(Resend::Transient, |_| {
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
        let (result, sendings) = call_with(Resend::Unknown, |_| Box::pin(std::future::pending())).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::Unknown));
        assert_eq!(sendings, 2);
        assert_eq!(start.elapsed(), WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for() {
        let (result, sendings) = call_with(Resend::Unknown, |_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(7)
            })
        })
        .await;
        assert_eq!((result.unwrap(), sendings), (7, 1));
    }
}
