//! Unpredictable bytes for owner tokens, cheaper than a system call for each.
//!
//! A token is what lets its holder complete or release a record, so nobody may guess one and no two callers may ever
//! draw the same one. Each thread keeps a buffer that BLAKE3's extendable output fills from 256 bits of the operating
//! system's randomness; 64 tokens come out of one system call, and bytes are wiped as they are handed out.
//!
//! INV-1: a buffer is used only by the process that filled it. After `fork` the child holds a copy of its parent's
//! buffer, so every draw compares the process id and starts afresh when it differs. (What that cannot see: a virtual
//! machine that is resumed twice from one snapshot, and a process that is number 1 of its namespace and forks another
//! that is number 1 of a nested one.)

use std::cell::RefCell;
use std::time::Duration;

/// Tokens drawn from one buffer.
const TOKENS: usize = 64;
/// Bytes in a token: 128 bits.
const TOKEN_BYTES: usize = 16;

struct Buffer {
    bytes: [u8; TOKENS * TOKEN_BYTES],
    used: usize,
    /// The process that filled the buffer. No process has the id 0, so the initial value never matches.
    process: u32,
}

thread_local! {
    static BUFFER: RefCell<Buffer> =
        const { RefCell::new(Buffer { bytes: [0; TOKENS * TOKEN_BYTES], used: 0, process: 0 }) };
}

/// Draws 128 unpredictable bits.
///
/// # Panics
///
/// If the operating system has no randomness to give (`getrandom` fails): there is no safe way to go on, since a
/// guessable token would let a stranger overwrite records.
pub(crate) fn token() -> [u8; TOKEN_BYTES] {
    BUFFER.with_borrow_mut(|buffer| {
        let process = std::process::id();
        if buffer.process != process || buffer.used == buffer.bytes.len() {
            buffer.refill(process);
        }
        buffer.take()
    })
}

/// A random part of `limit`: at least half of it, so that a pause keeps its meaning, and spread over the rest, so that
/// callers who failed together do not come back together.
pub(crate) fn jittered(limit: Duration) -> Duration {
    let [byte, ..] = token();
    limit / 2 + limit / 2 * u32::from(byte) / 255
}

impl Buffer {
    fn refill(&mut self, process: u32) {
        let mut seed = [0; 32];
        if let Err(error) = getrandom::fill(&mut seed) {
            panic!("the operating system gave no random bytes: {error}");
        }
        blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut self.bytes);
        self.used = 0;
        self.process = process;
    }

    fn take(&mut self) -> [u8; TOKEN_BYTES] {
        let mut token = [0; TOKEN_BYTES];
        let source = &mut self.bytes[self.used..self.used + TOKEN_BYTES];
        token.swap_with_slice(source);
        self.used += TOKEN_BYTES;
        token
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_of_many_threads_and_buffers_are_all_different() {
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| (0..10 * TOKENS).map(|_| token()).collect::<Vec<_>>()))
            .collect();
        let drawn: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
    }

    #[test]
    fn a_buffer_is_used_to_its_end_before_it_is_filled_again() {
        // A thread of its own has a buffer of its own, from which nobody has drawn.
        let used = std::thread::spawn(|| {
            (0..=TOKENS)
                .map(|_| {
                    token();
                    BUFFER.with_borrow(|buffer| buffer.used / TOKEN_BYTES)
                })
                .collect::<Vec<_>>()
        });
        assert_eq!(used.join().unwrap(), (1..=TOKENS).chain([1]).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_are_wiped_from_the_buffer_as_they_are_handed_out() {
        let token = token();
        BUFFER.with_borrow(|buffer| {
            assert!(!buffer.bytes.windows(TOKEN_BYTES).any(|window| window == token));
            assert_eq!(buffer.bytes[..buffer.used], vec![0; buffer.used]);
        });
    }

    #[test]
    fn a_jittered_pause_is_between_half_and_all_of_it_and_not_always_the_same() {
        let limit = Duration::from_secs(1);
        let pauses: HashSet<_> = (0..100).map(|_| jittered(limit)).collect();
        assert!(pauses.iter().all(|pause| (limit / 2..=limit).contains(pause)));
        assert!(pauses.len() > 10);
        assert_eq!(jittered(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn another_process_id_discards_the_buffer() {
        // What a forked child sees: its parent's buffer under an id that is not its own.
        token();
        let inherited = BUFFER.with_borrow_mut(|buffer| {
            buffer.process = buffer.process.wrapping_add(1);
            buffer.bytes[buffer.used..].to_vec()
        });
        let drawn = token();
        assert!(!inherited.chunks(TOKEN_BYTES).any(|chunk| chunk == drawn));
    }
}
