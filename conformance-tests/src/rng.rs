//! [`Rng`]: random numbers from a seed, the same on every machine and in every release.

/// `SplitMix64` (Steele, Lea, Flood, 2014): quick, and good enough to choose faults.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0. The bias is too small to matter here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The seed of everything random in the suite: the same in every run, so that failures repeat, unless
/// `IDEM_CONFORMANCE_SEED` sets another.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("IDEM_CONFORMANCE_SEED").ok();
    given.map_or(1187, |seed| seed.parse().expect("IDEM_CONFORMANCE_SEED is a number"))
}
