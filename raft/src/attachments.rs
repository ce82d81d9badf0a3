//! Attachments: immutable files that snapshots refer to instead of copying.
//!
//! The machine writes what it will never change again into files of their own, and its snapshots only name them. A
//! follower that needs the snapshot gets the files that it lacks first.
//!
//! # What always holds
//!
//! - A file under its final name was written, synced and renamed, and its directory synced, before anyone was told
//!   that it exists: whatever refers to it may become durable at any time.
//! - A file is read whole and against its SHA-256, or not at all. One that is damaged or gone is fetched again from
//!   another member, as long as it takes; until then whoever reads it is told so, with its name.
//! - A file goes only when neither the newest durable snapshot, nor the machine, nor anything under way names it.
//!
//! A name belongs to its content: a machine that writes other bytes gives them another name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::disk::{Disk, DiskFile};
use crate::fault::Faults;

const DIR: &str = "archive";
const DRAFT: &str = ".draft";
const NAME_BYTES: usize = 128;
/// Bytes written or synced at once: what is left to sync is what the log's own syncs wait behind.
const PIECE: usize = 1 << 20;

/// A file that a snapshot refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name, which belongs to this content alone: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

impl Attachment {
    /// Describes `content` under a name.
    pub fn of(name: String, content: &[u8]) -> Attachment {
        Attachment {
            name,
            bytes: content.len() as u64,
            digest: Sha256::digest(content).into(),
        }
    }

    /// Whether it could be the name of a file here, and of no other: peers send names, too.
    fn is_sane(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=NAME_BYTES).contains(&self.name.len())
            && self.name.bytes().all(plain)
            && !self.name.starts_with('.')
            && !self.name.ends_with(DRAFT)
    }

    fn path(&self) -> io::Result<String> {
        match self.is_sane() {
            true => Ok(format!("{DIR}/{}", self.name)),
            false => Err(bad(&self.name, "not a name of an attachment")),
        }
    }
}

/// The directory of attachments. All clones are the same.
#[derive(Clone)]
pub struct Attachments(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    drafts: AtomicU64,
    /// What was found damaged or gone, by name.
    damaged: Mutex<BTreeMap<String, Damage>>,
    /// Told of each change of `damaged`.
    changed: watch::Sender<()>,
    mended: AtomicU64,
    /// Names under way, and how often: nobody refers to them durably yet.
    held: Mutex<BTreeMap<String, usize>>,
    /// Whoever sweeps holds it, and whoever comes to rely on a file that may be there already.
    sweeping: tokio::sync::Mutex<()>,
    faults: OnceLock<Faults>,
}

/// A file that is not what was written.
struct Damage {
    attachment: Attachment,
    /// What is wrong with it, and why nobody gave it once all were asked.
    what: String,
    /// Whether all members were asked for it at least once.
    tried: bool,
}

/// What is wrong with a file that is not there.
pub(crate) const MISSING: &str = "missing";
/// What is wrong with one whose bytes are others.
const DAMAGED: &str = "damaged: its length or its SHA-256 is not that of the file that was written";

/// How long a reader waits for a file that was just found damaged.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why an attachment can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is damaged or gone, and no member has given it yet. The replica goes on asking: come again.
    #[error("{DIR}/{name} is {what}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong with it, and why nobody gave it.
        what: String,
    },
    /// The disk failed; the replica stops for it.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Keeps files from being swept while nothing refers to them yet.
#[must_use]
pub struct Hold {
    attachments: Attachments,
    names: Vec<String>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.attachments.0.held.lock();
        for name in &self.names {
            if let Some(count) = held.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    held.remove(name);
                }
            }
        }
    }
}

impl Attachments {
    /// The attachments on this disk. Nothing is read or written before the replica's start.
    pub fn new(disk: Arc<dyn Disk>) -> Attachments {
        Attachments(Arc::new(Inner {
            disk,
            drafts: AtomicU64::new(0),
            damaged: Mutex::default(),
            changed: watch::Sender::new(()),
            mended: AtomicU64::new(0),
            held: Mutex::default(),
            sweeping: tokio::sync::Mutex::default(),
            faults: OnceLock::new(),
        }))
    }

