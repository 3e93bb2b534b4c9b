//! How the engine calls a store: with a deadline, and sent again with the same token while the outcome is unknown.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::random;
use crate::{Effect, Operation, StoreError, StoreErrorKind};

/// The first pause before an operation is sent again. Doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Which failures are worth another sending.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resend {
    /// Only those that may have taken effect: whoever asked can be told of the others at once.
    Unknown,
    /// Everything that may pass: there is nobody to tell who could do better.
    Transient,
}

/// Sends an operation until it is answered, fails for good, or `within` has passed since the first sending.
///
/// One silent sending takes at most half of the time, so that a link that swallows a request leaves time for another.
/// `send` must send the same token each time; that is what makes this safe.
pub(crate) async fn call<'a, T>(
    operation: Operation,
    within: Duration,
    resend: Resend,
    mut send: impl FnMut() -> StoreFuture<'a, T>,
) -> Result<T, StoreError> {
    // The common case needs no timer and no clock: the store answers when it is first asked.
    let mut first = send();
    let answer = std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await;
    if let Poll::Ready(Ok(answer)) = answer {
        return Ok(answer);
    }

    let start = Instant::now();
    let deadline = start + within;
    let mut result = match answer {
        Poll::Ready(result) => result,
        Poll::Pending => answer_by(start + within / 2, operation, first).await,
    };
    let mut pause = FIRST_PAUSE;
    loop {
        match result {
            Err(error) if worth_resending(&error, resend) && Instant::now() + pause < deadline => {
                tracing::debug!(name: "idem.resend", %operation, %error, "sending again with the same token");
            }
            decided => return decided,
        }
        sleep_until(Instant::now() + random::jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let silent_until = deadline.min(Instant::now() + within / 2);
        result = answer_by(silent_until, operation, send()).await;
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

fn worth_resending(error: &StoreError, resend: Resend) -> bool {
    match resend {
        Resend::Unknown => error.effect == Effect::Unknown,
        Resend::Transient => error.is_transient(),
    }
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
