//! Merkle trees as in RFC 6962: leaf `SHA-256(0x00 ‖ digest)`, node `SHA-256(0x01 ‖ left ‖ right)`.
//!
//! A [`Frontier`] is the tree of an append-only list in logarithmic space: a journal's root at its next watermark
//! costs only what came since the last.

use crate::canonical::{Canonical, DecodeError, Decoder, Encoder};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The hash of a leaf.
pub fn leaf(data: &Digest) -> Digest {
    let mut bytes = [0; 33];
    bytes[1..].copy_from_slice(&data.0);
    Digest(Sha256::digest(bytes).into())
}

/// The hash of a node.
pub fn node(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Digest(Sha256::digest(bytes).into())
}

/// The root over a list; of the empty one it is the hash of nothing.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// The roots of the perfect subtrees into which the leaves so far fall, largest first: one for each bit of `len`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    len: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// How many leaves there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a leaf.
    pub fn push(&mut self, data: Digest) {
        let mut hash = leaf(&data);
        for _ in 0..self.len.trailing_ones() {
            // As many peaks as `len` has bits, so each of its trailing ones has its peak.
            let Some(left) = self.peaks.pop() else { break };
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.len += 1;
    }

    /// Gives back the room for peaks that it hasn't.
    pub fn shrink(&mut self) {
        self.peaks.shrink_to_fit();
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev().copied();
        match peaks.next() {
            None => Digest(Sha256::digest([]).into()),
            Some(smallest) => peaks.fold(smallest, |right, left| node(&left, &right)),
        }
    }
}

impl Canonical for Frontier {
    fn encode(&self, out: &mut Encoder) {
        self.len.encode(out);
        self.peaks.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let frontier = Frontier {
            len: Canonical::decode(from)?,
            peaks: Canonical::decode(from)?,
        };
        if u32::try_from(frontier.peaks.len()) == Ok(frontier.len.count_ones()) {
            Ok(frontier)
        } else {
            Err(DecodeError::Invalid { what: "frontier" })
        }
    }
}

/// The way from a leaf to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// Which leaf, from 0.
    pub leaf_index: u64,
    /// The siblings, from the leaf upwards.
    pub hashes: Vec<Digest>,
}

/// The path of leaf `index`, if there is one.
pub fn path(leaves: &[Digest], index: usize) -> Option<Path> {
    leaves.get(index)?;
    let mut hashes = Vec::new();
    let (mut low, mut high) = (0, leaves.len());
    while high - low > 1 {
        // The left subtree is the largest perfect one that leaves something on the right.
        let split = low + (high - low).next_power_of_two() / 2;
        if index < split {
            hashes.push(root(&leaves[split..high]));
            high = split;
        } else {
            hashes.push(root(&leaves[low..split]));
            low = split;
        }
    }
    hashes.reverse();
    Some(Path {
        leaf_index: u64::try_from(index).ok()?,
        hashes,
    })
}

impl Path {
    /// The root to which this path leads from `data` in a tree of `count` leaves; `None` where its length doesn't
    /// fit (RFC 9162 §2.1.3.2).
    pub fn root(&self, data: &Digest, count: u64) -> Option<Digest> {
        if self.leaf_index >= count {
            return None;
        }
        let (mut index, mut last) = (self.leaf_index, count - 1);
        let mut hash = leaf(data);
        for sibling in &self.hashes {
            if last == 0 {
                return None;
            }
            if index & 1 == 1 || index == last {
                hash = node(sibling, &hash);
                while index & 1 == 0 && index != 0 {
                    index >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node(&hash, sibling);
            }
            index >>= 1;
            last >>= 1;
        }
        (last == 0).then_some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 §2.1, word for word.
    fn by_definition(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest(Sha256::digest([]).into()),
            [one] => leaf(one),
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node(&by_definition(&leaves[..k]), &by_definition(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_empty_tree_is_the_known_value() {
        assert_eq!(
            root(&[]).to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn frontiers_and_paths_follow_the_definition() {
        let leaves: Vec<Digest> = (0..70u8).map(|i| Digest([i; 32])).collect();
        for n in 0..=leaves.len() {
            let tree = &leaves[..n];
            let expected = by_definition(tree);
            assert_eq!(root(tree), expected, "{n} leaves");
            for (i, leaf) in tree.iter().enumerate() {
                let path = path(tree, i).expect("the leaf is there");
                let count = n as u64;
                assert_eq!(path.root(leaf, count), Some(expected), "leaf {i} of {n}");
                assert_ne!(path.root(&Digest([99; 32]), count), Some(expected));
                let mut longer = path.clone();
                longer.hashes.push(Digest::ZERO);
                assert_ne!(longer.root(leaf, count), Some(expected));
            }
            assert_eq!(path(tree, n), None);
        }
    }
}
