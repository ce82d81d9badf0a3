//! Seeded choices for the demonstration: the same book on every machine, for ever.
//!
//! SplitMix64: a counter and a mix of its bits. Good enough to spread contracts over a street, and never used
//! for a key or a nonce.

/// A stream of numbers that its seed decides.
#[derive(Debug, Clone)]
pub(super) struct Seeded(u64);

impl Seeded {
    /// The stream of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `least..=most`. The bias of the remainder is below 2^-50 at the ranges used here.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// `many` different numbers below `below`, in random order.
    pub(super) fn distinct(&mut self, many: usize, below: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..below).collect();
        for place in (1..all.len()).rev() {
            let other = usize::try_from(self.between(0, place as u64)).unwrap_or(0);
            all.swap(place, other);
        }
        all.truncate(many);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one_and_stays_in_bounds() {
        // First outputs of SplitMix64 for seed 0, as its author's reference prints them.
        let mut zero = Seeded::new(0);
        assert_eq!(
            [zero.next(), zero.next()],
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]
        );
        let mut seeded = Seeded::new(7);
        assert!(
            (0..1_000)
                .map(|_| seeded.between(3, 5))
                .all(|n| (3..=5).contains(&n))
        );
        let mut drawn = seeded.distinct(25, 145);
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 25);
        assert!(drawn.iter().all(|&n| n < 145));
    }
}
