//! Snapshots on disk: one file each, whole or absent.
//!
//! # What always holds
//!
//! - A file under its final name was written, synced and renamed, and its directory synced, before anyone was
//!   told that it exists; log is purged only after that.
//! - The files that it refers to ([`crate::attachments`]) are durable before it is.
//! - The newest is kept; the one before goes when the newest is durable and, if another node made it, has been
//!   restored from. Leftovers of a crash are removed on
//!   opening.
//! - A snapshot whose checksum is wrong is refused with its path. There is no falling back to an older state:
//!   the log between is gone.
//!
//! # Format, version 2 (integers big-endian)
//!
//! ```text
//! snapshot/00000000000000000042.snap      named by the last index it covers; `empty.snap` if it covers none
//! magic "GRIDSNP\x02" · cluster [32] · node u64 · meta length u32 · body length u64 · body crc u32 · head crc u32
//! meta (postcard: last log id, membership; name, length and SHA-256 of each attachment) · body (the machine's bytes)
//! ```
//!
//! The head's CRC32C covers everything before it and the meta.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};

use crate::attachments::{Attachment, Attachments};
use crate::codec::{self, Reader};
use crate::disk::{Disk, DiskFile};
use crate::threads::Pieces;
use crate::types::SnapshotMeta;

const DIR: &str = "snapshot";
const MAGIC: &[u8; 8] = b"GRIDSNP\x02";
const HEAD_BYTES: usize = 8 + 32 + 8 + 4 + 8 + 4 + 4;
/// Bytes written or synced at once: what is left to sync is what the log's own syncs wait behind.
const PIECE: usize = 1 << 20;
/// More than the attachments of any sane number, some 100 bytes each.
const MAX_META_BYTES: usize = 256 << 20;

/// A whole snapshot in a file.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    pub(crate) path: String,
    /// Length and CRC32C of the machine's bytes.
    pub(crate) body_bytes: u64,
    pub(crate) body_crc: u32,
    /// The files it refers to.
    pub(crate) attachments: Arc<[Attachment]>,
    body_at: u64,
    file: Arc<dyn DiskFile>,
}

impl SnapshotFile {
    /// A piece of the machine's bytes; fewer than `len` only at the end.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let left = self.body_bytes.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(len).min(len);
        self.file.read_at(self.body_at + offset, len).await
    }

    /// All of the machine's bytes, checked.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` if they have rotted.
    pub(crate) async fn load(&self) -> io::Result<Bytes> {
        let len = usize::try_from(self.body_bytes).map_err(io::Error::other)?;
        let body = self.file.read_at(self.body_at, len).await?;
        if body.len() != len || crc32c(&body) != self.body_crc {
            return Err(bad(&self.path, "the snapshot is damaged"));
        }
        Ok(body)
    }
}

/// A snapshot being written under a temporary name.
pub(crate) struct Draft {
    pub(crate) path: String,
    /// Length and checksum that the body is to have, if they are known beforehand.
    announced: Option<(u64, u32)>,
    body_at: u64,
    written: u64,
    unsynced: usize,
    crc: u32,
    meta: SnapshotMeta,
    encoded_meta: Vec<u8>,
    attachments: Arc<[Attachment]>,
    file: Arc<dyn DiskFile>,
    /// Whether it has become a snapshot: whoever began it may have to know when it is out of his hands.
    pub(crate) finished: Arc<AtomicBool>,
}

impl Draft {
    /// Whether a piece belongs to what was announced.
    ///
    /// # Errors
    /// `InvalidData` beyond the length announced.
    pub(crate) fn expects(&self, piece: &Bytes) -> io::Result<()> {
        let end = self.written + piece.len() as u64;
        match self.announced.is_some_and(|(bytes, _)| end > bytes) {
            true => Err(bad(&self.path, "more bytes than announced")),
            false => Ok(()),
        }
    }

