//! Reading the log back: what was reported durable, or a refusal that says where.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::DIR;
use super::frame;
use super::record::{Checkpoint, Record};
use super::segment::{self, Identity, Place, Segment};
use crate::disk::Disk;
use crate::types::LogId;

/// A segment with what must be purged before it can go.
pub(crate) struct Kept {
    pub(crate) segment: Arc<Segment>,
    /// The highest index of an entry in it.
    pub(crate) last_index: Option<u64>,
}

/// What the log held.
#[derive(Default)]
pub(crate) struct Recovered {
    /// `None` if the disk was empty.
    pub(crate) identity: Option<Identity>,
    pub(crate) state: Checkpoint,
    /// The entries behind `state.purged`, without a gap.
    pub(crate) entries: VecDeque<(LogId, Place)>,
    pub(crate) segments: VecDeque<Kept>,
    pub(crate) next_segment: u64,
    pub(crate) next_seq: u64,
}

/// Reads all segments, cuts off a torn tail, and removes what a crash left half prepared.
///
/// # Errors
/// `InvalidData`, naming file and offset, if anything is damaged, missing, or belongs to someone else.
pub(crate) async fn recover(disk: &Arc<dyn Disk>, cluster: &[u8; 32], node: u64) -> io::Result<Recovered> {
    disk.create_dir(DIR).await?;
    let mut ids = Vec::new();
    for name in disk.list(DIR).await? {
        match segment::id_of(&name) {
            Some(id) => ids.push(id),
            None => disk.remove(&format!("{DIR}/{name}")).await?,
        }
    }
    ids.sort_unstable();
    // What is found here is built upon: names that a process left unsynced must last as well.
    disk.sync_dir(DIR).await?;

    let mut log = Recovered {
        next_segment: 1,
        next_seq: 1,
        ..Recovered::default()
    };
    for (nth, id) in ids.iter().enumerate() {
        let last = nth + 1 == ids.len();
        read_segment(disk, &mut log, *id, last, cluster, node).await?;
    }
    log.check_entries()?;
    if planted!("newest-entry-dropped") {
        log.entries.pop_back();
    }
    if planted!("truncation-below-commit") {
        // What lies behind the commit mark may not be committed.
        let committed = log.state.committed.map_or(0, |committed| committed.index());
        log.entries.retain(|(log_id, _)| log_id.index() <= committed);
    }
    Ok(log)
}

async fn read_segment(
    disk: &Arc<dyn Disk>,
    log: &mut Recovered,
    id: u64,
    last: bool,
    cluster: &[u8; 32],
    node: u64,
) -> io::Result<()> {
    let path = segment::path(id);
    let file = disk.open(&path, false).await?;
    let size = usize::try_from(file.size().await?).map_err(io::Error::other)?;
    let bytes = file.read_at(0, size).await?;
    let (identity, first_seq) = segment::decode_head(
        bytes.slice(..bytes.len().min(segment::HEAD_BYTES)),
        id,
        cluster,
        node,
    )?;

    match log.identity {
        None => {
            log.identity = Some(identity);
            log.next_segment = id;
            log.next_seq = first_seq;
        }
        Some(known) if known.disk != identity.disk => {
            return Err(damage(&path, 0, "belongs to another disk of this node"));
        }
        Some(_) => {}
    }
    if id != log.next_segment {
        let missing = segment::path(log.next_segment);
        return Err(damage(&path, 0, format_args!("{missing} is missing before it")));
    }
    if first_seq != log.next_seq {
        let seq = log.next_seq;
        return Err(damage(
            &path,
            0,
            format_args!("begins with seq {first_seq}, but {seq} comes next"),
        ));
    }

    let salt = identity.salt(id);
    let segment = Arc::new(Segment { id, salt, file });
    log.segments.push_back(Kept {
        segment: Arc::clone(&segment),
        last_index: None,
    });
    log.next_segment = id + 1;

    let mut offset = segment::HEAD_BYTES;
    while let Some((head, body)) = whole_frame(salt, &bytes, offset, log.next_seq) {
        let record = Record::decode(body).map_err(|e| damage(&path, offset, e))?;
        let place = Place {
            segment: Arc::clone(&segment),
            offset: offset as u64,
            len: u32::try_from(head.frame_bytes()).map_err(io::Error::other)?,
        };
        log.replay(record, place).map_err(|e| damage(&path, offset, e))?;
        log.next_seq += 1;
        offset += usize::try_from(head.frame_bytes()).map_err(io::Error::other)?;
    }

    if offset == segment::HEAD_BYTES {
        return Err(damage(&path, offset, "no checkpoint behind the head"));
    }
    if let Some(torn) =
        check_tail(salt, &bytes, offset, log.next_seq).map_err(|e| damage(&path, offset, e))?
    {
        if !last {
            return Err(damage(
                &path,
                offset,
                format_args!("{torn}, and newer segments follow"),
            ));
        }
        tracing::warn!(%path, offset, "the last batch was not synced when the node stopped; it is cut off");
    }
    if last {
        // What was read may stand in the page cache only: after a failed sync the kernel takes dirty pages for
        // clean and never writes them again. Written once more, the bytes are dirty, and this sync is true.
        // Each sector gets what it has, so a crash in between loses nothing that was durable.
        segment.file.write_at(0, bytes.slice(..offset)).await?;
        // Whatever follows must never be taken for frames again, and a newer segment must find this one whole.
        segment.file.truncate(offset as u64).await?;
        segment.file.sync().await?;
    }
    Ok(())
}

