//! Voters: which nodes' signatures certify a block, and how many it takes.
//!
//! Raft says who votes ([`crate::Ledger::apply_membership`]); the ledger knows their keys. While the membership
//! changes there are two configurations, and each must have its own quorum.

use crate::canonical::{Canonical, canonical_struct};
use crate::digest::{Digest, digest};
use crate::key::PublicKey;
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node's number in the cluster.
pub type NodeId = u64;

/// A node that votes, with the key it signs with, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Voter {
    /// Which node.
    pub node: NodeId,
    /// Its key; one without counts among the voters but can't sign.
    pub key: Option<PublicKey>,
}

canonical_struct!(Voter { node, key });

/// The configurations in force: one, or two while the membership changes; each sorted by node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Voters(pub Vec<Vec<Voter>>);

impl Voters {
    /// The digest of `list of configurations, each a list of (node, key?)`: the header's `voters`.
    pub fn digest(&self) -> Digest {
        digest("voters", &self.0.to_bytes())
    }

    /// The key with which `node` votes, if it votes and has one.
    pub fn key(&self, node: NodeId) -> Option<PublicKey> {
        self.0
            .iter()
            .flatten()
            .find(|voter| voter.node == node)
            .and_then(|voter| voter.key)
    }

    /// Whether `node` votes in any configuration.
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.iter().flatten().any(|voter| voter.node == node)
    }

    /// Whether these signers are a quorum of every configuration. Never true of no configuration or an empty one.
    pub fn certified_by(&self, signers: &BTreeSet<NodeId>) -> bool {
        !self.0.is_empty()
            && self.0.iter().all(|config| {
                let signed = config
                    .iter()
                    .filter(|voter| signers.contains(&voter.node))
                    .count();
                let signed = if planted!("learner-counted") {
                    signers.len()
                } else {
                    signed
                };
                // The first one to sign is counted as proposer too.
                let twice = usize::from(planted!("signer-counted-twice"));
                !config.is_empty() && signed + twice >= quorum(config.len())
            })
    }
}

impl Canonical for Voters {
    fn encode(&self, out: &mut crate::canonical::Encoder) {
        self.0.encode(out);
    }

    fn decode(from: &mut crate::canonical::Decoder<'_>) -> Result<Self, crate::canonical::DecodeError> {
        Vec::decode(from).map(Voters)
    }
}

/// How many of `n` voters certify: `⌊(n + b) / 2⌋ + 1` with `b = ⌊(n − 1) / 3⌋`, so that two quorums have an honest
/// voter in common even if `b` sign anything.
pub fn quorum(n: usize) -> usize {
    let faulty = n.saturating_sub(1) / 3;
    (n + faulty) / 2 + 1
}

/// Who should be a member and vote. Raft's membership follows it, under the leader's hand; what counts for
/// certificates is what Raft has reached ([`Voters`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Nodes that joined after the genesis, with the address at which their peers reach them.
    pub joined: BTreeMap<NodeId, String>,
    /// Nodes that should vote.
    pub voters: BTreeSet<NodeId>,
    /// Nodes that were removed for good.
    pub removed: BTreeSet<NodeId>,
}

canonical_struct!(Members {
    joined,
    voters,
    removed
});

/// Who votes now, and which keys nodes have.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    configs: Vec<BTreeSet<NodeId>>,
    keys: BTreeMap<NodeId, PublicKey>,
    revoked: BTreeSet<PublicKey>,
    members: Members,
    /// Derived from the others, and shared by all blocks made under it.
    voters: Arc<Voters>,
}

impl Membership {
    /// The genesis' nodes are known, and vote unless Raft has said who does.
    pub(crate) fn begin(&mut self, nodes: &[(NodeId, PublicKey)]) {
        self.keys = nodes.iter().copied().collect();
        self.members.voters = self.keys.keys().copied().collect();
        if self.configs.is_empty() {
            self.configs = vec![self.keys.keys().copied().collect()];
        }
        self.derive();
    }

