//! The one source of chance: every choice of a run comes from its seed, through here.
//!
//! xoshiro256++, seeded by SplitMix64, written out so that a seed means the same run under every version of
//! every library, on every machine. A stream is *forked* by a label, so that drawing one number more in one
//! place (a new fault, another client) does not shift what every other place draws.

use std::ops::RangeInclusive;

/// A stream of numbers that its seed decides.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        Rng {
            state: std::array::from_fn(|_| split_mix(&mut mix)),
        }
    }

    /// An independent stream, decided by this one's seed and the label, not by what was drawn before.
    pub fn fork(seed: u64, label: &str) -> Self {
        // FNV-1a over the label: any mixing will do, as long as it never changes.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed.rotate_left(17);
        for byte in label.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Rng::new(hash)
    }

    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless source is no iterator to be collected by mistake"
    )]
    pub fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let shifted = b << 17;
        let c = c ^ a;
        let d = d ^ b;
        self.state = [a ^ d, b ^ c, c ^ shifted, d.rotate_left(45)];
        out
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // The high half of a wide product: unbiased enough for 64 bits against the small `n` asked here.
        let wide = u128::from(self.next()) * u128::from(n);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number in the range, both ends included.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// An index into something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True with probability `p`, a figure in millionths.
    pub fn chance(&mut self, p: PerMillion) -> bool {
        p.0 != 0 && self.below(1_000_000) < u64::from(p.0)
    }

    /// One of these; panics if there is none, which is the caller's mistake and not a seed's.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// In random order.
    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for i in (1..of.len()).rev() {
            of.swap(i, self.index(i + 1));
        }
    }

    /// Random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A probability in millionths, so that no float decides anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMillion(pub u32);

impl PerMillion {
    /// Never.
    pub const NEVER: PerMillion = PerMillion(0);

    /// Always.
    pub const ALWAYS: PerMillion = PerMillion(1_000_000);

    /// So many percent.
    pub const fn percent(p: u32) -> Self {
        PerMillion(p * 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        // If this fails, every saved seed has lost its meaning.
        let mut rng = Rng::new(1);
        let drawn: Vec<u64> = (0..3).map(|_| rng.next()).collect();
        assert_eq!(
            drawn,
            [
                0xcfc5_d07f_6f03_c29b,
                0xbf42_4132_963f_e08d,
                0x19a3_7d57_57aa_f520
            ]
        );
    }

    #[test]
    fn forks_differ_by_label_and_seed() {
        let draw = |seed, label| Rng::fork(seed, label).next();
        assert_ne!(draw(1, "disk"), draw(1, "network"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
    }

    #[test]
    fn ranges_hold_and_are_reached() {
        let mut rng = Rng::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            let n = rng.within(3..=7);
            seen[usize::try_from(n - 3).unwrap()] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.within(9..=9), 9);
    }
}