/// The frame at an offset, if it is whole and the one that comes next.
fn whole_frame(salt: u32, bytes: &Bytes, offset: usize, seq: u64) -> Option<(frame::Head, Bytes)> {
    let rest = bytes.slice(offset..);
    let head = frame::head(salt, &rest)?;
    if head.seq != seq || head.batch > offset as u64 {
        return None;
    }
    Some((head, frame::body(&head, &rest)?))
}

/// Judges what follows the last whole frame: nothing (`None`), a torn batch (what it looks like), or damage
/// (an error).
fn check_tail(salt: u32, bytes: &Bytes, offset: usize, seq: u64) -> Result<Option<&'static str>, String> {
    let tail = &bytes[offset..];
    let Some(last) = tail.iter().rposition(|byte| *byte != 0) else {
        return Ok(None);
    };

    if planted!("damage-taken-as-tail") {
        return Ok(Some("a torn batch"));
    }
    // Rule 1: a frame further on that was written when this place had been synced.
    for at in 1..=last {
        if tail[at..].len() < frame::HEAD_BYTES {
            break;
        }
        if let Some(head) = frame::head(salt, &tail[at..])
            && head.seq >= seq
            && head.batch > offset as u64
        {
            let at = offset + at;
            return Err(format!(
                "damaged: it was synced before the frame at {at} was written"
            ));
        }
    }

    // Rule 2: it looks like nothing that a lost write leaves behind.
    let known = match frame::head(salt, tail) {
        Some(head) => usize::try_from(head.frame_bytes()).map_err(|e| e.to_string())?,
        None => frame::HEAD_BYTES,
    };
    let explained = tail.len() < known || frame::is_lost(offset as u64, &tail[..known]);
    if explained {
        Ok(Some("a torn batch"))
    } else {
        Err("damaged: no lost write explains it".into())
    }
}

impl Recovered {
    fn replay(&mut self, record: Record, place: Place) -> Result<(), String> {
        match record {
            Record::Checkpoint(state) => {
                // Says what was said before (its commit mark may be newer), except in the oldest segment,
                // where it stands for all that went before.
                let oldest = self.segments.len() == 1;
                if !oldest && (self.state.vote, self.state.purged) != (state.vote, state.purged) {
                    return Err("the checkpoint contradicts the segments before it".into());
                }
                self.state = state;
            }
            Record::Vote(vote) => self.state.vote = Some(vote),
            Record::Committed(log_id) => self.state.committed = Some(log_id),
            Record::Entry(entry) => {
                let index = entry.log_id.index();
                if let Some((last, _)) = self.entries.back()
                    && last.index() + 1 != index
                {
                    return Err(format!("entry {index} follows entry {}", last.index()));
                }
                self.entries.push_back((entry.log_id, place));
                if let Some(kept) = self.segments.back_mut() {
                    kept.last_index = kept.last_index.max(Some(index));
                }
            }
            Record::Truncate(last) => {
                let keep = last.map_or(0, |last| last.index() + 1);
                while self
                    .entries
                    .back()
                    .is_some_and(|(log_id, _)| log_id.index() >= keep)
                {
                    self.entries.pop_back();
                }
            }
            Record::Purge(upto) => {
                while self
                    .entries
                    .front()
                    .is_some_and(|(log_id, _)| log_id.index() <= upto.index())
                {
                    self.entries.pop_front();
                }
                self.state.purged = Some(upto);
            }
        }
        Ok(())
    }

    /// No entry is missing between what was purged and the first one here.
    fn check_entries(&mut self) -> io::Result<()> {
        let first = self.state.purged.map_or(0, |purged| purged.index() + 1);
        while self
            .entries
            .front()
            .is_some_and(|(log_id, _)| log_id.index() < first)
        {
            self.entries.pop_front();
        }
        match self.entries.front() {
            Some((found, place)) if found.index() != first => {
                let path = segment::path(place.segment.id);
                let found = found.index();
                Err(damage(
                    &path,
                    0,
                    format_args!("entries {first} to {found} are missing: older segments are gone"),
                ))
            }
            _ => Ok(()),
        }
    }
}

fn damage(path: &str, offset: usize, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path} at {offset}: {what}"))
}
