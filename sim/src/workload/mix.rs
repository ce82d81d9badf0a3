//! How often clients do what.

use serde::Deserialize;

use crate::rng::Rng;

/// How often clients do what, as weights. In a file, what is not named does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default = "Mix::nothing")]
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
    /// Settlements that are read as soon as they are acknowledged, by a node that is read from all the time.
    pub chase: u64,
    /// Values that come just after their epoch was sealed, while it is archived.
    pub tardy: u64,
    /// What must be refused.
    pub blunder: u64,
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
            chase: 0,
            tardy: 0,
            blunder: 2,
        }
    }
}

impl Mix {
    /// Nobody does anything.
    fn nothing() -> Self {
        Mix {
            settle: 0,
            seal: 0,
            seal_epoch: 0,
            correct: 0,
            trade: 0,
            read: 0,
            large: 0,
            week: 0,
            approve: 0,
            crowd: 0,
            chase: 0,
            tardy: 0,
            blunder: 0,
        }
    }

    /// What clients do in the runs of a seed: the usual, and in one run of ten large batches, in another of ten the
    /// community week as well, in half of them what is settled is chased, in two of ten some come late.
    pub fn of_seed(seed: u64) -> Self {
        let rng = &mut Rng::fork(seed, "mix");
        let mut mix = Mix::default();
        match rng.below(10) {
            0 => mix.large = 1,
            1 => mix.week = 4,
            2..7 => mix.chase = 4,
            7..9 => mix.tardy = 4,
            _ => {}
        }
        mix
    }

    /// Whether requests of more than a few kilobytes are among it.
    pub fn is_large(&self) -> bool {
        self.large + self.week > 0
    }

    /// The weights by their names.
    pub fn weights(&self) -> [(&'static str, u64); 13] {
        [
            ("settle", self.settle),
            ("seal", self.seal),
            ("seal_epoch", self.seal_epoch),
            ("correct", self.correct),
            ("trade", self.trade),
            ("read", self.read),
            ("large", self.large),
            ("week", self.week),
            ("approve", self.approve),
            ("crowd", self.crowd),
            ("chase", self.chase),
            ("tardy", self.tardy),
            ("blunder", self.blunder),
        ]
    }

    /// Draws what is done next, by its name.
    pub(super) fn draw(&self, rng: &mut Rng) -> &'static str {
        let weights = self.weights();
        let mut n = rng.below(weights.iter().map(|(_, weight)| weight).sum());
        let drawn = weights.iter().find(|(_, weight)| {
            let here = n < *weight;
            n = n.saturating_sub(*weight);
            here
        });
        drawn.map_or("settle", |(name, _)| name)
    }
}
