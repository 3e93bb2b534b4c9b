//! [`Silence`]: whether a connection says anything at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts the answers of a link. Time is an argument: spans since the link was made.
///
/// Answers come in the order of the commands. So a command that timed out while others *were* answered stands in a queue,
/// and a new connection would only throw the queue away; one that timed out and saw no answer to anybody may be on a dead
/// connection. (An answer that comes after its caller has left counts for nobody, so that a server that is too slow for
/// every command looks dead, too. What it costs then is a new connection.)
#[derive(Debug, Default)]
pub(super) struct Silence {
    answers: AtomicU64,
    /// When the first of the commands was sent that timed out without any answer since: in milliseconds and one more,
    /// so that 0 is "none".
    since: AtomicU64,
}

impl Silence {
    /// To be asked when a command is sent, and handed to [`is_dead`](Self::is_dead).
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// There is an answer.
    pub(super) fn end(&self) {
        // Not an atomic addition: it only has to change, and it is in the way of every command.
        self.answers.store(self.answers().wrapping_add(1), Ordering::Relaxed);
        if self.since.load(Ordering::Relaxed) != 0 {
            self.since.store(0, Ordering::Relaxed);
        }
    }

    /// A command that was sent at `sent`, when there were this many answers, has timed out now. Whether the connection has
    /// been silent for so long.
    pub(super) fn is_dead(
        &self,
        answers: u64,
        sent: Duration,
        now: Duration,
        silent_after: Duration,
    ) -> bool {
        if self.answers() != answers {
            return false;
        }
        let sent = milliseconds(sent) + 1;
        let first = self.since.compare_exchange(0, sent, Ordering::Relaxed, Ordering::Relaxed);
        let since = first.err().unwrap_or(sent).min(sent);
        (milliseconds(now) + 1).saturating_sub(since) >= milliseconds(silent_after)
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_timeout_without_any_answer_is_enough_if_it_took_long_enough() {
        let silence = Silence::default();
        assert!(silence.is_dead(silence.answers(), at(100), at(300), at(200)));
    }

    #[test]
    fn a_command_that_timed_out_while_others_were_answered_is_in_a_queue() {
        let silence = Silence::default();
        let answers = silence.answers();
        silence.end();
        assert!(!silence.is_dead(answers, at(100), at(300), at(200)));
    }

    #[test]
    fn short_timeouts_add_up_until_there_is_an_answer() {
        let silence = Silence::default();
        let timed_out = |sent, now| silence.is_dead(silence.answers(), at(sent), at(now), at(300));
        assert!(!timed_out(0, 100));
        assert!(!timed_out(100, 200));
        assert!(timed_out(200, 300));
        silence.end();
        assert!(!timed_out(300, 400));
        assert!(!timed_out(400, 500));
        assert!(timed_out(500, 600));
    }
}
