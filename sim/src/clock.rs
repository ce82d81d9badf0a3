//! Wall clocks: one for each node, none of them right.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Where virtual time begins, in milliseconds since the Unix epoch: 2026-01-01T00:00:00Z. Any moment would do
/// that makes epochs of plausible size.
pub const EPOCH_MS: u64 = 1_767_225_600_000;

/// Virtual time, which the world moves on; or, where processes are real, time as it passes.
#[derive(Clone, Debug, Default)]
pub struct Time {
    virtual_ms: Arc<AtomicU64>,
    real_since: Option<tokio::time::Instant>,
}

impl Time {
    /// Milliseconds since the run began.
    pub fn now_ms(&self) -> u64 {
        match self.real_since {
            Some(began) => u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            None => self.virtual_ms.load(Ordering::Relaxed),
        }
    }

    /// Time as it passes from now on. Only for runs of real processes: no two of them are alike.
    pub fn real() -> Self {
        Time {
            real_since: Some(tokio::time::Instant::now()),
            ..Time::default()
        }
    }

    pub(crate) fn set(&self, now_ms: u64) {
        self.virtual_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// What a machine believes the time to be: ahead or behind, too fast or too slow, and it may jump. It outlives
/// the processes on the machine.
#[derive(Clone, Debug)]
pub struct WallClock {
    time: Time,
    ahead_ms: Arc<AtomicI64>,
    drift_ppm: i64,
}

impl WallClock {
    /// A clock so far ahead of virtual time, that gains so many millionths.
    pub fn new(time: Time, ahead_ms: i64, drift_ppm: i64) -> Self {
        WallClock {
            time,
            ahead_ms: Arc::new(AtomicI64::new(ahead_ms)),
            drift_ppm,
        }
    }

    /// Milliseconds since the Unix epoch, as this machine believes.
    pub fn now_ms(&self) -> u64 {
        let now = self.time.now_ms();
        let drift = i64::try_from(now)
            .unwrap_or(i64::MAX)
            .saturating_mul(self.drift_ppm)
            / 1_000_000;
        (EPOCH_MS + now).saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed) + drift)
    }

    /// Sets the clock forward, or back.
    pub fn jump(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl gridseal::seams::Clock for WallClock {
    fn now(&self) -> ledger::Timestamp {
        // A clock that is set before 1970 or past the end of time stands at 0, as the real one does.
        ledger::Timestamp::new(self.now_ms()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_skewed_drift_and_jump() {
        let time = Time::default();
        let clock = WallClock::new(time.clone(), -5_000, 500);
        assert_eq!(clock.now_ms(), EPOCH_MS - 5_000);
        time.set(10_000_000);
        assert_eq!(clock.now_ms(), EPOCH_MS + 10_000_000 - 5_000 + 5_000);
        clock.jump(-3_600_000);
        assert_eq!(clock.now_ms(), EPOCH_MS + 10_000_000 - 3_600_000);
    }
}
