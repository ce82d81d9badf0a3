//! States: at one index of the log every ledger is in the same state, that of replay, on every node and in every life of
//! it; and within a life what is applied only grows.

use std::collections::BTreeMap;

use crate::oracle::digest::{Hash, hex};
use crate::raft::Found;

/// What nodes have shown of their states.
#[derive(Clone, Debug, Default)]
pub struct States {
    /// By index, and who was the first to show it.
    seen: BTreeMap<u64, (u64, Hash)>,
    /// Each node's life, and what it had applied in it.
    applied: BTreeMap<u64, (u64, u64)>,
}

impl States {
    /// A node shows that it has applied the log up to an index, and its state there.
    pub fn look(&mut self, node: u64, life: u64, index: u64, state: Option<Hash>) -> Vec<Found> {
        let mut found = Vec::new();
        let before = self.applied.insert(node, (life, index));
        if let Some((_, before)) = before.filter(|(known, before)| *known == life && *before > index) {
            found.push((
                "monotonic",
                format!("n{node} had applied {before}, and now {index}"),
            ));
        }
        if let Some(state) = state {
            let (first, known) = self.seen.entry(index).or_insert((node, state));
            if *known != state {
                let (ours, theirs) = (hex(&state), hex(known));
                found.push((
                    "state machine safety",
                    format!("at {index} the state of n{node} is {ours}, that of n{first} {theirs}"),
                ));
            }
        }
        found
    }

    /// Everything that was shown is what replay gives.
    pub fn check(&self, replayed: &BTreeMap<u64, String>) -> Vec<Found> {
        let differing = self.seen.iter().filter_map(|(index, (node, state))| {
            let (replayed, state) = (replayed.get(index)?, hex(state));
            (*replayed != state)
                .then(|| format!("n{node} showed state {state} at {index}, replay gives {replayed}"))
        });
        differing.map(|what| ("replay", what)).collect()
    }
}
