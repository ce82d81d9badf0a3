//! Recovery: once faults have ended and all nodes run, there is a leader within 3 s, all nodes are equal within 15 s, and
//! every block made before is certified on every node within 20 s.

use std::collections::BTreeMap;

use super::raft::Found;

/// There is a leader whom everyone follows.
pub const LEADER_MS: u64 = 3_000;
/// All nodes have the same state.
pub const EQUAL_MS: u64 = 15_000;
/// All blocks of before are certified.
pub const CERTIFIED_MS: u64 = 20_000;

/// What a node shows of itself at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Its term.
    pub term: u64,
    /// Whom it follows.
    pub leader: Option<u64>,
    /// What it has applied.
    pub applied: Option<u64>,
    /// Its state there.
    pub state: [u8; 32],
    /// The index of its newest block.
    pub newest_block: Option<u64>,
    /// The index of the newest certified one.
    pub certified: Option<u64>,
}

/// Watches a cluster get well.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    well_from: Option<u64>,
    /// The newest block anyone had when all was well again.
    target: Option<u64>,
    done: [bool; 3],
    told: [bool; 3],
}

impl Recovery {
    /// All nodes at some moment, in milliseconds; `None` for one that doesn't run, or while faults last.
    pub fn look(&mut self, at_ms: u64, nodes: Option<&BTreeMap<u64, View>>) -> Vec<Found> {
        let Some(nodes) = nodes else {
            *self = Recovery::default();
            return Vec::new();
        };
        let newest = nodes.values().filter_map(|view| view.newest_block).max();
        if self.well_from.is_none() {
            self.well_from = Some(at_ms);
            self.target = newest;
        }
        let since = at_ms - self.well_from.unwrap_or(at_ms);
        let mut views = nodes.values();
        let first = views.next();
        let same = |what: fn(&View, &View) -> bool| {
            first.is_some_and(|first| nodes.values().all(|view| what(first, view)))
        };
        let now = [
            same(|a, b| a.leader.is_some() && (a.leader, a.term) == (b.leader, b.term)),
            same(|a, b| a.applied.is_some() && (a.applied, a.state) == (b.applied, b.state)),
            nodes.values().all(|view| view.certified >= self.target),
        ];
        let bounds = [
            (LEADER_MS, "they don't follow one leader"),
            (EQUAL_MS, "they are not equal"),
            (CERTIFIED_MS, "not every block of before is certified"),
        ];
        let mut found = Vec::new();
        for (i, (bound, what)) in bounds.into_iter().enumerate() {
            self.done[i] |= now[i];
            if !self.done[i] && !self.told[i] && since > bound {
                self.told[i] = true;
                found.push((
                    "recovery",
                    format!("{bound} ms after the faults, with all nodes up, {what}: {nodes:?}"),
                ));
            }
        }
        found
    }
}
