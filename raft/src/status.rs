//! What a replica knows of itself and its group at one moment.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::PeerAddr;

/// The part that a node plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Receives the log, has no vote.
    #[default]
    Learner,
    /// Has a vote and follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Orders the log. It may have been deposed without knowing yet: only
    /// [`crate::Replica::read_barrier`] tells.
    Leader,
    /// Shut down or faulted.
    Stopped,
}

/// What a replica knows at one moment. Indexes are `None` before the first entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// This node.
    pub id: u64,
    /// The leader it follows or is.
    pub leader: Option<u64>,
    /// The newest term it has seen.
    pub term: u64,
    /// Its part.
    pub role: Role,
    /// Last entry in its log, synced or not.
    pub last_log: Option<u64>,
    /// Last entry it knows to be committed.
    pub committed: Option<u64>,
    /// Last entry its machine has applied.
    pub applied: Option<u64>,
    /// Last entry its newest durable snapshot covers.
    pub snapshot: Option<u64>,
    /// Last entry no longer in its log.
    pub purged: Option<u64>,
    /// Index of the membership in force here (it counts from when it is appended, not committed).
    pub membership_at: Option<u64>,
    /// The voters: one set, or two in a joint configuration. Empty before initialization.
    pub voters: Vec<BTreeSet<u64>>,
    /// Members without a vote.
    pub learners: BTreeSet<u64>,
    /// Addresses of all members.
    pub addrs: BTreeMap<u64, PeerAddr>,
    /// On the leader: the last entry known to be synced on each member. Empty elsewhere.
    pub matched: BTreeMap<u64, Option<u64>>,
}
