//! Certificates: every seal that was ever acknowledged can be proven offline, with the digest that was acknowledged.

use std::collections::BTreeMap;

use ledger::certificate::{self, Proof};
use ledger::{NodeId, PublicKey};

use crate::history::History;

pub(super) fn check(history: &History, node_keys: &[(NodeId, PublicKey)]) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut digests = BTreeMap::new();
    for seen in &history.seals {
        digests
            .entry((seen.asset.clone(), seen.epoch, seen.version))
            .or_insert(&seen.digest);
    }
    let mut proven = 0;
    for (node, shown) in &history.shown {
        for (key, proof) in &shown.proofs {
            let proof: Proof = match serde_json::from_value(proof.clone()) {
                Ok(proof) => proof,
                Err(e) => {
                    found.push((0, format!("n{node} has no proof of {key:?}: {e}: {proof}")));
                    continue;
                }
            };
            match certificate::verify(&proof, node_keys) {
                Ok(verdict)
                    if digests
                        .get(key)
                        .is_some_and(|digest| **digest == verdict.digest.to_string()) =>
                {
                    proven += 1
                }
                Ok(verdict) => {
                    let acknowledged = digests.get(key);
                    found.push((
                        0,
                        format!(
                            "n{node} proves {} for {key:?}, acknowledged was {acknowledged:?}",
                            verdict.digest
                        ),
                    ));
                }
                Err(broken) => found.push((0, format!("n{node}'s proof of {key:?} fails: {broken}"))),
            }
        }
    }
    if !history.shown.is_empty() && proven < digests.len() {
        found.push((
            0,
            format!("{proven} of {} acknowledged seals are proven", digests.len()),
        ));
    }
    found
}
