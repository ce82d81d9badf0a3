//! Forgotten: who waits on a node for an outcome hears of it as soon as that node's ledger has it, whichever way it came there.
//!
//! Whoever is forgotten is answered in the end, by a retry or by nobody; so clients alone can't tell.

use std::collections::BTreeMap;

/// How long it may take to tell somebody, in milliseconds.
pub const TOLD_WITHIN_MS: u64 = 1_000;

/// Requests that wait, by the node, which of its lives it is, and a number.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    waiting: BTreeMap<(u64, u64, u64), Since>,
}

/// Since when a request could have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// It can't yet.
    Never,
    /// From the first look on: a retry of what was done, which is answered when it is in the log once more.
    Always,
    /// In milliseconds; it waited before.
    At(u64),
    /// And was complained of.
    Told,
}

impl Forgotten {
    /// Looks at all who wait on a node, and for which of them its ledger has the outcome; it must have run for the last
    /// [`TOLD_WITHIN_MS`], or be looked at as one that nobody waits on.
    pub fn look(&mut self, at_ms: u64, node: u64, life: u64, waiting: &[(u64, bool)]) -> Option<String> {
        let mut before = std::mem::take(&mut self.waiting);
        let mut found = None;
        for (number, known) in waiting {
            let key = (node, life, *number);
            let since = match (before.remove(&key), known) {
                (None, true) => Since::Always,
                (None | Some(Since::Never), false) => Since::Never,
                (Some(Since::Never), true) => Since::At(at_ms),
                (Some(Since::At(since)), true) if since + TOLD_WITHIN_MS < at_ms => {
                    let what = format!(
                        "n{node} has the outcome for which request {number} waits since {since} ms, and doesn't tell"
                    );
                    found = found.or(Some(what));
                    Since::Told
                }
                (Some(since), _) => since,
            };
            self.waiting.insert(key, since);
        }
        before.retain(|(of, _, _), _| *of != node);
        self.waiting.append(&mut before);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_soon_after_the_ledger_knows() {
        let mut forgotten = Forgotten::default();
        let mut look = |at_ms, node, life, known| forgotten.look(at_ms, node, life, &[(7, known)]);
        assert_eq!(look(0, 1, 1, false), None);
        assert_eq!(look(10, 1, 1, true), None);
        assert_eq!(look(1_000, 2, 1, false), None, "another node");
        assert_eq!(look(1_010, 1, 1, true), None);
        assert!(look(1_011, 1, 1, true).is_some_and(|what| what.contains("request 7 waits since 10 ms")));
        assert_eq!(look(1_012, 1, 1, true), None, "once");
        assert_eq!(look(2_000, 1, 2, true), None, "another life, and a retry");
        assert_eq!(look(9_000, 1, 2, true), None);
        assert_eq!(look(9_000, 2, 1, true), None);
        assert!(look(10_001, 2, 1, true).is_some());
        // One that went before it was late, and comes again as a retry.
        for (at_ms, waiting) in [
            (0, &[(8, false)][..]),
            (10, &[(8, true)]),
            (20, &[]),
            (5_000, &[(8, true)]),
        ] {
            assert_eq!(forgotten.look(at_ms, 3, 1, waiting), None, "at {at_ms}");
        }
    }
}
