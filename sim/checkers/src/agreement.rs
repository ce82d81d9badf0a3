//! Agreement: all healed nodes show the same state, blocks, journals and contracts, and a seal has one digest,
//! whoever is asked.

use std::collections::BTreeMap;

use crate::history::History;

/// Compares what nodes show in the end, and the digests that clients were told.
pub fn check(history: &History) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut shown = history.shown.iter();
    if let Some((first, expected)) = shown.next() {
        for (node, other) in shown {
            let mut differ = |what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
                found.push((0, format!("{what}: n{first} shows {a:?}, n{node} {b:?}")));
            };
            // The digest of a state that one more entry was applied to differs rightly.
            if expected.status["applied"] == other.status["applied"]
                && expected.status["state"] != other.status["state"]
            {
                differ("state", &expected.status, &other.status);
            }
            let bare = |block: &serde_json::Value| {
                (
                    block["index"].clone(),
                    block["digest"].clone(),
                    block["root"].clone(),
                )
            };
            if expected.blocks.iter().map(bare).ne(other.blocks.iter().map(bare)) {
                let at = expected
                    .blocks
                    .iter()
                    .zip(&other.blocks)
                    .find(|(a, b)| bare(a) != bare(b));
                differ(
                    "blocks",
                    &(expected.blocks.len(), at.map(|(a, _)| a)),
                    &(other.blocks.len(), at.map(|(_, b)| b)),
                );
            }
            for (key, journal) in &expected.journals {
                if other.journals.get(key) != Some(journal) {
                    differ(&format!("journal of {key:?}"), journal, &other.journals.get(key));
                }
            }
            if expected.contracts != other.contracts {
                differ("contracts", &expected.contracts, &other.contracts);
            }
        }
    }
    let mut digests = BTreeMap::new();
    for seen in &history.seals {
        let known = *digests
            .entry((&seen.asset, seen.epoch, seen.version))
            .or_insert(seen);
        if known.digest != seen.digest {
            found.push((
                seen.at_ms,
                format!("two digests of one seal: {known:?} and {seen:?}"),
            ));
        }
    }
    found
}
