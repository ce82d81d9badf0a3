//! Certificates: what convinces a stranger that a seal is final, offline.
//!
//! A [`Proof`] carries the seal's content, its path to the root of its block, the block's header, the headers from
//! there to the first one that has a quorum of its own (none, if that is the block itself), the signatures as a JWS, and the
//! voters. [`verify`] needs nothing else but the verifier's own list of node keys.
//!
//! # Recomputing the seal's digest from its JSON
//!
//! The members of `seal` are encoded as in [`crate::canonical`], in the order `cluster, asset, epoch, version, watermark, previous, root,
//! upstream_from, upstream_to, residual, position, energy_in, energy_out, co2_in, co2_out, contracts, approvals`:
//! digests and keys as their bytes, ids as strings, numbers as integers, `contracts` as a list of `contract, energy,
//! reason?`, `approvals` as a list of keys. SHA-256 over `gridseal/seal/v1\0` and these bytes is the leaf.
//!
//! # What counts
//!
//! Only signatures with exactly the protected header of [`crate::jws::protected`], by a key that the verifier lists, of a node
//! that votes at the certified header's index with that very key. The voters must hash to the header's `voters`, and the
//! verifier's list must be theirs, no more and no less (in a joint configuration, those of one of the two): who may
//! sign is said by the header itself, so a list that may hold more than the voters would let any one of its nodes make up a header
//! in which it votes alone. Whoever verifies what was sealed under another membership needs the list of then.

use crate::asset::AssetId;
use crate::block::Header;
use crate::digest::Digest;
use crate::jws;
use crate::key::{PublicKey, Signature};
use crate::ledger::Ledger;
use crate::merkle::{self, Path};
use crate::seal::Seal;
use crate::units::Epoch;
use crate::voters::{NodeId, Voter, Voters, quorum};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One signature of a JWS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwsSignature {
    /// The protected header, base64url.
    pub protected: String,
    /// The signature, base64url.
    pub signature: String,
}

/// A JWS in general JSON serialization (RFC 7515 §7.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The bytes of the certified header, base64url.
    pub payload: String,
    /// One a node.
    pub signatures: Vec<JwsSignature>,
}

/// All that offline verification needs but the node keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The content.
    pub seal: Seal,
    /// From its digest to the header's root.
    pub path: Path,
    /// The header of the block it stands in.
    pub header: Header,
    /// The headers after it up to the one that was signed; empty if that is `header`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Header>,
    /// The signatures under the last of these headers.
    pub certificate: Certificate,
    /// The voters at the signed header's index.
    pub voters: Voters,
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The seal's digest.
    pub digest: Digest,
    /// The nodes whose signatures count.
    pub signers: BTreeSet<NodeId>,
    /// How many voters there are and how many must sign, in each configuration.
    pub quorums: Vec<(usize, usize)>,
    /// How many headers lie between the seal's block and the signed one.
    pub distance: usize,
}

