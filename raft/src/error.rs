//! One small error a call. Refusals are values; a [`Fault`] stops the replica.

use std::fmt;
use std::io;

/// Why a replica stopped for good. It stays stopped: what is on disk decides when the process starts anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} fault: {message}")]
pub struct Fault {
    /// Which part failed.
    pub kind: FaultKind,
    /// What happened, with the file and offset where there is one.
    pub message: String,
}

/// The part that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A write, sync or read failed, the disk is full, or what it holds is damaged or foreign.
    Disk,
    /// The state machine could not be restored from a snapshot.
    Machine,
    /// openraft stopped by itself: a broken invariant or a panic.
    Core,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Disk => "disk",
            FaultKind::Machine => "machine",
            FaultKind::Core => "core",
        })
    }
}

/// Why a replica did not start. Nothing was changed on disk, except that an empty one may have been set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting makes no sense.
    #[error("configuration: {0}")]
    Config(String),
    /// Another process holds the directory.
    #[error("the directory is locked by another process: {0}")]
    Locked(io::Error),
    /// The address can't be listened on.
    #[error("can't listen on {addr}: {source}")]
    Listen {
        /// The address asked for.
        addr: String,
        /// What the network said.
        source: io::Error,
    },
    /// The disk failed, is damaged, or belongs to another node or cluster.
    #[error("{0}")]
    Fault(Fault),
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> Self {
        StartError::Fault(fault)
    }
}

/// Why [`crate::Replica::propose`] gave no indexes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not proposed here: this node does not lead. Ask `leader`.
    #[error("not the leader (the leader is {leader:?})")]
    NotLeader {
        /// The leader, where one is known.
        leader: Option<u64>,
    },
    /// Certainly not proposed: a payload is larger than [`crate::LogPolicy::max_payload_bytes`].
    #[error("a payload of {bytes} bytes is larger than the {limit} allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Some or all of it may commit, now or later: leadership was lost or the deadline passed.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The replica has stopped; what was under way is unknown.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why a barrier could not be established. Nothing was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead; forward the question to `leader`.
    #[error("not the leader (the leader is {leader:?})")]
    NotLeader {
        /// The leader, where one is known.
        leader: Option<u64>,
    },
    /// No majority confirmed the leadership in time.
    #[error("no majority confirmed the leadership in time")]
    NoQuorum,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why [`crate::Replica::wait_applied`] returned early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("the entry was not applied in time")]
    Deadline,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why the membership or leadership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This node does not lead.
    #[error("not the leader (the leader is {leader:?})")]
    NotLeader {
        /// The leader, where one is known.
        leader: Option<u64>,
    },
    /// The change is not possible as asked: another is under way, an id is unknown, no voter would be left.
    #[error("refused: {0}")]
    Refused(String),
    /// It may or may not have taken effect; look at the status.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why [`crate::Replica::call`] has no answer. In all cases but `UnknownPeer` and `TooLarge` the peer may
/// have served the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No address is known for this id.
    #[error("node {0} is not a member")]
    UnknownPeer(u64),
    /// The request does not fit a frame.
    #[error("a request of {0} bytes is too large")]
    TooLarge(usize),
    /// No connection, or it broke before the answer; the peer may have the request.
    #[error("node {peer} can't be reached: {message}")]
    Unreachable {
        /// The peer.
        peer: u64,
        /// What happened.
        message: String,
    },
    /// The deadline passed. The peer may have the request.
    #[error("node {0} did not answer in time")]
    Deadline(u64),
    /// The replica has stopped, perhaps while the peer has the request.
    #[error("the replica has stopped")]
    Stopped,
}
