//! The archive: sealed, aged epochs lie in files instead of memory.
//!
//! Which epochs do is this node's own matter ([`ledger::frozen`]); what it answers, seals and signs is the same. Epochs
//! leave one by one ([`archivist`]): the book is lent, encoded beside the ledger into two Parquet tables ([`files`]), and
//! let go of once those are durable. They come back whole when an entry needs them, before it is applied ([`Archive::thaw`]),
//! and as a copy when someone reads ([`Archive::show`]).
//!
//! What always holds: a snapshot or the ledger refers to a file only once it is durable, and what is read from one fits
//! its SHA-256. A damaged file is fetched again from another node; until one gave it, readers of its epoch are refused, and
//! an entry that needs it stops the node, which says its name.
//!
//! A thawed epoch comes back to the balancing actors as after a restart: about it they believe this node's own archive.

mod archivist;
mod files;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ledger::frozen::{ArchiveFile, FrozenEpoch};
use ledger::{ClusterId, Digest, Epoch, Ledger};
use parking_lot::{Mutex, RwLock};
use raft::{Attachment, Attachments, BoxFuture, Unreadable};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::actors::{Backlog, Fed};
use crate::config::Archiving;

/// Statements of epochs that are in memory for readers; more only if one epoch alone has more.
const SHOWN: usize = 300_000;

/// The archive of one node.
pub(crate) struct Archive {
    ledger: Arc<RwLock<Ledger>>,
    attachments: Attachments,
    limits: Archiving,
    cluster: ClusterId,
    /// The actors end with the state machine, which holds the sender.
    actors: mpsc::WeakUnboundedSender<Fed>,
    backlog: Arc<Backlog>,
    /// Readers load one epoch at a time, so that those who want the same wait for one load.
    loading: tokio::sync::Mutex<()>,
    /// An entry is about to be applied: what it needs is in memory and must stay.
    applying: AtomicBool,
    /// Something may have become fit to leave.
    due: Notify,
    /// The newest epoch that was ever in memory when entries had been applied: a newer one makes others old.
    newest: Mutex<Option<Epoch>>,
    /// Epochs came back for the entries at hand, which may leave them as they were.
    thawed: AtomicBool,
    /// The archivist moves out what can go, so that there will be room.
    at_work: AtomicBool,
    /// There is no room for more entries before something has gone. Only while the archivist is at work; whoever changes
    /// either holds the ledger, or has ended the archivist.
    full: watch::Sender<bool>,
    /// An epoch that lies in files now, and leaves memory as soon as no entry is about to be applied.
    leaving: Mutex<Option<Leaving>>,
    loads: AtomicU64,
    thaws: AtomicU64,
    waits: AtomicU64,
}

/// A book on its way out of memory.
struct Leaving {
    book: Arc<FrozenEpoch>,
    files: Vec<ArchiveFile>,
    /// Hears whether it went.
    told: oneshot::Sender<bool>,
}

/// What an archive has, for those who watch the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// Epochs that lie in files.
    pub epochs: u64,
    /// The files' bytes.
    pub bytes: u64,
    /// Epochs that were read from files, by readers or to be thawed, since the start.
    pub loads: u64,
    /// Epochs that came back into memory for good, since the start.
    pub thaws: u64,
    /// Batches of entries that waited until epochs had left memory, since the start.
    pub waits: u64,
    /// Files that are damaged or gone, and that no other node has given yet.
    pub damaged: u64,
    /// Files that were fetched again from another node, since the start.
    pub mended: u64,
}

