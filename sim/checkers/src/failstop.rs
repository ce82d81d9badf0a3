//! Fail-stop: a process whose disk has failed to sync ends, one that finds its log damaged does not go on without
//! what was in it, and one whose disk has refused it nothing does not end.

use std::collections::BTreeMap;

use super::wal::{Platter, Tail};

/// How long a process may take to end, in milliseconds of its own.
const ENDS_WITHIN_MS: u64 = 3_000;

/// Processes whose disks have failed.
#[derive(Clone, Debug, Default)]
pub struct FailStop {
    /// For how long each has run on, and when it was last seen to.
    running: BTreeMap<u64, (u64, u64)>,
}

impl FailStop {
    /// A running process is looked at; `failed` says whether a sync has failed in its life. The complaint comes once.
    pub fn look(&mut self, at_ms: u64, node: u64, failed: bool, awake: bool) -> Option<String> {
        if !failed {
            self.running.remove(&node);
            return None;
        }
        let (ran, last) = self.running.entry(node).or_insert((0, at_ms));
        let step = if awake { at_ms.saturating_sub(*last) } else { 0 };
        let before = std::mem::replace(ran, *ran + step);
        *last = at_ms;
        (before <= ENDS_WITHIN_MS && *ran > ENDS_WITHIN_MS)
            .then(|| format!("n{node} runs on {ENDS_WITHIN_MS} ms after a sync of its disk has failed"))
    }
}

/// Judges a process that stopped by itself, unasked; `refused` says whether its disk had refused it anything.
pub fn stopped(node: u64, refused: bool, why: &str) -> Option<String> {
    (!refused).then(|| format!("n{node} stops, and its disk gave it no reason: {why}"))
}

/// Disks that are damaged on purpose. Their nodes may halt; they may not forget.
#[derive(Clone, Debug, Default)]
pub struct Damaged {
    /// Which disk a node has, by what its log says, and what was read of that log.
    logs: BTreeMap<u64, (Vec<u8>, Tail)>,
}

impl Damaged {
    /// Looks at a damaged disk: once a frame of its log was there, a later segment counts it.
    pub fn look(&mut self, node: u64, platter: &dyn Platter) -> Option<String> {
        let newest = platter
            .list("log")
            .into_iter()
            .rfind(|name| name.ends_with(".wal"))?;
        // Where a segment's head has the number that was drawn for the disk.
        let disk = platter.read(&format!("log/{newest}"), 48, 16);
        let (known, tail) = self.logs.entry(node).or_default();
        if *known != disk {
            (*known, *tail) = (disk, Tail::default());
        }
        let breaks = tail.news(platter).breaks;
        let forgotten = breaks.into_iter().find(|what| what.contains("has forgotten"));
        forgotten.map(|what| format!("the damaged log of n{node} was cut: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_in_time_or_sleeps_is_no_offence() {
        let mut check = FailStop::default();
        assert_eq!(check.look(10, 1, true, true), None);
        assert_eq!(check.look(3_010, 1, true, true), None);
        assert_eq!(check.look(60_000, 1, true, false), None, "it was paused");
        assert_eq!(check.look(60_000, 1, false, true), None, "another process");
        assert_eq!(check.look(70_000, 1, true, true), None, "whose disk fails now");
    }

    #[test]
    fn a_process_stops_for_its_disk_alone() {
        assert_eq!(stopped(3, true, "a sync failed"), None);
        let what = stopped(3, false, "its log makes no sense").expect("an offence");
        assert!(what.contains("n3") && what.contains("its log makes no sense"));
    }

    #[test]
    fn a_process_that_goes_on_is_told_of_once() {
        let mut check = FailStop::default();
        assert_eq!(check.look(10, 2, true, true), None);
        assert!(check.look(3_011, 2, true, true).is_some());
        assert_eq!(check.look(9_000, 2, true, true), None);
    }
}
