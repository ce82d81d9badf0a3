//! Exact percentiles of durations: every sample is kept, in microseconds.

use std::time::Duration;

/// Durations, sorted when asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies {
    micros: Vec<u32>,
    sorted: bool,
}

impl Latencies {
    /// Takes one more; beyond 71 minutes it counts as 71 minutes.
    pub(super) fn add(&mut self, took: Duration) {
        self.micros
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        self.sorted = false;
    }

    /// Takes all of another.
    pub(super) fn join(&mut self, other: Latencies) {
        self.micros.extend(other.micros);
        self.sorted = false;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.micros.len()
    }

    /// The least duration that at least `share` (0 to 1) of all don't exceed; 0 if there are none.
    pub(super) fn at(&mut self, share: f64) -> u64 {
        if !self.sorted {
            self.micros.sort_unstable();
            self.sorted = true;
        }
        let count = self.micros.len();
        // Truncation is harmless: the rank is at most the count.
        #[expect(clippy::cast_sign_loss, reason = "a share and a count are not negative")]
        let rank = (share * count as f64).ceil() as usize;
        let position = rank.clamp(1, count.max(1)) - 1;
        self.micros.get(position).copied().map_or(0, u64::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.at(0.5), 0);
        for micros in (1..=100).rev() {
            latencies.add(Duration::from_micros(micros));
        }
        assert_eq!(
            [0.0, 0.5, 0.99, 0.999, 1.0].map(|share| latencies.at(share)),
            [1, 50, 99, 100, 100]
        );
        let mut one = Latencies::default();
        one.add(Duration::from_micros(7));
        latencies.join(one);
        assert_eq!((latencies.len(), latencies.at(0.07)), (101, 7));
    }
}