impl Archive {
    /// An archive of this ledger's epochs.
    pub(crate) fn new(
        ledger: Arc<RwLock<Ledger>>,
        attachments: Attachments,
        limits: Archiving,
        cluster: ClusterId,
        actors: mpsc::WeakUnboundedSender<Fed>,
        backlog: Arc<Backlog>,
    ) -> Archive {
        Archive {
            ledger,
            attachments,
            limits,
            cluster,
            actors,
            backlog,
            loading: tokio::sync::Mutex::default(),
            applying: AtomicBool::new(false),
            due: Notify::new(),
            newest: Mutex::default(),
            thawed: AtomicBool::new(false),
            at_work: AtomicBool::new(false),
            full: watch::Sender::new(false),
            leaving: Mutex::default(),
            loads: AtomicU64::new(0),
            thaws: AtomicU64::new(0),
            waits: AtomicU64::new(0),
        }
    }

    /// Where its files lie.
    pub(crate) fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    /// How it stands.
    pub(crate) fn status(&self) -> ArchiveStatus {
        let (damaged, mended) = self.attachments.health();
        let ledger = self.ledger.read();
        let mut status = ArchiveStatus {
            damaged,
            mended,
            loads: self.loads.load(Ordering::Relaxed),
            thaws: self.thaws.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            ..ArchiveStatus::default()
        };
        for (_, files) in ledger.frozen() {
            status.epochs += 1;
            status.bytes += files.iter().map(|file| file.bytes).sum::<u64>();
        }
        status
    }

    /// Keeps everything where it is until [`Archive::applied`]. To be called while the ledger is held.
    pub(crate) fn hold_still(&self) {
        self.applying.store(true, Ordering::Release);
    }

    /// Entries were applied; `certified` if blocks became certified by them.
    pub(crate) fn applied(&self, ledger: &mut Ledger, certified: bool) {
        self.applying.store(false, Ordering::Release);
        if planted!("archivist-left-waiting") {
            return;
        }
        self.leave(ledger);
        let thawed = self.thawed.swap(false, Ordering::AcqRel);
        let aged = {
            let (mut known, newest) = (self.newest.lock(), ledger.newest_epoch());
            let aged = *known < newest;
            *known = newest.max(*known);
            aged
        };
        if certified || aged || thawed {
            self.due.notify_one();
            self.measure(ledger);
        }
    }

    /// Waits until there is room for more entries, if there is not.
    pub(crate) fn room(&self) -> Option<BoxFuture<'static, ()>> {
        if !*self.full.borrow() {
            return None;
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        let mut full = self.full.subscribe();
        Some(Box::pin(async move {
            // The sender lasts as long as the machine that waits here.
            let _ = full.wait_for(|full| !full).await;
        }))
    }

    /// Sees whether there is room.
    fn measure(&self, ledger: &Ledger) {
        let full = self.at_work.load(Ordering::Acquire) && self.limits.is_full(ledger.held());
        self.full
            .send_if_modified(|was| std::mem::replace(was, full) != full);
    }

    /// Lets go of the book that waits for this, unless it has changed. No entry must be about to be applied.
    fn leave(&self, ledger: &mut Ledger) {
        let Some(Leaving { book, files, told }) = self.leaving.lock().take() else {
            return;
        };
        let frozen = ledger.freeze(&book, files);
        if frozen {
            self.feed(Fed::Frozen {
                index: ledger.applied().unwrap_or(0),
                epoch: book.epoch(),
            });
        }
        // The archivist may have ended; then so has the node. Otherwise it drops the book, which takes a while.
        drop(book);
        let _ = told.send(frozen);
    }

    /// Whether there is room to bring epochs back into memory for late values. Those that came back stay until they are
    /// corrected, and nothing else can make room.
    pub(crate) fn has_room_for_late(&self, ledger: &Ledger) -> bool {
        !self.limits.is_full_of_late(ledger.held())
    }

    fn is_applying(&self) -> bool {
        self.applying.load(Ordering::Acquire)
    }

    /// The ledger is another one.
    pub(crate) fn restored(&self) {
        self.due.notify_one();
    }

    fn feed(&self, fed: Fed) {
        if let Some(actors) = self.actors.upgrade() {
            self.backlog.add(fed.bytes());
            // The actors end only with the node.
            let _ = actors.send(fed);
        }
    }

