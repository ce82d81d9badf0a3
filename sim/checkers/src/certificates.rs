//! Certificates: every seal that was ever acknowledged can be proven offline, with the digest that was acknowledged; by
//! the product's verifier and by one of our own, which never disagree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::history::History;
use crate::oracle::digest::hex;
use crate::oracle::entry::Key;
use crate::oracle::proof;
use crate::subject::Subject;

/// Of all keys that nodes ever had, those that a stranger would have listed when this was sealed. That the proof itself
/// says who voted then is for [`crate::soundness`] to hold against the log.
fn list(proof: &Value, node_keys: &[(u64, Key)]) -> Vec<(u64, Key)> {
    let voted = |(node, key): &&(u64, Key)| {
        let voters = proof["voters"][0].as_array().into_iter().flatten();
        let key = hex(key);
        voters
            .into_iter()
            .any(|voter| voter["node"] == *node && voter["key"] == *key)
    };
    node_keys.iter().filter(voted).copied().collect()
}

/// Verifies what nodes show in the end, with the keys that a stranger would have.
pub fn check<S: Subject>(history: &History, node_keys: &[(u64, Key)]) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut digests = BTreeMap::new();
    for seen in &history.seals {
        digests
            .entry((seen.asset.clone(), seen.epoch, seen.version))
            .or_insert(&seen.digest);
    }
    let mut proven = BTreeSet::new();
    for (node, shown) in &history.shown {
        for (key, proof) in &shown.proofs {
            let list = list(proof, node_keys);
            let own = proof::verify(proof, &list).map(|proven| proven.digest);
            let theirs = S::verify(proof, &list);
            if own.as_ref().ok() != theirs.as_ref().ok() {
                let what = format!(
                    "the product says of n{node}'s proof of {key:?} {theirs:?}; by our own code it is {own:?}"
                );
                found.push((0, what));
            }
            let acknowledged = digests.get(key);
            match own {
                Ok(digest) if acknowledged.is_some_and(|known| **known == hex(&digest)) => {
                    proven.insert(key);
                }
                Ok(digest) => {
                    let digest = hex(&digest);
                    let what =
                        format!("n{node} proves {digest} for {key:?}, acknowledged was {acknowledged:?}");
                    found.push((0, what));
                }
                Err(why) => found.push((0, format!("n{node}'s proof of {key:?} fails: {why}"))),
            }
        }
    }
    if !history.shown.is_empty() && proven.len() < digests.len() {
        let what = format!(
            "{} of {} acknowledged seals are proven",
            proven.len(),
            digests.len()
        );
        found.push((0, what));
    }
    found
}
