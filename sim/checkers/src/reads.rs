//! Linearizable reads: a journal shows everything that was acknowledged before it was asked for, nothing that nobody
//! had reported by the time of the answer, and never less than an earlier answer. A local read may be old, not made up.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Moment, Outcome};

/// A label, when it was first sent, and when it was acknowledged.
type Written<'a> = (&'a str, Moment, Option<Moment>);
/// When a read was answered, and the labels it showed.
type Shown<'a> = (Moment, BTreeSet<&'a str>);

/// Holds every read against what had been written and shown before.
pub fn check(history: &History) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    // By meter and epoch: each label, when it was first sent, and when it was acknowledged.
    let mut written: BTreeMap<(&str, u64), Vec<Written<'_>>> = BTreeMap::new();
    for operation in &history.operations {
        let acknowledged = matches!(operation.outcome, Outcome::Done).then_some(operation.ended);
        for s in &operation.settles {
            let entry = (s.label.as_str(), operation.asked, acknowledged);
            written.entry((&s.meter, s.epoch)).or_default().push(entry);
        }
    }
    let mut earlier: BTreeMap<(&str, u64), Vec<Shown<'_>>> = BTreeMap::new();
    for read in &history.reads {
        let place = (read.asset.as_str(), read.epoch);
        let shown: BTreeSet<&str> = read.labels.iter().map(String::as_str).collect();
        let all = written.get(&place).map_or(&[][..], Vec::as_slice);
        for (label, _, acknowledged) in all {
            if !read.local && acknowledged.is_some_and(|at| at < read.asked) && !shown.contains(label) {
                found.push((
                    read.answered.ms,
                    format!(
                        "n{} does not show {label}, acknowledged at {acknowledged:?}: {read:?}",
                        read.node
                    ),
                ));
            }
        }
        for label in &shown {
            if !all
                .iter()
                .any(|(known, asked, _)| known == label && *asked <= read.answered)
            {
                found.push((
                    read.answered.ms,
                    format!("n{} shows {label}, which nobody had reported", read.node),
                ));
            }
        }
        if read.local {
            continue;
        }
        let before = earlier.entry(place).or_default();
        for (answered, labels) in before.iter().filter(|(answered, _)| *answered < read.asked) {
            if let Some(gone) = labels.difference(&shown).next() {
                found.push((
                    read.answered.ms,
                    format!(
                        "n{} no longer shows {gone}, shown at {} ms",
                        read.node, answered.ms
                    ),
                ));
            }
        }
        before.push((read.answered, shown));
    }
    found
}
