//! [`Backoff`]: pauses that double, with jitter.

use std::time::Duration;

/// The pauses between tries: each is twice as long as the one before, up to a maximum, with jitter.
///
/// A pause is drawn between half of its length and its full length, so that callers that failed together do not try
/// again together ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015: "equal jitter").
///
/// ```
/// use std::time::Duration;
/// use idem_core::backend::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
/// let (first, second) = (backoff.next_pause(), backoff.next_pause());
/// assert!(first >= Duration::from_millis(5) && first <= Duration::from_millis(10));
/// assert!(second >= Duration::from_millis(10) && second <= Duration::from_millis(20));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    random: fn() -> u32,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest, random: system_random }
    }

    /// Uses another source of randomness, for tests. All values of `u32` must be equally likely.
    #[must_use]
    pub const fn with_random(mut self, random: fn() -> u32) -> Self {
        self.random = random;
        self
    }

    /// The longest that the next pause can be.
    pub const fn longest_next_pause(&self) -> Duration {
        if self.next.as_nanos() < self.longest.as_nanos() { self.next } else { self.longest }
    }

    /// The pause before the next try.
    pub fn next_pause(&mut self) -> Duration {
        let whole = self.longest_next_pause();
        self.next = whole.saturating_mul(2);
        let half = whole / 2;
        half + half.mul_f64(f64::from((self.random)()) / f64::from(u32::MAX))
    }
}

/// If the operating system has no randomness, there is no jitter.
fn system_random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(50);

    fn pauses(random: fn() -> u32) -> [u128; 5] {
        let mut backoff = Backoff::new(FIRST, LONGEST).with_random(random);
        [(); 5].map(|()| backoff.next_pause().as_millis())
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_by_half() {
        assert_eq!(pauses(|| u32::MAX), [10, 20, 40, 50, 50]);
        assert_eq!(pauses(|| 0), [5, 10, 20, 25, 25]);
    }

    #[test]
    fn pauses_of_two_callers_differ() {
        let first = || Backoff::new(LONGEST, LONGEST).next_pause();
        assert!((0..100).any(|_| first() != first()));
    }

    #[test]
    fn a_first_pause_of_zero_stays_zero_and_an_unbounded_one_does_not_overflow() {
        assert_eq!(Backoff::new(Duration::ZERO, LONGEST).next_pause(), Duration::ZERO);
        let mut endless = Backoff::new(Duration::MAX, Duration::MAX).with_random(|| 0);
        assert_eq!(endless.next_pause(), Duration::MAX / 2);
        assert_eq!(endless.next_pause(), Duration::MAX / 2);
    }
}
