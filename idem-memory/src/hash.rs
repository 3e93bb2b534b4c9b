//! [`KeyHasher`]: which shard a key lives in, and where in that shard's table.

use std::hash::BuildHasher;
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use idem_core::Key;

/// A fast hash, keyed from the operating system's randomness, since whoever sends requests chooses the keys.
///
/// foldhash would key itself from addresses and the time. Its answers never leave the process, so that an attacker
/// would have to learn both seeds from response times to make keys collide; and such keys could slow down only the
/// shard that they share.
#[derive(Clone, Debug)]
pub(crate) struct KeyHasher {
    state: SeedableRandomState,
}

/// The hash of a key. Its upper half chooses the shard and its lower half the place in it, so that the keys of one
/// shard do not resemble each other in the bits that its table looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHasher {
    pub(crate) fn new() -> Self {
        static PROCESS_SEED: OnceLock<SharedSeed> = OnceLock::new();
        let process_seed = PROCESS_SEED.get_or_init(|| SharedSeed::from_u64(random_u64()));
        Self { state: SeedableRandomState::with_seed(random_u64(), process_seed) }
    }

    pub(crate) fn hash(&self, key: &Key) -> KeyHash {
        KeyHash(self.state.hash_one(key.as_bytes()))
    }
}

impl KeyHash {
    /// The index of the key's shard among `shards`, a power of two.
    #[allow(clippy::cast_possible_truncation, reason = "the shift leaves 32 bits, and the mask fewer")]
    pub(crate) fn shard(self, shards: usize) -> usize {
        (self.0 >> 32) as usize & (shards - 1)
    }

    /// What the shard's table keeps of the hash.
    #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    pub(crate) fn tag(self) -> Tag {
        Tag(self.0 as u32)
    }
}

/// 32 bits of a key's hash: enough to place a key in a table of up to 2^25 places and to rule nearly every other key
/// out without looking at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u32);

impl Tag {
    /// The tag as the 64 bits that `hashbrown` wants: it takes the place from the lowest and 7 bits for its control
    /// bytes from the highest, so the tag stands at both ends.
    pub(crate) fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// 64 bits of the operating system's randomness, through the standard library's own keyed hasher. Under the model
/// checker a constant, so that a schedule replays exactly.
fn random_u64() -> u64 {
    if cfg!(shuttle) { 1 } else { std::hash::RandomState::new().hash_one(0_u8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_hashes_in_its_own_way() {
        let key = Key::new("scope", "name").unwrap();
        let (one, other) = (KeyHasher::new(), KeyHasher::new());
        assert_eq!(one.hash(&key), one.hash(&key));
        assert_ne!(one.hash(&key), other.hash(&key));
    }

    #[test]
    fn counted_keys_spread_over_shards_and_tags() {
        // The most regular keys there are: with 64 of them to a shard, no shard may hold a quarter or thrice its part.
        let hasher = KeyHasher::new();
        let mut shards = vec![0; 1024];
        let mut tags = std::collections::HashSet::new();
        for number in 0..65_536_u32 {
            let hash = hasher.hash(&Key::new("scope", number.to_be_bytes()).unwrap());
            shards[hash.shard(1024)] += 1;
            tags.insert(hash.tag().spread());
        }
        assert!(shards.iter().all(|keys| (16..192).contains(keys)), "{shards:?}");
        assert!(tags.len() > 65_400, "{} tags", tags.len());
    }
}
