//! How fast a load goes: how far ahead of sealing, and at what rate.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::load::FIRST_EPOCH;
use super::population::Slice;

/// How fast history grows.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// How often each meter reports in an epoch.
    pub(super) rounds: u64,
    /// How many epochs are sealed already, and how many more may be open at once.
    pub(super) ahead: Option<(watch::Receiver<u64>, u64)>,
    /// At most so many settlements a second, evenly. Then latency counts from the moment a request was due, so that
    /// those that couldn't be sent because others waited count too.
    pub(super) tempo: Option<Tempo>,
}

/// An even rate, common to all clients.
#[derive(Debug, Clone, Default)]
pub(super) struct Tempo {
    /// How many settlements a second, and when the next request is due; `None`: as fast as they go.
    beat: Arc<Mutex<Option<(f64, Instant)>>>,
}

impl Tempo {
    /// From now on so many settlements a second.
    pub(super) fn set(&self, per_second: f64) {
        *self.beat.lock() = Some((per_second, Instant::now()));
    }

    /// Takes the next turn, for so many settlements, which could not be sent before `ready`: when they are due.
    fn turn(&self, settlements: usize, ready: Option<Instant>) -> Option<Instant> {
        let mut beat = self.beat.lock();
        let (per_second, next) = beat.as_mut()?;
        let due = ready.map_or(*next, |ready| ready.max(*next));
        *next = due + Duration::from_secs_f64(settlements as f64 / *per_second);
        Some(due)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            rounds: 1,
            ahead: None,
            tempo: None,
        }
    }
}

impl Pace {
    /// Waits until this slice is due: until its epoch may be open (or nobody seals any more), and its turn comes.
    /// Returns the moment from which its latency counts.
    pub(super) async fn wait(&self, slice: &Slice) -> Instant {
        // A turn that came while the epoch could not be open yet is put off; one that came while all clients were busy is not.
        let mut ready = None;
        if let Some((sealed, most)) = &self.ahead {
            let near = |sealed: &u64| slice.epoch < FIRST_EPOCH + sealed + most;
            let mut sealed = sealed.clone();
            if !near(&sealed.borrow()) {
                let _ = sealed.wait_for(near).await;
                ready = Some(Instant::now());
            }
        }
        let tempo = self.tempo.as_ref();
        let due = tempo.and_then(|tempo| tempo.turn(slice.len, ready));
        if let Some(due) = due {
            sleep_until(due).await;
        }
        due.unwrap_or_else(Instant::now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_evenly_and_later_only_where_nothing_could_be_sent() {
        let tempo = Tempo::default();
        assert_eq!(tempo.turn(100, None), None, "without a rate there are no turns");
        tempo.set(1_000.0);
        let first = tempo.turn(100, None).expect("a turn");
        let second = tempo.turn(50, None).expect("a turn");
        assert_eq!(second - first, Duration::from_millis(100));
        let ready = second + Duration::from_secs(7);
        assert_eq!(tempo.turn(100, Some(ready)), Some(ready));
        assert_eq!(
            tempo.turn(100, Some(first)),
            Some(ready + Duration::from_millis(100))
        );
    }
}
