//! [`StallDetector`]: whether a connection has stopped answering.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts the answers of a link. Time is an argument: the duration since the link was made.
///
/// Answers come in the order of the commands. If a command times out while others *are* answered, it waits in a queue, and
/// a new connection would only discard the queue. If it times out and nothing was answered since it was sent, the
/// connection may be dead. (An answer that arrives after its caller left is not counted, so a server that is too slow for
/// every command looks dead too. The cost is a new connection.)
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    answers: AtomicU64,
    /// When the first command was sent that timed out without any answer since: in milliseconds plus one, so that 0
    /// means none.
    since: AtomicU64,
}

impl StallDetector {
    /// The number of answers, to be read when a command is sent and passed to [`is_stalled`](Self::is_stalled).
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Records an answer.
    pub(super) fn answered(&self) {
        // Not an atomic addition: every command comes through here, and the number only has to change.
        self.answers.store(self.answers().wrapping_add(1), Ordering::Relaxed);
        if self.since.load(Ordering::Relaxed) != 0 {
            self.since.store(0, Ordering::Relaxed);
        }
    }

    /// Records that a command timed out: it was sent at `sent`, when there were `answers` answers. Says whether the
    /// connection has now answered nothing for `stall_timeout`.
    pub(super) fn is_stalled(
        &self,
        answers: u64,
        sent: Duration,
        now: Duration,
        stall_timeout: Duration,
    ) -> bool {
        if self.answers() != answers {
            return false;
        }
        let sent = milliseconds(sent) + 1;
        let first = self.since.compare_exchange(0, sent, Ordering::Relaxed, Ordering::Relaxed);
        let since = first.err().unwrap_or(sent).min(sent);
        (milliseconds(now) + 1).saturating_sub(since) >= milliseconds(stall_timeout)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_timeout_without_any_answer_is_enough_if_it_took_long_enough() {
        let detector = StallDetector::default();
        assert!(detector.is_stalled(detector.answers(), at(100), at(300), at(200)));
    }

    #[test]
    fn a_command_that_timed_out_while_others_were_answered_is_in_a_queue() {
        let detector = StallDetector::default();
        let answers = detector.answers();
        detector.answered();
        assert!(!detector.is_stalled(answers, at(100), at(300), at(200)));
    }

    #[test]
    fn short_timeouts_add_up_until_there_is_an_answer() {
        let detector = StallDetector::default();
        let timed_out = |sent, now| detector.is_stalled(detector.answers(), at(sent), at(now), at(300));
        assert!(!timed_out(0, 100));
        assert!(!timed_out(100, 200));
        assert!(timed_out(200, 300));
        detector.answered();
        assert!(!timed_out(300, 400));
        assert!(!timed_out(400, 500));
        assert!(timed_out(500, 600));
    }
}
