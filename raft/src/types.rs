//! openraft's type parameters, chosen once, under our names.

use std::fmt;

use bytes::Bytes;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use serde::{Deserialize, Serialize};

/// Where a member listens for its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerAddr(pub String);

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for PeerAddr {
    fn from(addr: &str) -> Self {
        PeerAddr(addr.to_owned())
    }
}

impl From<String> for PeerAddr {
    fn from(addr: String) -> Self {
        PeerAddr(addr)
    }
}

/// A payload as openraft carries it; printed as its size, because logs are no place for contents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppData(pub(crate) Bytes);

impl fmt::Debug for AppData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for AppData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

openraft::declare_raft_types!(
    /// Payloads of bytes, node ids of 64 bits, and tokio with seeded randomness.
    pub(crate) TypeConfig:
        D = AppData,
        R = (),
        NodeId = u64,
        Node = PeerAddr,
        AsyncRuntime = DeterministicRng<TokioRuntime>,
);

pub(crate) type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot<D> = openraft::type_config::alias::SnapshotOf<TypeConfig, D>;