    /// Makes the directory, removes what a crash left unfinished, and returns the names that are there.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn open(&self, faults: Faults) -> io::Result<BTreeSet<String>> {
        let _ = self.0.faults.set(faults);
        let disk = &self.0.disk;
        disk.create_dir(DIR).await?;
        let mut names = BTreeSet::new();
        for name in disk.list(DIR).await? {
            if name.ends_with(DRAFT) {
                disk.remove(&format!("{DIR}/{name}")).await?;
            } else {
                names.insert(name);
            }
        }
        // A name that a power cut can still take back must last before anyone relies on it.
        disk.sync_dir(DIR).await?;
        Ok(names)
    }

    /// Stops the replica for a disk that failed.
    fn fail(&self, error: io::Error) -> io::Error {
        if let Some(faults) = self.0.faults.get()
            && !planted!("file-sync-error-ignored")
        {
            faults.disk(&error);
        }
        error
    }

    /// Keeps these names from being swept. For names that the machine or the newest snapshot refers to at this moment.
    pub fn hold(&self, names: impl IntoIterator<Item = String>) -> Hold {
        let names: Vec<String> = names.into_iter().collect();
        let mut held = self.0.held.lock();
        for name in &names {
            *held.entry(name.clone()).or_default() += 1;
        }
        drop(held);
        Hold {
            attachments: self.clone(),
            names,
        }
    }

    /// Keeps a name from being swept, from before or after any sweep on.
    async fn hold_between_sweeps(&self, name: &str) -> Hold {
        let _between = self.0.sweeping.lock().await;
        self.hold([name.to_owned()])
    }

    /// Writes a file and makes it durable. It stays as long as the hold; refer to it before you drop that.
    ///
    /// # Errors
    /// What the disk says; the replica stops for it.
    pub async fn write(&self, attachment: &Attachment, content: Bytes) -> io::Result<Hold> {
        let writing = async {
            let mut draft = self.begin(attachment.clone()).await?;
            let mut rest = content;
            while !rest.is_empty() {
                draft.write(rest.split_to(rest.len().min(PIECE))).await?;
            }
            draft.finish().await
        };
        writing.await.map_err(|error| self.fail(error))
    }

    /// All of a file, checked. If it turns out to be damaged or gone, waits until the other members were asked for it.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub async fn read(&self, attachment: &Attachment) -> Result<Bytes, Unreadable> {
        let what = match self.read_here(attachment).await? {
            Ok(content) => return Ok(content),
            Err(what) => what,
        };
        self.report(attachment, what);
        // Nobody mends for a replica that hasn't started or has stopped.
        let asked = tokio::time::timeout(PATIENCE, self.asked_for(attachment)).await;
        if let Ok(Some(what)) = asked {
            return Err(unreadable(attachment, what));
        }
        let content = self.read_here(attachment).await?;
        content.map_err(|what| unreadable(attachment, what.to_owned()))
    }

    /// All of a file, or what is wrong with it.
    async fn read_here(&self, attachment: &Attachment) -> io::Result<Result<Bytes, &'static str>> {
        let reading = async {
            let file = match self.0.disk.open(&attachment.path()?, false).await {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(MISSING)),
                Err(error) => return Err(error),
            };
            let len = usize::try_from(attachment.bytes).map_err(io::Error::other)?;
            // One more, to see that there is no more.
            let content = file.read_at(0, len + 1).await?;
            let whole = content.len() == len
                && (Sha256::digest(&content)[..] == attachment.digest || planted!("archive-unverified"));
            Ok(whole.then_some(content).ok_or(DAMAGED))
        };
        reading.await.map_err(|error| self.fail(error))
    }

    /// Says that a file is not what was written, so that it is fetched again.
    pub(crate) fn report(&self, attachment: &Attachment, what: &str) {
        let mut damaged = self.0.damaged.lock();
        if damaged.contains_key(&attachment.name) {
            return;
        }
        tracing::error!(
            "{DIR}/{} is {what}; the other members are asked for it",
            attachment.name
        );
        let damage = Damage {
            attachment: attachment.clone(),
            what: what.to_owned(),
            tried: false,
        };
        damaged.insert(attachment.name.clone(), damage);
        drop(damaged);
        self.0.changed.send_replace(());
    }

    /// Waits until a damaged file is mended, `None`, or all members were asked in vain: what is wrong.
    async fn asked_for(&self, attachment: &Attachment) -> Option<String> {
        let mut changed = self.0.changed.subscribe();
        loop {
            match self.0.damaged.lock().get(&attachment.name) {
                None => return None,
                Some(damage) if damage.tried => return Some(damage.what.clone()),
                Some(_) => {}
            }
            // The sender lives in `self`.
            let _ = changed.changed().await;
        }
    }

    /// What is to be mended: at once if something was not tried yet, else after a while.
    pub(crate) async fn wait_damaged(&self, again: Duration) -> Vec<Attachment> {
        let mut changed = self.0.changed.subscribe();
        let fresh = async {
            while !self.0.damaged.lock().values().any(|damage| !damage.tried) {
                // The sender lives in `self`.
                let _ = changed.changed().await;
            }
        };
        let idle = self.0.damaged.lock().is_empty();
        if idle {
            fresh.await;
        } else {
            let _ = tokio::time::timeout(again, fresh).await;
        }
        let damaged = self.0.damaged.lock();
        damaged.values().map(|damage| damage.attachment.clone()).collect()
    }

    /// A peer gave a file, which is durable now.
    pub(crate) fn mended(&self, attachment: &Attachment, peer: u64) {
        tracing::warn!("{DIR}/{} is whole again, as node {peer} has it", attachment.name);
        self.0.mended.fetch_add(1, Ordering::Relaxed);
        self.0.damaged.lock().remove(&attachment.name);
    }

    /// All members were asked for a file; if it is damaged still, `refusals` says why.
    pub(crate) fn tried(&self, attachment: &Attachment, refusals: &str) {
        if let Some(damage) = self.0.damaged.lock().get_mut(&attachment.name)
            && !damage.tried
        {
            damage.tried = true;
            damage.what = format!("{}, and no other member gave it ({refusals})", damage.what);
            tracing::error!(
                "{DIR}/{} is {}; they are asked again",
                attachment.name,
                damage.what
            );
        }
        self.0.changed.send_replace(());
    }

    /// How many files are known to be damaged or gone, and how many were fetched again since the start.
    pub fn health(&self) -> (u64, u64) {
        let damaged = self.0.damaged.lock().len() as u64;
        (damaged, self.0.mended.load(Ordering::Relaxed))
    }

    /// Begins a file whose bytes are to come.
    ///
    /// # Errors
    /// What the disk says, or that the name is none.
    pub(crate) async fn begin(&self, attachment: Attachment) -> io::Result<Draft> {
        let path = attachment.path()?;
        let hold = self.hold_between_sweeps(&attachment.name).await;
        let number = self.0.drafts.fetch_add(1, Ordering::Relaxed);
        let draft = format!("{DIR}/{number}{DRAFT}");
        let file = self.0.disk.open(&draft, true).await?;
        file.truncate(0).await?;
        Ok(Draft {
            attachment,
            path,
            draft,
            file,
            written: 0,
            unsynced: 0,
            hash: Sha256::new(),
            hold,
        })
    }

    /// Keeps the file if it is here, in its full length.
    ///
    /// # Errors
    /// What the disk says, or that the name is none.
    pub(crate) async fn keep(&self, attachment: &Attachment) -> io::Result<Option<Hold>> {
        let path = attachment.path()?;
        let hold = self.hold_between_sweeps(&attachment.name).await;
        let file = match self.0.disk.open(&path, false).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((file.size().await? == attachment.bytes).then_some(hold))
    }

    /// Opens a file to be sent piece by piece.
    ///
    /// # Errors
    /// What the disk says. A file that is gone was swept: a newer snapshot is there to be sent.
    pub(crate) async fn send(&self, attachment: &Attachment, asked: By) -> io::Result<Sending> {
        Ok(Sending {
            asked,
            file: self.0.disk.open(&attachment.path()?, false).await?,
            attachment: attachment.clone(),
            sent: 0,
            hash: Sha256::new(),
            attachments: self.clone(),
        })
    }

    /// Removes what is neither held nor among what `keep` returns, which is called once names were listed.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn sweep(&self, keep: impl FnOnce() -> BTreeSet<String>) -> io::Result<()> {
        let _alone = self.0.sweeping.lock().await;
        let names = self.0.disk.list(DIR).await?;
        // In this order: what is let go of after the first look is referred to at the second.
        let held: BTreeSet<String> = self.0.held.lock().keys().cloned().collect();
        let kept = keep();
        self.0
            .damaged
            .lock()
            .retain(|name, _| held.contains(name) || kept.contains(name));
        for name in names {
            if !name.ends_with(DRAFT) && !held.contains(&name) && !kept.contains(&name) {
                self.0.disk.remove(&format!("{DIR}/{name}")).await?;
            }
        }
        Ok(())
    }
}