/// Which part of a proof fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The path doesn't lead from the seal to the header's root.
    #[error("the path does not lead from the seal's content (digest {digest}) to the block's root {root}")]
    Path {
        /// The digest of the content as given.
        digest: Digest,
        /// The root that was to be reached.
        root: Digest,
    },
    /// Seal and header belong to different clusters.
    #[error("the header at {index} is of another cluster than the seal")]
    Cluster {
        /// Which header.
        index: u64,
    },
    /// A header doesn't continue the one before.
    #[error("the header at {index} does not follow the header before it")]
    Chain {
        /// Which header.
        index: u64,
    },
    /// The JWS covers something else.
    #[error("the certificate's payload is not the header at {index}")]
    Payload {
        /// Which header.
        index: u64,
    },
    /// The voters are not those of the header.
    #[error("the voters do not hash to the `voters` of the header at {index}")]
    Voters {
        /// Which header.
        index: u64,
    },
    /// A voter's key isn't on the verifier's list.
    #[error("node {node} votes with a key that is not on your list")]
    Untrusted {
        /// Which node.
        node: NodeId,
    },
    /// The verifier lists nodes that don't vote.
    #[error(
        "at {index} the nodes {voters:?} vote, each once, and your list has {listed:?} as well: it must be exactly the \
         list that was in force then, or any one of its nodes could vote alone"
    )]
    Listed {
        /// At the index of which header.
        index: u64,
        /// Who votes.
        voters: BTreeSet<NodeId>,
        /// Who is listed and does not vote, or votes with another key.
        listed: BTreeSet<NodeId>,
    },
    /// A signature is not what it claims to be.
    #[error("signature {place} (from 0) is not valid: {fault}")]
    Signature {
        /// Which.
        place: usize,
        /// Why.
        fault: &'static str,
    },
    /// Too few sign.
    #[error("{signed} of {voters} voters signed; {needed} are needed")]
    Quorum {
        /// How many signatures count.
        signed: usize,
        /// Of how many.
        voters: usize,
        /// How many it takes.
        needed: usize,
    },
}

/// Verifies a proof against the verifier's own list of node keys: pure, offline.
///
/// # Errors
/// [`Broken`] says which part fails, the first in the order content, path, chain, payload, voters, signatures, quorum.
pub fn verify(proof: &Proof, trusted: &[(NodeId, PublicKey)]) -> Result<Verdict, Broken> {
    let digest = proof.seal.digest();
    let root = proof.header.root;
    if proof.path.root(&digest, u64::from(proof.header.count)) != Some(root) {
        return Err(Broken::Path { digest, root });
    }
    if proof.header.cluster != proof.seal.cluster {
        return Err(Broken::Cluster {
            index: proof.header.index,
        });
    }
    let mut signed = &proof.header;
    for next in &proof.chain {
        let index = next.index;
        if next.cluster != signed.cluster {
            return Err(Broken::Cluster { index });
        }
        if next.previous != signed.digest() || index <= signed.index {
            return Err(Broken::Chain { index });
        }
        signed = next;
    }
    let index = signed.index;
    let payload = signed.to_json();
    if jws::base64url_decode(&proof.certificate.payload).as_deref() != Some(payload.as_bytes()) {
        return Err(Broken::Payload { index });
    }
    if proof.voters.digest() != signed.voters {
        return Err(Broken::Voters { index });
    }
    check_list(index, &proof.voters, trusted)?;
    let signers = signers(proof, &payload)?;
    let count = |config: &Vec<Voter>| {
        (
            config
                .iter()
                .filter(|voter| signers.contains(&voter.node))
                .count(),
            config.len(),
            quorum(config.len()),
        )
    };
    if proof.voters.0.is_empty() {
        return Err(Broken::Quorum {
            signed: 0,
            voters: 0,
            needed: 1,
        });
    }
    for (signed, voters, needed) in proof.voters.0.iter().map(count) {
        if signed < needed {
            return Err(Broken::Quorum {
                signed,
                voters,
                needed,
            });
        }
    }
    let quorums = proof
        .voters
        .0
        .iter()
        .map(|config| (config.len(), quorum(config.len())))
        .collect();
    Ok(Verdict {
        digest,
        signers,
        quorums,
        distance: proof.chain.len(),
    })
}

