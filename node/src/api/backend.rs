//! What the HTTP edge asks of a node: order an action, fix a read point, show the ledger, sign a seal.
//!
//! The edge knows nothing of Raft, of signatures under envelopes or of time; it programs against [`Backend`],
//! which the gateway is in a node and a lone ledger is in the tests. Everything here is safe to call from any
//! task and from a simulator: there is no socket, clock or operating system behind it but what the node was
//! started with.
//!
//! What must hold of every implementation:
//! - a [`Receipt`] is given only after the entry is applied to the ledger that [`Backend::ledger`] shows, so
//!   what it names can be read there at once;
//! - an [`Unanswered`] other than [`Unanswered::Unknown`] means that the action had no effect and never will;
//! - after [`Backend::barrier`] returns, the ledger shows everything acknowledged before it was called.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ledger::{Action, Envelope, Epoch, Ledger, NodeId, Nonce, Outcome, PublicKey, Signature, Timestamp};
use parking_lot::RwLock;
use raft::DiskWork;

use crate::archive::ArchiveStatus;
use crate::order::{Done, NotDone, Order};

/// A node, as its HTTP edge sees it.
pub trait Backend: Send + Sync + 'static {
    /// Orders an unsigned action, which the gateway signs with its own key (development clusters only), and
    /// waits until it is applied here. With `nonce` a retry, on whichever node it arrives, does nothing and
    /// gets the first outcome; without, the gateway makes a fresh one.
    fn submit(&self, action: Action, nonce: Option<Nonce>) -> BoxFuture<'_, Result<Receipt, Unanswered>>;

    /// Orders what a client signed, and waits until it is applied here.
    fn submit_envelope(&self, envelope: Envelope) -> BoxFuture<'_, Result<Receipt, Unanswered>>;

    /// Waits until the ledger here shows all that was acknowledged anywhere before the call.
    fn barrier(&self) -> BoxFuture<'_, Result<(), Unanswered>>;

    /// The ledger. Take short read guards, and never hold one across an await.
    fn ledger(&self) -> &Arc<RwLock<Ledger>>;

    /// Fetches what an epoch's journals are read from, if it is in the archive. It stays for a while, not for ever.
    fn readable(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), Unanswered>>;

    /// What the archive holds.
    fn archive(&self) -> ArchiveStatus;

    /// Where the node stands; cheap, and never waits.
    fn status(&self) -> NodeStatus;

    /// Whether this node's own actors came to the same result for the block of entry `index` and this node
    /// signed its header. Waits for that, but at most about a second; `false` then, and at once if an alarm is
    /// raised.
    fn signed(&self, index: u64) -> BoxFuture<'_, bool>;

    /// Carries out an admin's order, whose signature, addressee and time were checked; the same one only once.
    fn obey(&self, order: Order) -> BoxFuture<'_, Result<Done, NotDone>>;

    /// The key with which this node signs.
    fn node_key(&self) -> PublicKey;

    /// This node's signature. Asked for only once [`Backend::signed`] said yes.
    fn sign(&self, message: &[u8]) -> Signature;

    /// 128 random bits, for ids that the edge makes.
    fn nonce(&self) -> Nonce;
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The index of the log entry that had it.
    pub index: u64,
    /// The place of its envelope in that entry, from 0.
    pub position: u32,
    /// What the ledger answered, refusals included.
    pub outcome: Outcome,
    /// Whether it was answered before, and nothing was done now.
    pub duplicate: bool,
    /// The ledger's time after the entry.
    pub now: Timestamp,
}

/// Why there is no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Certainly without effect: no leader is known, or none could be reached.
    #[error("no leader is known")]
    NoLeader,
    /// Certainly without effect: too much is under way.
    #[error("too many requests are under way")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// It may take effect, now or later; a retry with the same nonce tells.
    #[error("the outcome is unknown: it may still take effect")]
    Unknown,
    /// Certainly without effect: this node's own calculation differs from its ledger's.
    #[error("this node has an alarm: {reason}")]
    Alarmed {
        /// What was found.
        reason: String,
    },
    /// Certainly without effect: the cluster takes no unsigned requests.
    #[error("this cluster takes signed envelopes only")]
    UnsignedRefused,
    /// Certainly without effect: it has more bytes than a log entry may have.
    #[error("the action is too large for a log entry")]
    TooLarge,
    /// Certainly without effect: it is about more archived epochs than may come back into memory for one request.
    #[error(
        "this is about {needed} epochs that lie in the archive; at most {most} may be in one request, so send it in parts"
    )]
    TooManyArchived {
        /// How many it is about.
        needed: usize,
        /// How many may be.
        most: usize,
    },
    /// Certainly without effect: memory is full with epochs that can't leave, and this would bring back more.
    #[error(
        "memory is full, and this is about an epoch in the archive: once what is late has been corrected, or sealing has \
         caught up, there is room"
    )]
    ArchiveBusy {
        /// When to try again.
        retry_after: Duration,
    },
    /// What was asked for lies in a file that is damaged or gone here; the node asks the others for it.
    #[error("{why}")]
    Damaged {
        /// Which file, and what is wrong with it.
        why: String,
    },
    /// Certainly without effect: the node shuts down.
    #[error("the node is shutting down")]
    Stopping,
}

/// Where a node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// This node.
    pub node: NodeId,
    /// The leader it knows, if any.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// The last log index applied here.
    pub applied: u64,
    /// The last log index known to be committed.
    pub committed: u64,
    /// The index that must be applied before the node counts as ready: what was committed when it started, as
    /// far as it could know. `None` while it doesn't know yet.
    pub ready_at: Option<u64>,
    /// The nodes that vote; of both configurations while the membership changes.
    pub voters: Vec<NodeId>,
    /// The configurations that they form: one, or two while the membership changes.
    pub configs: Vec<BTreeSet<NodeId>>,
    /// The nodes that only listen.
    pub learners: Vec<NodeId>,
    /// What this node found to be wrong, in words; empty if all is well.
    pub alarms: Vec<String>,
    /// Requests waiting for their outcome here.
    pub pending: usize,
    /// Log entries that the balancing actors have not worked off yet.
    pub backlog: u64,
    /// What was asked of the disk since the start.
    pub disk: DiskWork,
}