    /// Brings epochs back into memory, for an entry that needs them.
    ///
    /// # Errors
    /// What the disk says, or that a file is damaged and no other node gave it; the replica stops for it.
    pub(crate) async fn thaw(&self, epochs: BTreeSet<Epoch>) -> io::Result<()> {
        for epoch in epochs {
            let shown = self.ledger.read().shown(epoch);
            let frozen = match shown {
                Some(shown) => shown,
                None => match self.load(epoch).await.map_err(stops)? {
                    Some((frozen, _)) => Arc::new(frozen),
                    None => continue,
                },
            };
            let thawed = self.ledger.write().thaw(&frozen);
            drop(frozen);
            if thawed {
                self.thaws.fetch_add(1, Ordering::Relaxed);
                self.thawed.store(true, Ordering::Release);
                tracing::debug!(%epoch, "thawed");
                let ledger = self.ledger.read();
                self.feed(Fed::Thawed {
                    index: ledger.applied().unwrap_or(0),
                    export: ledger.export_epoch(epoch),
                });
            }
        }
        Ok(())
    }

    /// Makes an epoch readable.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub(crate) async fn show(&self, epoch: Epoch) -> Result<(), Unreadable> {
        let _alone = self.loading.lock().await;
        if let Some((frozen, files)) = self.load(epoch).await? {
            let gone = self.ledger.write().show(Arc::new(frozen), &files, SHOWN);
            raft::aside(|| drop(gone));
        }
        Ok(())
    }

    /// Reads an epoch from its files; `None` if it is in memory.
    async fn load(&self, epoch: Epoch) -> Result<Option<(FrozenEpoch, Vec<ArchiveFile>)>, Unreadable> {
        let (files, bounds, held) = {
            let ledger = self.ledger.read();
            let Some(files) = ledger.absent(epoch) else {
                return Ok(None);
            };
            // The ledger refers to them at this moment; from here on the hold keeps them.
            let held = self.attachments.hold(files.iter().map(|file| file.name.clone()));
            (files.to_vec(), ledger.bounds(), held)
        };
        let mut contents = Vec::with_capacity(files.len());
        for file in &files {
            contents.push(self.attachments.read(&attachment(file)).await?);
        }
        drop(held);
        self.loads.fetch_add(1, Ordering::Relaxed);
        let decoded = raft::aside(|| files::decode(epoch, bounds, &contents));
        match decoded {
            Ok(frozen) => Ok(Some((frozen, files))),
            // Its checksum fits, so it was written so: no other copy would be better.
            Err(error) => {
                let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
                Err(Unreadable::Disk(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("archive/{}: {error}", names.join(", archive/")),
                )))
            }
        }
    }
}

/// What can't be read, for whom nothing else is left than to stop.
fn stops(why: Unreadable) -> io::Error {
    match why {
        Unreadable::Disk(error) => error,
        damaged @ Unreadable::Damaged { .. } => {
            io::Error::new(io::ErrorKind::InvalidData, damaged.to_string())
        }
    }
}

/// How raft names a file of the archive.
pub(crate) fn attachment(file: &ArchiveFile) -> Attachment {
    Attachment {
        name: file.name.clone(),
        bytes: file.bytes,
        digest: file.digest.0,
    }
}

/// How the ledger names it.
fn file(attachment: &Attachment) -> ArchiveFile {
    ArchiveFile {
        name: attachment.name.clone(),
        bytes: attachment.bytes,
        digest: Digest(attachment.digest),
    }
}

/// The frozen epoch in the bytes of its files, for whoever looks at a node's disk from outside.
///
/// # Errors
/// They are no such files.
pub fn decode(
    epoch: Epoch,
    bounds: ledger::snapshot::Bounds,
    contents: &[bytes::Bytes],
) -> io::Result<FrozenEpoch> {
    files::decode(epoch, bounds, contents)
}

#[cfg(test)]
mod tests;
