//! How often clients do what.

use crate::rng::Rng;

/// How often clients do what, as weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Settlements, alone and in batches.
    pub settle: u64,
    /// Seals of one asset.
    pub seal: u64,
    /// Seals of a whole epoch.
    pub seal_epoch: u64,
    /// Corrections.
    pub correct: u64,
    /// Changes of contracts, upstreams and audit rules.
    pub trade: u64,
    /// Reads of journals.
    pub read: u64,
    /// Batches of up to 8,000 settlements.
    pub large: u64,
    /// Quarter-hours of the community week, 170 meters each.
    pub week: u64,
    /// Auditors' approvals.
    pub approve: u64,
    /// Many small settlements at once, without keys.
    pub crowd: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Mix {
            settle: 50,
            seal: 10,
            seal_epoch: 15,
            correct: 7,
            trade: 8,
            read: 12,
            large: 0,
            week: 0,
            approve: 4,
            crowd: 3,
        }
    }
}

impl Mix {
    /// What clients do in the runs of a seed: the usual, and in one run of ten large batches, in another of ten the
    /// community week as well.
    pub fn of_seed(seed: u64) -> Self {
        let rng = &mut Rng::fork(seed, "mix");
        let mut mix = Mix::default();
        match rng.below(10) {
            0 => mix.large = 1,
            1 => mix.week = 4,
            _ => {}
        }
        mix
    }

    /// Draws what is done next: the place of it among the fields.
    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        let weights = [
            self.settle,
            self.seal,
            self.seal_epoch,
            self.correct,
            self.trade,
            self.read,
            self.large,
            self.week,
            self.approve,
            self.crowd,
        ];
        let mut n = rng.below(weights.iter().sum());
        let place = weights.iter().position(|weight| {
            let here = n < *weight;
            n = n.saturating_sub(*weight);
            here
        });
        place.unwrap_or(0)
    }
}
