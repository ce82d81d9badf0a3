//! Replay: the committed log, applied to a fresh ledger, gives what every node shows; and so does each snapshot with the
//! rest of the log, what it remembers of clients included.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

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

/// Who votes by a snapshot, and the index of the entry that says so; nothing, if it can't be read.
pub type Membership = Option<(Option<u64>, Vec<BTreeSet<u64>>)>;

/// Whether snapshots, by node and index, say of the members what the log says there: whoever starts with one, or is sent it, counts
/// majorities by it.
pub fn memberships(
    log: &BTreeMap<u64, Payload>,
    snapshots: &BTreeMap<(u64, u64), Membership>,
) -> Vec<String> {
    let of_log = |index: u64| {
        log.range(..=index).rev().find_map(|(at, payload)| match payload {
            Payload::Membership(configs) => Some((Some(*at), configs.clone())),
            _ => None,
        })
    };
    let known = snapshots.iter().filter(|((_, index), _)| log.contains_key(index));
    let wrong = known.filter_map(|((node, index), shown)| {
        let logged = of_log(*index);
        (*shown != logged).then(|| {
            format!(
                "by the snapshot of n{node} at {index} the members are {shown:?}, and by the log {logged:?}"
            )
        })
    });
    wrong.collect()
}

/// A ledger out of a snapshot, for all nodes at once that have the same one and the same files.
struct Restored<S> {
    bytes: Bytes,
    /// The files it asked for.
    files: Vec<(String, Option<Bytes>)>,
    /// Those of whom it is the newest.
    newest_of: Vec<u64>,
    ledger: S,
}

impl<S: Subject> Restored<S> {
    fn new(bytes: &Bytes, file: impl Fn(&str) -> Option<Bytes>) -> Result<Self, String> {
        let asked = RefCell::new(Vec::new());
        let noted = |name: &str| {
            let content = file(name);
            asked.borrow_mut().push((name.to_owned(), content.clone()));
            content
        };
        let ledger = S::restore_with(bytes, &noted)?;
        Ok(Restored {
            bytes: bytes.clone(),
            files: asked.into_inner(),
            newest_of: Vec::new(),
            ledger,
        })
    }

    fn is(&self, bytes: &Bytes, file: impl Fn(&str) -> Option<Bytes>) -> bool {
        self.bytes == bytes && self.files.iter().all(|(name, content)| file(name) == *content)
    }
}

/// Replays the log, beside the oracle, and compares snapshots on the way.
pub fn check<S: Subject>(
    log: &BTreeMap<u64, Payload>,
    snapshots: &Snapshots,
    files: &Files,
) -> (Judgement<S>, Vec<String>) {
    let mut found = Vec::new();
    let mut judgement = Judgement::<S>::new();
    let mut newest_ones: Vec<Restored<S>> = Vec::new();
    let newest: BTreeMap<u64, u64> = snapshots
        .iter()
        .flat_map(|(index, of)| of.iter().map(|(node, _)| (*node, *index)))
        .collect();
    let step = (snapshots.len() / COMPARED).max(1);
    for (index, payload) in log {
        judgement.apply(*index, payload);
        newest_ones
            .iter_mut()
            .for_each(|restored| feed(&mut restored.ledger, *index, payload));
        let Some(of) = snapshots.get(index) else { continue };
        let sampled = snapshots.range(..index).count().is_multiple_of(step);
        let live = judgement.ledger.snapshot();
        let mut here: Vec<Restored<S>> = Vec::new();
        for (node, bytes) in of {
            let is_newest = newest.get(node) == Some(index);
            // One that refers to files is only equal once they are taken in.
            if !(sampled || is_newest || *bytes != live) {
                continue;
            }
            let file = |name: &str| files.get(&(*node, name.to_owned())).cloned();
            let known = here.iter().position(|restored| restored.is(bytes, file));
            let place = match known {
                Some(place) => place,
                None => match Restored::new(bytes, file) {
                    Ok(restored) => {
                        found.extend(
                            unlike(&restored.ledger, &live, &judgement)
                                .map(|what| format!("the snapshot of n{node} at {index}: {what}")),
                        );
                        here.push(restored);
                        here.len() - 1
                    }
                    Err(error) => {
                        found.push(format!(
                            "the snapshot of n{node} at {index} can't be restored: {error}"
                        ));
                        continue;
                    }
                },
            };
            if is_newest {
                here[place].newest_of.push(*node);
            }
        }
        newest_ones.extend(here.into_iter().filter(|restored| !restored.newest_of.is_empty()));
    }
    let live = judgement.ledger.snapshot();
    for restored in &newest_ones {
        found.extend(unlike(&restored.ledger, &live, &judgement).map(|what| {
            let nodes = &restored.newest_of;
            format!("the newest snapshot of nodes {nodes:?} and the rest of the log: {what}")
        }));
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

/// In what a ledger differs from the replayed one, whose snapshot this is, if it does.
fn unlike<S: Subject>(ledger: &S, live: &[u8], judgement: &Judgement<S>) -> Option<String> {
    for (signer, nonce) in judgement.book.nonces() {
        if let Err(what) = ledger.remembers_like(&judgement.ledger, signer, nonce) {
            return Some(format!("of {}/{} it remembers {what}", hex(signer), hex(nonce)));
        }
    }
    ledger.difference(&judgement.ledger).or_else(|| {
        let own = ledger.snapshot();
        (own != live).then(|| {
            format!(
                "it would make a snapshot of {} bytes, which replay's {} are not",
                own.len(),
                live.len()
            )
        })
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_the_members_of_the_log_before_it() {
        let three = Payload::Membership(vec![[1, 2, 3].into()]);
        let joint = Payload::Membership(vec![[1, 2, 3].into(), [1, 2, 4].into()]);
        let log = [(0, three), (1, Payload::Blank), (2, joint), (3, Payload::Blank)].into();
        let shown = |index, at, configs: &[&[u64]]| {
            let configs = configs.iter().map(|config| config.iter().copied().collect());
            let snapshots = [((7, index), Some((Some(at), configs.collect())))].into();
            memberships(&log, &snapshots).len()
        };
        assert_eq!(shown(1, 0, &[&[1, 2, 3]]), 0);
        assert_eq!(shown(3, 2, &[&[1, 2, 3], &[1, 2, 4]]), 0);
        assert_eq!(shown(3, 0, &[&[1, 2, 3]]), 1, "those of before");
        assert_eq!(shown(3, 2, &[&[1, 2, 4]]), 1);
        assert_eq!(shown(1, 2, &[&[1, 2, 3]]), 1);
        assert_eq!(shown(9, 0, &[&[1]]), 0, "beyond what is known");
        assert_eq!(memberships(&log, &[((7, 3), None)].into()).len(), 1, "none");
    }
}
