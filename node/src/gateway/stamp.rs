//! The leader's time stamp: never backwards, never faster than twice its monotonic clock (SPEC §8).
//!
//! The wall clock only proposes. What it may do to the cluster is bounded from both sides: a clock that is
//! behind, or that jumps back, makes the ledger's time stand; one that is ahead makes it run at double speed
//! until this leader is replaced.

use std::time::Duration;

use ledger::Timestamp;
use tokio::time::Instant;

/// Stamps the entries of one leadership.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamper {
    /// The ledger's time when the leadership began.
    base: Timestamp,
    /// The monotonic moment of that.
    since: Instant,
}

impl Stamper {
    /// A leadership begins now, with the ledger's time at `base`.
    pub(crate) fn new(base: Timestamp, since: Instant) -> Self {
        Stamper { base, since }
    }

    /// The stamp for an entry proposed at `moment`, when the wall clock reads `wall` and the ledger's time is
    /// `now`.
    pub(crate) fn stamp(&self, wall: Timestamp, moment: Instant, now: Timestamp) -> Timestamp {
        let elapsed = moment.saturating_duration_since(self.since);
        let ceiling = self.base.plus(millis(elapsed).saturating_mul(2));
        wall.min(ceiling).max(now)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::new(ms).expect("small")
    }

    #[test]
    fn one_wrong_clock_cannot_carry_the_cluster_away() {
        let start = Instant::now();
        let stamper = Stamper::new(at(10_000), start);
        let later = |ms| start + Duration::from_millis(ms);
        // An honest clock is believed,
        assert_eq!(stamper.stamp(at(10_400), later(400), at(10_000)), at(10_400));
        // one that jumps ahead runs at double speed,
        assert_eq!(stamper.stamp(at(99_999_999), later(400), at(10_400)), at(10_800));
        // one that jumps back makes time stand,
        assert_eq!(stamper.stamp(at(3), later(500), at(10_800)), at(10_800));
        // and one that lagged a long downtime catches up at that same speed.
        assert_eq!(stamper.stamp(at(500_000), later(1_000), at(10_800)), at(12_000));
    }
}
