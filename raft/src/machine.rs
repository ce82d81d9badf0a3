//! The state machine: what committed bytes mean. The only part of a replica that its user writes.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::attachments::{Attachment, Attachments};

/// A committed entry, as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log. Dense, starting at 0; the first entry of a group is a membership.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// That leader. A term may see a second leader with a higher id supersede the first before it committed
    /// anything (openraft orders leaders by term and id), so the pair names a leadership, not the term alone.
    pub leader: u64,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A new leader's first entry. No meaning of its own.
    Blank,
    /// Bytes that someone proposed.
    App(Bytes),
    /// The voters from this index on: one set, or two while a change is under way, when a majority of each
    /// is needed.
    Membership(Vec<BTreeSet<u64>>),
}

/// Hands the bytes of a state, piece by piece, to whoever wants them.
pub type Encode = dyn FnOnce(&mut dyn FnMut(Bytes)) + Send;

/// A state captured at one log index, still to be encoded.
pub struct Capture {
    /// Called away from the machine, while apply goes on; so it must own what it needs (a clone of persistent maps,
    /// or bytes already made).
    /// It gives the state's bytes piece by piece to the function that it is handed, and may have to wait there.
    pub encode: Box<Encode>,
    /// The files that the state refers to, all of them durable.
    pub attachments: Vec<Attachment>,
}

impl Capture {
    /// A capture that refers to no files.
    pub fn new(encode: impl FnOnce() -> Bytes + Send + 'static) -> Capture {
        Capture {
            encode: Box::new(|give| give(encode())),
            attachments: Vec::new(),
        }
    }
}

/// A snapshot that the machine can't take over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RestoreError(pub String);

/// What committed bytes mean.
///
/// The same entries in the same order must give the same state on every node: no clock, no randomness, no
/// I/O, no panic on any bytes. A refusal is a result like any other; `apply` can't fail.
pub trait StateMachine: Send + 'static {
    /// Waits until the machine can take more entries: one that must tidy up first bounds its memory so. `None` if there is
    /// nothing to wait for, as nearly always. What it waits for must not need any entry to be applied.
    fn room(&mut self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Gets ready to apply these entries, which come next, and nothing else before them: what the state keeps in files
    /// is fetched from there, since `apply` can't wait. `None` if there is nothing to wait for, as nearly always.
    ///
    /// An error of the future stops the replica.
    fn prepare(&mut self, batch: &[Committed]) -> Option<BoxFuture<'static, io::Result<()>>> {
        let _ = batch;
        None
    }

    /// Applies committed entries, in log order, each exactly once between two calls of `restore`.
    /// After a restart it begins behind the newest snapshot, or at index 0, and repeats what was applied
    /// before the restart: effects outside the state must bear that.
    fn apply(&mut self, batch: Vec<Committed>);

    /// Captures the state after the last applied entry. Blocks apply for as long as it takes; the returned
    /// closure, which encodes, doesn't.
    fn snapshot(&mut self) -> Capture;

    /// Replaces the state by that of a snapshot, whose last applied entry has this index. The next entry
    /// applied is `index + 1`.
    ///
    /// # Errors
    /// The bytes are not a snapshot of this machine: the replica stops with a machine fault.
    fn restore(&mut self, snapshot: Bytes, index: u64) -> Result<(), RestoreError>;

    /// Where the files lie that its snapshots refer to. Asked once, at the start.
    fn attachments(&self) -> Option<Attachments> {
        None
    }

    /// The names of the files that the state refers to now. Others are removed, once no snapshot refers to them.
    fn attached(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
}
