//! What is asked in a bench: random keys, an owner for each, and an answer that no other key has.

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use idem_core::Key;
use idem_core::store::OwnerToken;

/// Keys and answers by their number. The seed is new in every process; within it, a number always gives the same key
/// and answer, so that every answer can be checked without keeping a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    seed: u64,
    answer_bytes: usize,
}

/// One first request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) key: Key,
    pub(crate) owner: OwnerToken,
    pub(crate) answer: Bytes,
}

const SCOPE: &str = "tenant-7/POST /payments";
/// How many characters a UUID has.
const NAME: usize = 36;

impl Load {
    pub(crate) fn new(answer_bytes: usize) -> Self {
        let seed = getrandom::u64().unwrap_or_else(|error| panic!("the system has no randomness: {error}"));
        Self { seed, answer_bytes }
    }

    /// The key with this number: the scope of an endpoint, and a name in the form of a UUID.
    pub(crate) fn key(&self, number: u64) -> Key {
        let (high, low) = (mix(self.seed ^ mix(number)), mix(self.seed.wrapping_add(mix(!number))));
        let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
        // Written where no allocation is needed: a string that grows while it is formatted would leave holes of 16
        // bytes between the keys and the answers, and figure g would charge them to every map alike.
        let mut name = [0; NAME];
        write!(&mut name[..], "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
            .unwrap_or_else(|error| panic!("a UUID has {NAME} characters: {error}"));
        Key::new(SCOPE, name).unwrap_or_else(|error| panic!("a UUID is a name: {error}"))
    }

    /// The answer to the request with this number. Its first bytes are the number, so that no two are equal.
    pub(crate) fn answer(&self, number: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(self.answer_bytes);
        let mut word = number;
        while bytes.len() < self.answer_bytes {
            let left = self.answer_bytes - bytes.len();
            bytes.extend_from_slice(&word.to_le_bytes()[..left.min(8)]);
            word = mix(word ^ self.seed);
        }
        bytes.into()
    }

    pub(crate) fn requests(&self, numbers: Range<u64>) -> Vec<Request> {
        numbers
            .map(|number| Request {
                key: self.key(number),
                owner: OwnerToken::random(),
                answer: self.answer(number),
            })
            .collect()
    }

    /// How many bytes of key and answer one request brings.
    pub(crate) fn bytes_each(&self) -> usize {
        SCOPE.len() + self.key(0).name().len() + self.answer_bytes
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): one-to-one, and every bit depends on every bit.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_has_a_key_and_an_answer_of_its_own() {
        let load = Load::new(32);
        let keys: HashSet<_> = (0..10_000).map(|number| load.key(number)).collect();
        let answers: HashSet<_> = (0..10_000).map(|number| load.answer(number)).collect();
        assert_eq!((keys.len(), answers.len()), (10_000, 10_000));
        assert_eq!(load.key(0).name().len(), 36);
        assert_eq!((load.answer(7), load.answer(7).len()), (load.answer(7), 32));
        assert_ne!(Load::new(32).key(0), load.key(0), "another seed");
    }
}
