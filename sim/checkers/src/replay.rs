//! Replay: the committed log, applied to a fresh ledger, gives what every node shows; and so does each snapshot with the
//! rest of the log, what it remembers of clients included.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::history::History;
use crate::oracle::digest::hex;
use crate::oracle::judge::{Judgement, Payload};
use crate::subject::Subject;

/// Snapshots that are restored and compared in full, beside each node's newest.
const COMPARED: usize = 6;

/// Snapshots by the index they cover: from which node, and the machine's bytes.
pub type Snapshots = BTreeMap<u64, Vec<(u64, Bytes)>>;

/// Files that snapshots refer to: by node and name.
pub type Files = BTreeMap<(u64, String), Bytes>;

/// Replays the log, beside the oracle, and compares snapshots on the way.
pub fn check<S: Subject>(
    log: &BTreeMap<u64, Payload>,
    snapshots: &Snapshots,
    files: &Files,
) -> (Judgement<S>, Vec<String>) {
    let mut found = Vec::new();
    let mut judgement = Judgement::<S>::new();
    let mut restored: Vec<(u64, S)> = Vec::new();
    let newest: BTreeMap<u64, u64> = snapshots
        .iter()
        .flat_map(|(index, of)| of.iter().map(|(node, _)| (*node, *index)))
        .collect();
    let step = (snapshots.len() / COMPARED).max(1);
    for (index, payload) in log {
        judgement.apply(*index, payload);
        restored
            .iter_mut()
            .for_each(|(_, ledger)| feed(ledger, *index, payload));
        let Some(of) = snapshots.get(index) else { continue };
        let sampled = snapshots.range(..index).count().is_multiple_of(step);
        let live = judgement.ledger.snapshot();
        for (node, bytes) in of {
            let is_newest = newest.get(node) == Some(index);
            // One that refers to files is only equal once they are taken in.
            if !(sampled || is_newest || *bytes != live) {
                continue;
            }
            let file = |name: &str| files.get(&(*node, name.to_owned())).cloned();
            match S::restore_with(bytes, &file) {
                Err(error) => found.push(format!(
                    "the snapshot of n{node} at {index} can't be restored: {error}"
                )),
                Ok(ledger) => {
                    let whole = ledger.snapshot();
                    if whole != live {
                        let what = format!(
                            "the snapshot of n{node} at {index} has {} bytes that differ from replay's {}",
                            whole.len(),
                            live.len()
                        );
                        found.push(what);
                    }
                    found.extend(
                        differ(&ledger, &judgement)
                            .map(|what| format!("the snapshot of n{node} at {index}: {what}")),
                    );
                    if is_newest {
                        restored.push((*node, ledger));
                    }
                }
            }
        }
    }
    for (node, ledger) in &restored {
        let what = differ(ledger, &judgement).or_else(|| {
            (ledger.snapshot() != judgement.ledger.snapshot())
                .then(|| "it would make another snapshot".to_owned())
        });
        found.extend(
            what.map(|what| format!("the newest snapshot of n{node} and the rest of the log: {what}")),
        );
    }
    (judgement, found)
}

/// Applies one entry.
fn feed<S: Subject>(ledger: &mut S, index: u64, payload: &Payload) {
    match payload {
        Payload::Blank => ledger.apply_blank(index),
        Payload::App(bytes) => drop(ledger.apply(index, bytes)),
        Payload::Membership(configs) => ledger.apply_membership(index, configs),
    }
}

/// In what a ledger differs from the replayed one, if it does.
fn differ<S: Subject>(ledger: &S, judgement: &Judgement<S>) -> Option<String> {
    let live = &judgement.ledger;
    for (signer, nonce) in judgement.book.nonces() {
        let (own, expected) = (ledger.remembered(signer, nonce), live.remembered(signer, nonce));
        if own != expected || expected.is_none() {
            let who = format!("{}/{}", hex(signer), hex(nonce));
            return Some(format!("of {who} it remembers {own:?}, replay {expected:?}"));
        }
    }
    ledger.difference(live)
}

/// What nodes show of their state is what replay gives at that index.
pub fn shown<S>(history: &History, judgement: &Judgement<S>) -> Vec<String> {
    let mut found = Vec::new();
    for (node, shown) in &history.shown {
        let applied = shown.status["applied"].as_u64();
        let replayed = applied.and_then(|applied| Some((applied, judgement.states.get(&applied)?)));
        if let Some((applied, replayed)) =
            replayed.filter(|(_, replayed)| shown.status["state"] != **replayed)
        {
            found.push(format!(
                "n{node} shows state {} at {applied}, replay gives {replayed}",
                shown.status["state"]
            ));
        }
        for block in &shown.blocks {
            let Some(index) = block["index"].as_u64() else {
                continue;
            };
            let own = judgement.book.blocks.get(&index);
            if own.is_none_or(|own| block["digest"] != hex(&own.digest)) {
                found.push(format!(
                    "n{node} shows the block {block}, the oracle makes {:?}",
                    own.map(|own| &own.header)
                ));
            }
            if own.is_some_and(|own| block["certified"] == true && !own.certified) {
                found.push(format!(
                    "n{node} shows block {index} certified; by the log it is not"
                ));
            }
        }
    }
    for seen in &history.seals {
        let versions = judgement.book.versions(&seen.asset, seen.epoch);
        let own = usize::try_from(seen.version)
            .ok()
            .and_then(|version| versions.get(version));
        if own.is_none_or(|own| hex(own) != seen.digest) {
            found.push(format!(
                "n{} answered with {seen:?}, the oracle seals {:?}",
                seen.node,
                own.map(|own| hex(own))
            ));
        }
    }
    found
}
