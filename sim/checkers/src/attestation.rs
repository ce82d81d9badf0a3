//! Attestation: a node signs a header only of a committed entry, only the one that the log's replay gives, never two for
//! one index, and it says so on its own disk before the signature leaves it. And it signs what it computed, as
//! far as no snapshot of its own covers that: a node that quietly stopped would not be missed as long as others are a quorum.

use std::collections::{BTreeMap, BTreeSet};

use super::raft::Found;
use crate::history::{History, Shown};
use crate::oracle::book::Book;
use crate::oracle::digest::{Hash, hex};
use crate::oracle::entry::{self, Body};

/// What nodes were seen to sign.
#[derive(Clone, Debug, Default)]
pub struct Attestations {
    /// Known to sign anything, or to have a damaged disk.
    excused: BTreeSet<u64>,
    /// Headers by node and index.
    signed: BTreeMap<(u64, u64), BTreeSet<Hash>>,
    /// The newest index that a node's own disk says it has signed.
    on_disk: BTreeMap<u64, u64>,
    found: Vec<Found>,
}

impl Attestations {
    /// Nothing seen yet; of the excused nodes nothing is asked.
    pub fn new(excused: BTreeSet<u64>) -> Self {
        Attestations {
            excused,
            ..Attestations::default()
        }
    }

    /// What was found broken since the last call.
    pub fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    /// A node's disk says that this is the last header it signed; the log is committed up to `committed`.
    pub fn on_disk(&mut self, node: u64, index: u64, header: Hash, committed: Option<u64>) {
        if let Some(before) = self.on_disk.insert(node, index).filter(|before| *before > index) {
            let what = format!("n{node} had signed up to block {before}, and its disk now says {index}");
            self.found.push(("one header", what));
        }
        self.sign(node, index, header, committed);
    }

    /// An entry was seen on some disk.
    pub fn entry(&mut self, bytes: &[u8], committed: Option<u64>) {
        // Most entries are no attestations: the kind stands behind version and time.
        if bytes.get(9) != Some(&2) {
            return;
        }
        let Some(entry::Entry {
            body: Body::Attestations(all),
            ..
        }) = entry::decode(bytes)
        else {
            return;
        };
        for attestation in all {
            if self.excused.contains(&attestation.node) {
                continue;
            }
            let (node, index) = (attestation.node, attestation.index);
            if self.on_disk.get(&node).is_none_or(|recorded| *recorded < index) {
                let what = format!(
                    "a signature of n{node} under block {index} is out, and its disk knows nothing of it"
                );
                self.found.push(("one header", what));
            }
            self.sign(node, index, attestation.header, committed);
        }
    }

    fn sign(&mut self, node: u64, index: u64, header: Hash, committed: Option<u64>) {
        let headers = self.signed.entry((node, index)).or_default();
        if !headers.insert(header) {
            return;
        }
        if headers.len() > 1 {
            let headers: Vec<String> = headers.iter().map(|header| hex(header)).collect();
            self.found.push((
                "one header",
                format!("n{node} signed for block {index} {headers:?}"),
            ));
        }
        if committed.is_none_or(|committed| committed < index) {
            let what = format!("n{node} signed block {index}, and the log is committed up to {committed:?}");
            self.found.push(("attestation", what));
        }
    }

    /// Nodes that show a newer block in the end than the last one that their disk says they signed. `covered` says up to
    /// where a node has a snapshot: what came with one it need not have computed itself.
    pub fn idle(&self, history: &History, covered: impl Fn(u64) -> Option<u64>) -> Vec<Found> {
        let newest = |shown: &Shown| shown.blocks.last().and_then(|block| block["index"].as_u64());
        let shown = history
            .shown
            .iter()
            .filter(|(node, _)| !self.excused.contains(node));
        shown
            .filter_map(|(node, shown)| Some((*node, newest(shown)?)))
            .filter(|(node, newest)| covered(*node) < Some(*newest))
            .filter_map(|(node, newest)| {
                let signed = self.on_disk.get(&node).copied();
                let what = format!("n{node} shows block {newest}, and the last that it signed is {signed:?}");
                (signed < Some(newest)).then_some(("attestation", what))
            })
            .collect()
    }

    /// Everything that was signed is what replay gives.
    pub fn check(&self, book: &Book) -> Vec<Found> {
        let mut found = Vec::new();
        for ((node, index), headers) in &self.signed {
            let replayed = book.blocks.get(index).map(|block| block.digest);
            if let Some(wrong) = headers.iter().find(|header| Some(**header) != replayed) {
                let (wrong, replayed) = (hex(wrong), replayed.map(|digest| hex(&digest)));
                found.push((
                    "attestation",
                    format!("n{node} signed {wrong} for block {index}; replay gives {replayed:?}"),
                ));
            }
        }
        found
    }
}
