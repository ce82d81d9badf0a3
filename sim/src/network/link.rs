//! One direction of the way between two machines: how long it takes, and whether it goes through at all.

use std::ops::RangeInclusive;

use crate::rng::{PerMillion, Rng};

/// First pause before a lost segment is sent again, as TCP does on a local network, doubled at each loss.
const RETRANSMIT_MS: u64 = 200;
/// The pause stops growing here. TCP goes on to two minutes; a node's own deadlines end it sooner.
const RETRANSMIT_MAX_MS: u64 = 5_000;

/// How good a link is.
#[derive(Clone, Debug)]
pub struct Quality {
    /// One way, in milliseconds; at least 1.
    pub latency_ms: RangeInclusive<u64>,
    /// How often a segment takes `spike_ms` longer.
    pub spike: PerMillion,
    /// How much longer.
    pub spike_ms: RangeInclusive<u64>,
    /// How often a segment is lost. TCP hides it: it comes later, and all behind it with it.
    pub loss: PerMillion,
    /// How often the connection is reset instead, in the middle of what was being sent.
    pub reset: PerMillion,
    /// How often a segment arrives in two pieces, so that a reader sees half a frame.
    pub split: PerMillion,
}

impl Default for Quality {
    /// A good local network.
    fn default() -> Self {
        Quality {
            latency_ms: 1..=1,
            spike: PerMillion::NEVER,
            spike_ms: 50..=800,
            loss: PerMillion::NEVER,
            reset: PerMillion::NEVER,
            split: PerMillion::percent(1),
        }
    }
}

/// A link as it is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    pub(super) quality: Quality,
    /// Nothing goes through.
    pub(super) cut: bool,
}

impl Link {
    /// How long the next segment takes.
    pub(super) fn draw_ms(&self, rng: &mut Rng) -> u64 {
        let quality = &self.quality;
        let mut ms = rng.within(quality.latency_ms.clone()).max(1);
        if rng.chance(quality.spike) {
            ms += rng.within(quality.spike_ms.clone());
        }
        let mut pause = RETRANSMIT_MS;
        while rng.chance(quality.loss) {
            ms += pause;
            pause = (pause * 2).min(RETRANSMIT_MAX_MS);
        }
        ms
    }
}

/// When a segment first sent at `since` is next sent again, at or after `now`.
pub(super) fn retransmit_ms(since: u64, now: u64) -> u64 {
    let (mut at, mut pause) = (since, RETRANSMIT_MS);
    while at < now {
        at += pause;
        pause = (pause * 2).min(RETRANSMIT_MAX_MS);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmission_backs_off() {
        assert_eq!(retransmit_ms(1_000, 1_000), 1_000);
        assert_eq!(retransmit_ms(1_000, 1_001), 1_200);
        assert_eq!(retransmit_ms(1_000, 1_201), 1_600);
        assert_eq!(retransmit_ms(1_000, 7_201), 7_200 + 5_000);
        assert_eq!(
            retransmit_ms(0, 3_600_000) - 3_600_000,
            (6_200 + 719 * 5_000) - 3_600_000
        );
    }

    #[test]
    fn loss_is_only_delay() {
        let mut link = Link::default();
        let mut rng = Rng::new(1);
        assert_eq!(link.draw_ms(&mut rng), 1);
        link.quality.loss = PerMillion::percent(30);
        let slow = (0..1_000).filter(|_| link.draw_ms(&mut rng) >= 200).count();
        assert!((200..400).contains(&slow), "{slow}");
    }
}
