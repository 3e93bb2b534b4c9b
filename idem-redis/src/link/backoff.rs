//! [`Backoff`]: the pauses between attempts to connect.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double from 10 ms to a second. Each is drawn between half of its length and the whole, so that the clients
/// of a server that comes back do not all arrive at the same instant.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    pub(super) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole / 2 + jitter(whole / 2)
    }
}

/// A random span below this one.
pub(crate) fn jitter(below: Duration) -> Duration {
    // Without randomness there is no jitter; everything else still works.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    below.mul_f64(f64::from(random) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_vary_by_half() {
        let mut backoff = Backoff::new();
        let mut whole = FIRST;
        for _ in 0..12 {
            let pause = backoff.next();
            assert!((whole / 2..whole).contains(&pause), "{pause:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        assert_eq!(whole, LONGEST);
    }
}