/// A file being written under a temporary name.
pub(crate) struct Draft {
    attachment: Attachment,
    path: String,
    draft: String,
    file: Arc<dyn DiskFile>,
    written: u64,
    unsynced: usize,
    hash: Sha256,
    hold: Hold,
}

impl Draft {
    /// Appends a piece.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` beyond the length announced.
    pub(crate) async fn write(&mut self, piece: Bytes) -> io::Result<()> {
        let end = self.written + piece.len() as u64;
        if end > self.attachment.bytes {
            return Err(bad(&self.path, "more bytes than announced"));
        }
        self.hash.update(&piece);
        self.unsynced += piece.len();
        self.file.write_at(self.written, piece).await?;
        self.written = end;
        if self.unsynced >= PIECE {
            let synced = self.file.sync().await;
            synced.map_err(|error| self.hold.attachments.fail(error))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Makes it durable under its name.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` if the bytes are not those announced.
    pub(crate) async fn finish(self) -> io::Result<Hold> {
        let digest = self.hash.finalize();
        if self.written != self.attachment.bytes || digest[..] != self.attachment.digest {
            return Err(bad(&self.path, "the bytes are not those announced"));
        }
        let disk = &self.hold.attachments.0.disk;
        let durable = async {
            if !planted!("attachment-not-synced") {
                self.file.sync().await?;
            }
            disk.rename(&self.draft, &self.path).await?;
            disk.sync_dir(DIR).await
        };
        durable.await.map_err(|error| self.hold.attachments.fail(error))?;
        Ok(self.hold)
    }

    /// Removes what will not be finished. It is only space: what stays behind goes at the next opening.
    pub(crate) async fn discard(self) {
        if let Err(error) = self.hold.attachments.0.disk.remove(&self.draft).await {
            tracing::warn!(path = self.draft, %error, "can't remove an unfinished attachment");
        }
    }
}

/// Who says what a file that is sent should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// This node's own snapshot: a file that is not so is damaged.
    Snapshot,
    /// The peer that asks. It may mean another file of that name, or lie; whoever refers to a file finds out by reading it.
    Peer,
}

/// A file on its way to a peer.
pub(crate) struct Sending {
    asked: By,
    attachment: Attachment,
    file: Arc<dyn DiskFile>,
    sent: u64,
    hash: Sha256,
    attachments: Attachments,
}

impl Sending {
    /// The next piece; `None` behind the last.
    ///
    /// # Errors
    /// What the disk says, or that the file is damaged.
    pub(crate) async fn next(&mut self, len: usize) -> io::Result<Option<Bytes>> {
        let left = self.attachment.bytes - self.sent;
        if left == 0 {
            let digest = std::mem::take(&mut self.hash).finalize();
            return match digest[..] == self.attachment.digest {
                true => Ok(None),
                false => Err(self.damaged()),
            };
        }
        let len = usize::try_from(left).unwrap_or(len).min(len);
        let piece = self.file.read_at(self.sent, len).await?;
        if piece.is_empty() {
            return Err(self.damaged());
        }
        self.hash.update(&piece);
        self.sent += piece.len() as u64;
        Ok(Some(piece))
    }

    fn damaged(&self) -> io::Error {
        if self.asked == By::Snapshot {
            self.attachments.report(&self.attachment, DAMAGED);
        }
        bad(&format!("{DIR}/{}", self.attachment.name), DAMAGED)
    }
}

fn unreadable(attachment: &Attachment, what: String) -> Unreadable {
    Unreadable::Damaged {
        name: attachment.name.clone(),
        what,
    }
}

fn bad(path: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {what}"))
}
