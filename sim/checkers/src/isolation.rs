//! Isolation: whoever can't hear from a majority doesn't know what the others have agreed on meanwhile, and must not answer a
//! linearizable read that was asked when it already could not.
//!
//! By clocks that run alike a leader that trusts its lease is never found out by what it shows. It is by having answered at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::History;

/// Notes when nodes could not hear from a majority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    since: BTreeMap<u64, u64>,
    /// Of each node, from when until when, in order of time.
    periods: BTreeMap<u64, Vec<(u64, u64)>>,
}

impl Isolation {
    /// The nodes that can't hear from a majority, at some moment. Call it whenever that changes, in order of time.
    pub fn look(&mut self, at_ms: u64, isolated: &BTreeSet<u64>) {
        let over = self.since.extract_if(.., |node, _| !isolated.contains(node));
        for (node, since) in over {
            self.periods.entry(node).or_default().push((since, at_ms));
        }
        for node in isolated {
            self.since.entry(*node).or_insert(at_ms);
        }
    }

    /// Another majority counts, and may have for a moment: nothing is known of who is isolated now, and since when.
    pub fn forget(&mut self) {
        self.since.clear();
    }

    /// Linearizable reads that were asked of an isolated node, and answered while it was.
    pub fn check(mut self, at_ms: u64, history: &History) -> Vec<(u64, String)> {
        self.look(at_ms, &BTreeSet::new());
        let linearizable = history.reads.iter().filter(|read| !read.local);
        let answered = linearizable.filter_map(|read| {
            let mut periods = self.periods.get(&read.node)?.iter();
            // What was sent in the very millisecond may have gone before.
            let within = |(since, until): &&(u64, u64)| *since < read.asked.ms && read.answered.ms < *until;
            let (since, until) = periods.find(within)?;
            let what = format!(
                "n{} could hear from no majority from {since} to {until} ms, and answered: {read:?}",
                read.node
            );
            Some((read.answered.ms, what))
        });
        answered.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Moment, Read};

    #[test]
    fn who_hears_from_no_majority_answers_no_read_that_is_asked_meanwhile() {
        let read = |node, asked, answered, local| Read {
            node,
            local,
            asset: "pv".into(),
            epoch: 1,
            asked: Moment::at(asked),
            answered: Moment::at(answered),
            labels: Vec::new(),
            watermark: 0,
            sealed: Vec::new(),
        };
        let mut isolation = Isolation::default();
        isolation.look(5, &[2].into());
        isolation.look(10, &[1, 2].into());
        isolation.look(20, &[2].into());
        let found = |read| {
            let history = History {
                reads: vec![read],
                ..History::default()
            };
            isolation.clone().check(30, &history).len()
        };
        assert_eq!(found(read(1, 11, 19, false)), 1);
        assert_eq!(found(read(1, 11, 19, true)), 0, "a local read may be old");
        assert_eq!(found(read(1, 10, 19, false)), 0, "asked before it was cut off");
        assert_eq!(found(read(1, 11, 20, false)), 0, "answered when it was back");
        assert_eq!(found(read(3, 11, 19, false)), 0, "another node");
        assert_eq!(found(read(2, 8, 29, false)), 1, "until the end");
        let mut joint = Isolation::default();
        joint.look(5, &[2].into());
        joint.forget();
        joint.look(12, &[2].into());
        let history = History {
            reads: vec![read(2, 8, 29, false)],
            ..History::default()
        };
        assert_eq!(
            joint.check(30, &history),
            [],
            "asked when another majority counted"
        );
    }
}
