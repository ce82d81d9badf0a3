//! Coverage: which faults struck and which states were reached, by names that are known beforehand, so that a sweep over
//! many seeds can say what none of them ever reached.

use std::collections::{BTreeMap, BTreeSet};

/// States that some run within a few hundred seeds must reach.
pub const STATES: &[&str] = &[
    "a batch ordered in a joint configuration",
    "a block certified by a later one",
    "a block made in a joint configuration",
    "a block of a joint configuration certified",
    "a client gave up without an answer",
    "a contract served",
    "a contract skipped: below its least load",
    "a contract skipped: fulfilled",
    "a contract skipped: its partner was sealed",
    "a contract skipped: nothing to trade",
    "a corrected seal",
    "a damaged archive file fetched again",
    "a joint configuration",
    "a key replaced with a signature under way, which is refused",
    "a key was replaced",
    "a late value",
    "a leader changed with a batch in flight",
    "a leader elected",
    "a leader removed while it led",
    "a learner was promoted",
    "a log purged",
    "a newer build that gets nothing of the log",
    "a node joined",
    "a node stopped by a disk fault",
    "a node was removed",
    "a node with an alarm asked",
    "a nonce used twice",
    "a note read back elsewhere",
    "a process ended when asked",
    "a removed node which thinks that it votes",
    "a retry that was a duplicate",
    "a seal",
    "a seal made by a settlement",
    "a seal made twice, refused",
    "a seal refused: approval missing",
    "a seal refused: downstream open",
    "a signature offered twice",
    "a snapshot installed",
    "a snapshot taken",
    "a snapshot was ordered",
    "a wrong ledger noticed",
    "all sealed and certified without one node",
    "an approval",
    "an archived epoch read",
    "an archived epoch thawed",
    "an epoch archived",
    "an epoch sealed by the leader itself",
    "entries waited for the archive",
    "leadership was handed over by order",
    "settlements that came late",
    "seven voters",
    "the leader was removed",
    "three voters",
    "time went on while nobody asked",
];

/// Of the states, those that no run of a sweep has reached.
pub fn missing<'a>(reached: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'static str> {
    let reached: BTreeSet<&str> = reached.into_iter().collect();
    STATES
        .iter()
        .copied()
        .filter(|state| !reached.contains(state))
        .collect()
}

/// Only what is listed counts: a name that is spelled otherwise would never be missed.
pub fn of(seen: &BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
    seen.iter()
        .filter(|(state, times)| **times > 0 && STATES.contains(state))
        .map(|(state, times)| (*state, *times))
        .collect()
}
