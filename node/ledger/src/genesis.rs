//! Genesis: the first entry of a log. Its digest is the cluster's id.

use crate::canonical::{Canonical, canonical_struct};
use crate::digest::{ClusterId, digest};
use crate::key::PublicKey;
use crate::units::Timestamp;
use crate::voters::NodeId;
use serde::{Deserialize, Serialize};

/// What a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Random, so that no two clusters have one id.
    pub salt: [u8; 32],
    /// When it was made.
    pub created: Timestamp,
    /// How long an epoch lasts, in milliseconds; not 0.
    pub epoch_ms: u64,
    /// The first nodes and the keys they sign with; they are the voters until Raft says otherwise.
    pub nodes: Vec<(NodeId, PublicKey)>,
    /// Who may change membership, keys and audit rules (and, until roles come, everything).
    pub admins: Vec<PublicKey>,
    /// Whose envelopes stand for unsigned development requests.
    pub gateways: Vec<PublicKey>,
    /// Whether unsigned requests are taken at all; a production setting refuses such a genesis.
    pub development: bool,
}

canonical_struct!(Genesis {
    salt,
    created,
    epoch_ms,
    nodes,
    admins,
    gateways,
    development
});

impl Genesis {
    /// The cluster's id.
    pub fn cluster(&self) -> ClusterId {
        digest("genesis", &self.to_bytes())
    }

    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        let ids: std::collections::BTreeSet<_> = self.nodes.iter().map(|(node, _)| node).collect();
        let keys: std::collections::BTreeSet<_> = self.nodes.iter().map(|(_, key)| key).collect();
        if self.epoch_ms == 0 {
            Some("epoch_ms is 0")
        } else if self.nodes.is_empty() {
            Some("there are no nodes")
        } else if ids.len() != self.nodes.len() {
            Some("a node is named twice")
        } else if keys.len() != self.nodes.len() {
            Some("two nodes share a key")
        } else {
            None
        }
    }
}