    pub(crate) fn set(&mut self, configs: Vec<BTreeSet<NodeId>>) {
        self.configs = configs;
        self.derive();
    }

    /// Names a node's key; a key is one node's, for good, and so is an id.
    pub(crate) fn register(
        &mut self,
        node: NodeId,
        key: PublicKey,
        peer: Option<&String>,
    ) -> Result<(), Refusal> {
        if self.members.removed.contains(&node) {
            return Err(Refusal::NodeRemoved { node });
        }
        let anothers = self
            .keys
            .iter()
            .any(|(other, theirs)| *other != node && *theirs == key);
        if anothers || self.revoked.contains(&key) {
            return Err(Refusal::KeyTaken {});
        }
        if let Some(old) = self.keys.insert(node, key)
            && old != key
        {
            self.revoked.insert(old);
        }
        if let Some(peer) = peer {
            self.members.joined.insert(node, peer.clone());
        }
        self.derive();
        Ok(())
    }

    /// Lets a member vote.
    pub(crate) fn promote(&mut self, node: NodeId) -> Result<(), Refusal> {
        if !self.keys.contains_key(&node) {
            return Err(Refusal::UnknownNode { node });
        }
        self.members.voters.insert(node);
        Ok(())
    }

    /// Takes a node's key, vote and membership away.
    pub(crate) fn revoke(&mut self, node: NodeId) -> Result<(), Refusal> {
        if self.members.voters.iter().all(|voter| *voter == node) {
            return Err(Refusal::LastVoter { node });
        }
        let key = self.keys.remove(&node).ok_or(Refusal::UnknownNode { node })?;
        self.members.voters.remove(&node);
        self.members.joined.remove(&node);
        self.members.removed.insert(node);
        self.revoked.insert(key);
        self.derive();
        Ok(())
    }

    fn derive(&mut self) {
        let config = |nodes: &BTreeSet<NodeId>| {
            nodes
                .iter()
                .map(|node| Voter {
                    node: *node,
                    key: self.keys.get(node).copied(),
                })
                .collect()
        };
        self.voters = Arc::new(Voters(self.configs.iter().map(config).collect()));
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    pub(crate) fn voters(&self) -> &Arc<Voters> {
        &self.voters
    }

    pub(crate) fn keys(&self) -> &BTreeMap<NodeId, PublicKey> {
        &self.keys
    }

    pub(crate) fn revoked(&self) -> &BTreeSet<PublicKey> {
        &self.revoked
    }

    pub(crate) fn is_revoked(&self, key: &PublicKey) -> bool {
        self.revoked.contains(key)
    }
}

impl Canonical for Membership {
    fn encode(&self, out: &mut crate::canonical::Encoder) {
        self.configs.encode(out);
        self.keys.encode(out);
        match planted!("snapshot-without-revoked") {
            true => BTreeSet::<PublicKey>::new().encode(out),
            false => self.revoked.encode(out),
        }
        self.members.encode(out);
    }

    fn decode(from: &mut crate::canonical::Decoder<'_>) -> Result<Self, crate::canonical::DecodeError> {
        let mut membership = Membership {
            configs: Canonical::decode(from)?,
            keys: Canonical::decode(from)?,
            revoked: Canonical::decode(from)?,
            members: Canonical::decode(from)?,
            voters: Arc::default(),
        };
        membership.derive();
        Ok(membership)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_of_the_specification() {
        for (n, q) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5)] {
            assert_eq!(quorum(n), q, "{n} voters");
        }
    }

    #[test]
    fn a_quorum_is_the_least_number_whose_overlap_is_honest() {
        for n in 1..=50usize {
            let b = (n - 1) / 3;
            // Two quorums of q overlap in at least 2q − n voters; more than b of them must be there.
            let least = (1..=n).find(|q| 2 * q > n + b).expect("all n always suffice");
            assert_eq!(quorum(n), least, "{n} voters");
        }
    }
}
