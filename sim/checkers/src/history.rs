//! What clients asked, what they were answered, and when: all that the checkers know of a run besides the end.

use std::collections::BTreeMap;

use crate::told::Told;
use serde_json::Value;

/// When a client asked or heard something. Many things happen in one millisecond; whoever wrote them down knows which
/// came first, and what was heard before another question was asked must be seen by who answers that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds since the run began.
    pub ms: u64,
    /// Its place among all that was asked and heard. Moments of one millisecond and one place count as simultaneous.
    pub place: u64,
}

impl Moment {
    /// All of a millisecond, where nobody knows more.
    pub const fn at(ms: u64) -> Self {
        Moment { ms, place: 0 }
    }
}

/// One settlement that a client reported, under a label that no other of its meter has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Whose.
    pub meter: String,
    /// For when.
    pub epoch: u64,
    /// How much, in watt-hours.
    pub consumption: i64,
    /// Tells it from all others of its meter.
    pub label: String,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// No one knows: it may have been done, or may yet be.
    Unknown,
    /// Done.
    Done,
    /// Certainly not done, and why: HTTP's number and the code.
    Refused(u16, String),
}

/// Something a client wanted.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What it is called, and its idempotency key: whoever retries it uses the same.
    pub key: String,
    /// Whether that was told to the cluster. If not, it was asked once, and only what it settles can be told again.
    pub keyed: bool,
    /// `service.action`.
    pub action: String,
    /// Its parameters.
    pub body: Value,
    /// What it settles, if it does.
    pub settles: Vec<Reported>,
    /// When it was first asked.
    pub asked: Moment,
    /// When it was answered, or given up.
    pub ended: Moment,
    /// What became of it.
    pub outcome: Outcome,
    /// What more was told of it, if it was done.
    pub told: Option<Told>,
}

/// An answered operation that was sent once more.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeat {
    /// Its idempotency key.
    pub key: String,
    /// When it was answered again.
    pub at_ms: u64,
    /// By which node.
    pub node: u64,
    /// What it had been answered: HTTP's number, and the body but for what may differ.
    pub first: (u16, Value),
    /// What it was answered again.
    pub again: (u16, Value),
}

/// A read of a journal.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which node answered.
    pub node: u64,
    /// Whether what the node itself knows was enough, as old as it may be.
    pub local: bool,
    /// Whose journal.
    pub asset: String,
    /// Of when.
    pub epoch: u64,
    /// When it was asked.
    pub asked: Moment,
    /// When it was answered.
    pub answered: Moment,
    /// The labels of the metered statements in it, in order.
    pub labels: Vec<String>,
    /// How many statements the newest seal covers.
    pub watermark: u64,
    /// All statements of the sealed prefix, as shown.
    pub sealed: Vec<Value>,
}

/// An answer that names a seal's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealSeen {
    /// When it was answered, in virtual milliseconds.
    pub at_ms: u64,
    /// By which node.
    pub node: u64,
    /// Whose seal.
    pub asset: String,
    /// Of when.
    pub epoch: u64,
    /// Which.
    pub version: u64,
    /// What it is.
    pub digest: String,
}

/// A question, and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// `service.action`.
    pub action: String,
    /// Of what.
    pub params: Value,
    /// The answer's body.
    pub body: Value,
}

/// What a node shows when all is over.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// `cluster.status`.
    pub status: Value,
    /// `cluster.blocks`, all of them.
    pub blocks: Vec<Value>,
    /// `balancing.journal` by asset and epoch.
    pub journals: BTreeMap<(String, u64), Value>,
    /// `balancing.proof` by asset, epoch and version.
    pub proofs: BTreeMap<(String, u64, u64), Value>,
    /// All contracts.
    pub contracts: Vec<Value>,
    /// What else it was asked, and what it answered.
    pub asked: Vec<Asked>,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order in which they ended.
    pub operations: Vec<Operation>,
    /// In the order in which they were answered.
    pub repeats: Vec<Repeat>,
    /// In the order in which they were answered.
    pub reads: Vec<Read>,
    /// In the order in which they were answered.
    pub seals: Vec<SealSeen>,
    /// Answers no node should give: when, and what.
    pub oddities: Vec<(u64, String)>,
    /// What every node shows when all is over.
    pub shown: BTreeMap<u64, Shown>,
    /// How often there was what.
    pub counts: BTreeMap<&'static str, u64>,
    /// How far the clients came: what they are at now.
    pub phase: String,
    /// How many moments there were.
    pub moments: u64,
}

impl History {
    /// This moment, behind all before it.
    pub fn moment(&mut self, now_ms: u64) -> Moment {
        self.moments += 1;
        Moment {
            ms: now_ms,
            place: self.moments,
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_follow_one_another_and_what_is_counted_adds_up() {
        let mut history = History::default();
        let moments = [3, 3, 4].map(|ms| history.moment(ms));
        assert!(moments.is_sorted_by(|a, b| a < b), "{moments:?}");
        assert_eq!(moments.map(|moment| moment.ms), [3, 3, 4]);
        history.count("a");
        history.count("a");
        history.count("b");
        assert_eq!(history.counts, [("a", 2), ("b", 1)].into());
    }
}