/// Whether the verifier's list is that of the voters, or of one of their two configurations.
fn check_list(index: u64, voters: &Voters, trusted: &[(NodeId, PublicKey)]) -> Result<(), Broken> {
    let trusted: BTreeSet<(NodeId, PublicKey)> = trusted.iter().copied().collect();
    // In the order in which they are given: a voter that is named twice must not count twice.
    let keyed = |config: &[Voter]| -> Vec<(NodeId, PublicKey)> {
        config
            .iter()
            .filter_map(|voter| Some((voter.node, voter.key?)))
            .collect()
    };
    let mut configs = voters.0.iter().map(|config| keyed(config));
    if configs.any(|config| config.iter().eq(&trusted)) {
        return Ok(());
    }
    let all: Vec<(NodeId, PublicKey)> = voters.0.iter().flat_map(|config| keyed(config)).collect();
    if let Some((node, _)) = all.iter().find(|voter| !trusted.contains(voter)) {
        return Err(Broken::Untrusted { node: *node });
    }
    Err(Broken::Listed {
        index,
        voters: all.iter().map(|(node, _)| *node).collect(),
        listed: trusted
            .iter()
            .filter(|listed| !all.contains(listed))
            .map(|(node, _)| *node)
            .collect(),
    })
}

/// The voters who really signed.
fn signers(proof: &Proof, payload: &str) -> Result<BTreeSet<NodeId>, Broken> {
    let mut signers = BTreeSet::new();
    for (place, signature) in proof.certificate.signatures.iter().enumerate() {
        let broken = |fault| Broken::Signature { place, fault };
        let voter = proof.voters.0.iter().flatten().find_map(|voter| {
            let key = voter.key?;
            let expected = jws::base64url(jws::protected(&key, jws::TYP_BLOCK).as_bytes());
            (expected == signature.protected).then_some((voter.node, key))
        });
        let (node, key) = voter
            .ok_or_else(|| broken("its protected header names no voter's key, or another alg or typ"))?;
        let bytes = jws::base64url_decode(&signature.signature).and_then(|bytes| bytes.try_into().ok());
        let bytes: [u8; 64] = bytes.ok_or_else(|| broken("it has not 64 bytes"))?;
        let input = jws::signing_input(&key, payload.as_bytes());
        if !key.verify(input.as_bytes(), &Signature(bytes)) {
            return Err(broken("it is not the key's over this header"));
        }
        if !signers.insert(node) {
            return Err(broken("its node signed twice"));
        }
    }
    Ok(signers)
}

impl Ledger {
    /// The proof of a seal (of the newest version if none is given), with all signatures so far; it verifies once the
    /// block is certified. `None` if there is no such seal.
    pub fn proof(&self, asset: &AssetId, epoch: Epoch, version: Option<u32>) -> Option<Proof> {
        let record = self.seal_record(asset, epoch, version)?;
        let block = self.chain.blocks.get(&record.index)?;
        let leaves = self.leaves(record.index, epoch)?;
        let path = merkle::path(leaves, usize::try_from(record.leaf).ok()?)?;
        let own_quorum = |block: &crate::block::Block| {
            block
                .voters
                .certified_by(&block.signatures.keys().copied().collect())
        };
        // Until a later block is certified, the block's own signatures are shown.
        let mut later = self.chain.blocks.range(record.index..);
        let signed = match block.certified {
            true => later
                .by_ref()
                .map(|(_, block)| block)
                .find(|block| own_quorum(block))?,
            false => block,
        };
        let between = record.index + 1..=signed.header.index;
        let chain = if between.is_empty() {
            Vec::new()
        } else {
            self.chain
                .blocks
                .range(between)
                .map(|(_, block)| block.header.clone())
                .collect()
        };
        Some(Proof {
            seal: Seal::clone(&record.seal),
            path,
            header: block.header.clone(),
            chain,
            certificate: certificate(signed),
            voters: Voters::clone(&signed.voters),
        })
    }
}

/// A block's header and signatures as a JWS.
pub fn certificate(block: &crate::block::Block) -> Certificate {
    let signature = |(node, signature): (&NodeId, &Signature)| {
        let key = block.voters.key(*node)?;
        Some(JwsSignature {
            protected: jws::base64url(jws::protected(&key, jws::TYP_BLOCK).as_bytes()),
            signature: jws::base64url(&signature.0),
        })
    };
    Certificate {
        payload: jws::base64url(block.header.to_json().as_bytes()),
        signatures: block.signatures.iter().filter_map(signature).collect(),
    }
}