    /// Whether all that was announced is there, and nothing else.
    ///
    /// # Errors
    /// `InvalidData`, if it isn't.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self
            .announced
            .is_none_or(|announced| announced == (self.written, self.crc))
        {
            true => Ok(()),
            false => Err(bad(&self.path, "the bytes are not those announced")),
        }
    }

    /// Appends a piece of the machine's bytes.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn write(&mut self, piece: Bytes) -> io::Result<()> {
        let end = self.written + piece.len() as u64;
        self.crc = crc32c_append(self.crc, &piece);
        self.unsynced += piece.len();
        self.file.write_at(self.body_at + self.written, piece).await?;
        self.written = end;
        if self.unsynced >= PIECE {
            self.file.sync().await?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

/// The directory of snapshots.
#[derive(Clone)]
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    pub(crate) attachments: Attachments,
    cluster: [u8; 32],
    node: u64,
    /// Numbers the drafts: a sender that tries again must not write into what it began before.
    drafts: Arc<AtomicU64>,
}

impl Shelf {
    /// Opens the directory, and finds the newest snapshot.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` if the newest is damaged or foreign.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        attachments: Attachments,
        cluster: [u8; 32],
        node: u64,
    ) -> io::Result<(Shelf, Option<(SnapshotMeta, SnapshotFile)>)> {
        let shelf = Shelf {
            disk,
            attachments,
            cluster,
            node,
            drafts: Arc::default(),
        };
        shelf.disk.create_dir(DIR).await?;
        let mut newest: Option<Option<u64>> = None;
        for name in shelf.disk.list(DIR).await? {
            match covered(&name) {
                Some(index) => newest = newest.max(Some(index)),
                None => shelf.disk.remove(&format!("{DIR}/{name}")).await?,
            }
        }
        // A process that ended between a rename and the sync of its directory leaves a name that a power cut can
        // still take back. The log is purged on the word of this snapshot, so the name must last first.
        shelf.disk.sync_dir(DIR).await?;
        let Some(newest) = newest else {
            return Ok((shelf, None));
        };
        let found = shelf.read_head(&path(newest)).await?;
        // A power cut brings back what had gone. The next snapshot's sync makes it final.
        shelf.remove_before(newest).await?;
        Ok((shelf, Some(found)))
    }

    /// Removes the snapshots that the one up to this index stands for.
    async fn remove_before(&self, index: Option<u64>) -> io::Result<()> {
        for name in self.disk.list(DIR).await? {
            if covered(&name).is_some_and(|older| older < index) && !planted!("old-snapshots-kept") {
                self.disk.remove(&format!("{DIR}/{name}")).await?;
            }
        }
        Ok(())
    }

    async fn read_head(&self, path: &str) -> io::Result<(SnapshotMeta, SnapshotFile)> {
        let file = self.disk.open(path, false).await?;
        let head = file.read_at(0, HEAD_BYTES).await?;
        let mut reader = Reader::new(head.clone());
        let malformed = |e: codec::Malformed| bad(path, &e.to_string());
        let magic = reader.take(MAGIC.len(), "magic").map_err(malformed)?;
        if magic[..7] != MAGIC[..7] {
            return Err(bad(path, "not a snapshot"));
        }
        if magic[7] != MAGIC[7] {
            return Err(bad(path, "a snapshot of another format version"));
        }
        let mut fields = || {
            Ok((
                reader.bytes32("cluster")?,
                reader.u64("node")?,
                reader.u32("meta length")? as usize,
                reader.u64("body length")?,
                reader.u32("body crc")?,
                reader.u32("head crc")?,
            ))
        };
        let (cluster, node, meta_bytes, body_bytes, body_crc, head_crc) = fields().map_err(malformed)?;
        let meta = file
            .read_at(HEAD_BYTES as u64, meta_bytes.min(MAX_META_BYTES))
            .await?;
        if crc32c_append(crc32c(&head[..HEAD_BYTES - 4]), &meta) != head_crc {
            return Err(bad(path, "the snapshot's head is damaged"));
        }
        if cluster != self.cluster || node != self.node {
            return Err(bad(
                path,
                &format!("belongs to node {node}, or to another cluster"),
            ));
        }
        let (meta, attachments): (SnapshotMeta, Vec<Attachment>) =
            postcard::from_bytes(&meta).map_err(|e| bad(path, &e.to_string()))?;
        let body_at = (HEAD_BYTES + meta_bytes) as u64;
        Ok((
            meta,
            SnapshotFile {
                path: path.to_owned(),
                body_bytes,
                body_crc,
                attachments: attachments.into(),
                body_at,
                file,
            },
        ))
    }

    /// Begins a snapshot. Where its length and checksum are known they are `announced`, and hold it to them.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn begin(
        &self,
        meta: SnapshotMeta,
        attachments: Arc<[Attachment]>,
        announced: Option<(u64, u32)>,
    ) -> io::Result<Draft> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let path = format!("{DIR}/{number}.draft");
        let encoded_meta = codec::encode_postcard(&(&meta, &*attachments)).to_vec();
        let file = self.disk.open(&path, true).await?;
        file.truncate(0).await?;
        Ok(Draft {
            path,
            announced,
            body_at: (HEAD_BYTES + encoded_meta.len()) as u64,
            written: 0,
            unsynced: 0,
            crc: 0,
            meta,
            encoded_meta,
            attachments,
            file,
            finished: Arc::default(),
        })
    }

    /// What stands before the body.
    fn head(&self, draft: &Draft) -> io::Result<Bytes> {
        let meta = &draft.encoded_meta;
        let mut head = BytesMut::with_capacity(HEAD_BYTES + meta.len());
        head.put_slice(MAGIC);
        head.put_slice(&self.cluster);
        head.put_u64(self.node);
        head.put_u32(u32::try_from(meta.len()).map_err(io::Error::other)?);
        head.put_u64(draft.written);
        head.put_u32(draft.crc);
        head.put_u32(crc32c_append(crc32c(&head), meta));
        head.put_slice(meta);
        Ok(head.freeze())
    }

    /// Removes a draft that will not be finished. It is only space: what stays behind goes at the next opening.
    pub(crate) async fn discard(&self, path: &str) {
        if let Err(error) = self.disk.remove(path).await {
            tracing::warn!(path, %error, "can't remove an unfinished snapshot");
        }
    }

    /// Removes a snapshot that nothing can be restored from, for good.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn take_back(&self, file: &SnapshotFile) -> io::Result<()> {
        self.disk.remove(&file.path).await?;
        self.disk.sync_dir(DIR).await
    }

    /// Removes what a snapshot that holds stands for.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn replace(&self, meta: &SnapshotMeta) -> io::Result<()> {
        self.remove_before(meta.last_log_id.map(|last| last.index()))
            .await
    }

    /// Makes a draft durable under its final name. What it replaces stays, until it is known to hold ([`Shelf::replace`]).
    ///
    /// # Errors
    /// What the disk says; `InvalidData` if the bytes are not those announced.
    pub(crate) async fn finish(&self, draft: Draft) -> io::Result<(SnapshotMeta, SnapshotFile)> {
        let index = draft.meta.last_log_id.map(|last| last.index());
        draft.check()?;
        draft.file.write_at(0, self.head(&draft)?).await?;
        if !planted!("purge-before-snapshot-durable") {
            draft.file.sync().await?;
        }
        let path = path(index);
        self.disk.rename(&draft.path, &path).await?;
        draft.finished.store(true, Ordering::Relaxed);
        self.disk.sync_dir(DIR).await?;
        let body = SnapshotFile {
            path,
            body_bytes: draft.written,
            body_crc: draft.crc,
            attachments: draft.attachments,
            body_at: draft.body_at,
            file: draft.file,
        };
        Ok((draft.meta, body))
    }

    /// Writes a snapshot while it is made.
    ///
    /// # Errors
    /// What the disk says, or that making it failed.
    pub(crate) async fn save(
        &self,
        meta: SnapshotMeta,
        attachments: Vec<Attachment>,
        mut body: Pieces,
    ) -> io::Result<(SnapshotMeta, SnapshotFile)> {
        let mut draft = self.begin(meta, attachments.into(), None).await?;
        while let Some(mut rest) = body.next().await? {
            while !rest.is_empty() {
                draft.write(rest.split_to(rest.len().min(PIECE))).await?;
            }
        }
        let (meta, file) = self.finish(draft).await?;
        self.replace(&meta).await?;
        Ok((meta, file))
    }
}

fn path(index: Option<u64>) -> String {
    match index {
        Some(index) => format!("{DIR}/{index:020}.snap"),
        None => format!("{DIR}/empty.snap"),
    }
}

/// The last index that a snapshot of this name covers, if it is the name of one.
fn covered(name: &str) -> Option<Option<u64>> {
    let stem = name.strip_suffix(".snap")?;
    if stem == "empty" {
        return Some(None);
    }
    (stem.len() == 20).then(|| stem.parse().ok().map(Some)).flatten()
}

fn bad(path: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {what}"))
}
