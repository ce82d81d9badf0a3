//! Seal blocks: what nodes sign. One log entry that makes seals makes one block, and blocks form a hash chain.

use crate::canonical::canonical_struct;
use crate::digest::{ClusterId, Digest, digest};
use crate::jws;
use crate::key::{PublicKey, Signature};
use crate::ledger::{AttestationAnswer, Ledger};
use crate::merkle;
use crate::refusal::Refusal;
use crate::voters::{NodeId, Voters};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The header of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The index of the log entry that made the seals.
    pub index: u64,
    /// How many seals; at least 1.
    pub count: u32,
    /// The Merkle root over their digests, in the order in which they were made.
    pub root: Digest,
    /// The digest of the header of the block before; zeros for the first.
    pub previous: Digest,
    /// The ledger's running digest after this entry.
    pub state: Digest,
    /// The digest of the voters in force at this index.
    pub voters: Digest,
}

canonical_struct!(Header {
    cluster,
    index,
    count,
    root,
    previous,
    state,
    voters
});

impl Header {
    /// The header as RFC 8785 canonical JSON: member names sorted, no white space; digests are lower-case
    /// hexadecimal strings, `count` and `index` integers below 2^53. These bytes are what is signed.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"cluster":"{}","count":{},"index":{},"previous":"{}","root":"{}","state":"{}","voters":"{}"}}"#,
            self.cluster, self.count, self.index, self.previous, self.root, self.state, self.voters
        )
    }

    /// The digest of those bytes; what the next block names as `previous`.
    pub fn digest(&self) -> Digest {
        digest("header", self.to_json().as_bytes())
    }

    /// What a node signs: the JWS signing input for this header and its own key.
    pub fn signing_input(&self, key: &PublicKey) -> String {
        jws::signing_input(key, self.to_json().as_bytes())
    }
}

/// A node's signature under a header, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Who signs.
    pub node: NodeId,
    /// The index of the block's entry.
    pub index: u64,
    /// The digest of the header that was signed.
    pub header: Digest,
    /// Over [`Header::signing_input`].
    pub signature: Signature,
}

canonical_struct!(Attestation {
    node,
    index,
    header,
    signature
});

/// A block and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is signed.
    pub header: Header,
    /// The header's digest.
    pub digest: Digest,
    /// The voters in force at its index, with their keys as they then were.
    pub voters: Arc<Voters>,
    /// The digests of its seals, in order: the leaves of its Merkle tree.
    pub seals: Vec<Digest>,
    /// The signatures so far.
    pub signatures: BTreeMap<NodeId, Signature>,
    /// Whether it has its quorum, or a later block has.
    pub certified: bool,
}

canonical_struct!(Block {
    header,
    digest,
    voters,
    seals,
    signatures,
    certified
});

/// All blocks, by index. What always holds: each names the digest of the one before, and certified blocks come
/// before uncertified ones.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) blocks: BTreeMap<u64, Block>,
    /// Blocks up to this index are certified.
    pub(crate) certified: Option<u64>,
    /// Blocks that got a signature since [`Chain::certify`] last looked.
    touched: BTreeSet<u64>,
}

impl Chain {
    /// A chain from a snapshot, if its blocks are one.
    pub(crate) fn restore(blocks: BTreeMap<u64, Block>, certified: Option<u64>) -> Option<Chain> {
        let mut previous = Digest::ZERO;
        for (index, block) in &blocks {
            let fits = block.header.index == *index
                && block.header.previous == previous
                && block.digest == block.header.digest()
                && block.certified == certified.is_some_and(|certified| *index <= certified);
            if !fits {
                return None;
            }
            previous = block.digest;
        }
        Some(Chain {
            blocks,
            certified,
            touched: BTreeSet::new(),
        })
    }

    /// The digest of the newest header, zeros if there is none.
    fn head(&self) -> Digest {
        self.blocks
            .last_key_value()
            .map_or(Digest::ZERO, |(_, block)| block.digest)
    }

    /// Marks what has become certified and returns it, ascending.
    pub(crate) fn certify(&mut self) -> Vec<u64> {
        let newest = std::mem::take(&mut self.touched).into_iter().rev().find(|index| {
            self.blocks.get(index).is_some_and(|block| {
                !block.certified
                    && block
                        .voters
                        .certified_by(&block.signatures.keys().copied().collect())
            })
        });
        let Some(newest) = newest else { return Vec::new() };
        let first = self.certified.map_or(0, |certified| certified + 1);
        let mut certified = Vec::new();
        for (index, block) in self.blocks.range_mut(first..=newest) {
            block.certified = true;
            certified.push(*index);
        }
        self.certified = Some(newest);
        certified
    }
}

impl Ledger {
    /// Makes the block of an entry that made these seals.
    pub(crate) fn make_block(&mut self, index: u64, seals: Vec<Digest>) -> Header {
        let voters = Arc::clone(self.membership.voters());
        #[cfg(feature = "planted")]
        let mut seals = seals;
        #[cfg(feature = "planted")]
        if planted!("hash-order-in-digest") {
            let turn = usize::try_from(::planted::turn()).unwrap_or(0);
            let len = seals.len().max(1);
            seals.rotate_left(turn % len);
        }
        let header = Header {
            cluster: self.cluster,
            index,
            count: u32::try_from(seals.len()).unwrap_or(u32::MAX),
            root: merkle::root(&seals),
            previous: self.chain.head(),
            state: self.state,
            voters: voters.digest(),
        };
        let block = Block {
            header: header.clone(),
            digest: header.digest(),
            voters,
            seals,
            signatures: BTreeMap::new(),
            certified: false,
        };
        self.chain.blocks.insert(index, block);
        header
    }

    /// Keeps a signature that counts.
    pub(crate) fn attest(&mut self, attestation: &Attestation) -> AttestationAnswer {
        let result = self.check_attestation(attestation);
        let (node, index) = (attestation.node, attestation.index);
        if result.is_ok()
            && let Some(block) = self.chain.blocks.get_mut(&index)
        {
            block.signatures.insert(node, attestation.signature);
            self.chain.touched.insert(index);
        }
        AttestationAnswer { node, index, result }
    }

    /// Whether applying this attestation now would keep its signature.
    ///
    /// # Errors
    /// The refusal that applying it would answer. [`Refusal::HeaderDiffers`] rests on the digest alone: without the other
    /// header its signature can't be verified, so it is a reason to look, not a proof.
    pub fn check_attestation(&self, attestation: &Attestation) -> Result<(), Refusal> {
        let Attestation {
            node,
            index,
            header: signed,
            signature,
        } = *attestation;
        let block = self
            .chain
            .blocks
            .get(&index)
            .ok_or(Refusal::UnknownBlock { index })?;
        let voters = match planted!("todays-voters") {
            true => self.membership.voters(),
            false => &block.voters,
        };
        let learner = self
            .membership
            .keys()
            .get(&node)
            .filter(|_| planted!("learner-counted"));
        let key = voters
            .key(node)
            .or(learner.copied())
            .ok_or(Refusal::NotAVoter { node, index })?;
        if self.membership.is_revoked(&key) && !planted!("revoked-key-accepted") {
            return Err(Refusal::KeyRevoked { node });
        }
        if signed != block.digest {
            return Err(Refusal::HeaderDiffers {
                node,
                index,
                signed,
                header: block.digest,
            });
        }
        if block.signatures.contains_key(&node) {
            return Err(Refusal::AlreadyAttested { node, index });
        }
        if key.verify(block.header.signing_input(&key).as_bytes(), &signature) {
            Ok(())
        } else {
            Err(Refusal::BadSignature {})
        }
    }
}
