//! What a node's disk says of its log, read from outside by code of our own: the format is `raft::wal`'s, version 1.
//!
//! It reads whatever [`Platter`] shows: the durable part of a simulated disk, or the files of a process that is gone.
//! Reading goes on where it stopped, so that a log can be followed while it grows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use crate::oracle::judge::Payload;

const DIR: &str = "log";
const MAGIC: &[u8; 8] = b"GRIDWAL\x01";
const SEGMENT_HEAD: usize = 84;
const FRAME_HEAD: usize = 29;
const HEAD_END: u8 = 0xF7;
const BODY_END: u8 = 0xE7;

/// A disk from outside.
pub trait Platter {
    /// The names in a directory, sorted; none if there is no such directory.
    fn list(&self, dir: &str) -> Vec<String>;
    /// Up to so many bytes of a file; none if there is no such file.
    fn read(&self, path: &str, offset: u64, len: usize) -> Vec<u8>;
}

/// A directory of the real file system.
#[derive(Clone, Debug)]
pub struct Directory(pub std::path::PathBuf);

impl Platter for Directory {
    fn list(&self, dir: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join(dir))
            .into_iter()
            .flatten()
            .flatten();
        let names: BTreeSet<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.into_iter().collect()
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Vec<u8> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut out = Vec::new();
        if let Ok(mut file) = std::fs::File::open(self.0.join(path))
            && file.seek(SeekFrom::Start(offset)).is_ok()
        {
            // What can't be read is as good as absent.
            let _ = file.take(len as u64).read_to_end(&mut out);
        }
        out
    }
}

/// Who leads: a term and a node; the later one wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leader {
    /// The term.
    pub term: u64,
    /// The node.
    pub node: u64,
}

/// The name of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    /// Under whom it was made.
    pub leader: Leader,
    /// Where it stands.
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of T{}/n{}", self.index, self.leader.term, self.leader.node)
    }
}

/// A vote: for whom, and whether that one was elected.
pub type Vote = (Leader, bool);

/// One change of what a node must not forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Where things stood when a segment began.
    Checkpoint {
        /// The vote.
        vote: Option<Vote>,
        /// The last entry that is gone.
        purged: Option<LogId>,
        /// How far the log was known to be committed.
        committed: Option<LogId>,
    },
    /// A vote.
    Vote(Vote),
    /// An entry.
    Entry(LogId, Payload),
    /// The last entry that stays.
    Truncate(Option<LogId>),
    /// How far the log is known to be committed.
    Committed(LogId),
    /// The last entry that goes.
    Purge(LogId),
}

/// A place in a log that is read while it grows.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    open: Option<Open>,
    next_seq: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    id: u64,
    salt: u32,
    offset: u64,
}

/// What is new in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The changes, in order.
    pub records: Vec<Record>,
    /// Where a segment does not continue what was there before it: frames are missing, or are there no more.
    pub breaks: Vec<String>,
}

impl Tail {
    /// Everything that came since the last call.
    pub fn news(&mut self, disk: &dyn Platter) -> News {
        let mut news = News::default();
        let ids: BTreeSet<u64> = disk
            .list(DIR)
            .iter()
            .filter_map(|name| segment_id(name))
            .collect();
        loop {
            if let Some(mut open) = self.open {
                self.read_frames(disk, &mut open, &mut news.records);
                self.open = Some(open);
            }
            let after = self.open.map_or(0, |open| open.id + 1);
            let Some(id) = ids.range(after..).next().copied() else {
                return news;
            };
            let Some((salt, first_seq)) = read_head(disk, id) else {
                return news;
            };
            match self.next_seq.replace(first_seq) {
                Some(expected) if expected < first_seq => {
                    news.breaks.push(format!(
                        "segment {id} takes {} frames for granted that are not there",
                        first_seq - expected
                    ));
                }
                Some(expected) if expected > first_seq => {
                    news.breaks.push(format!(
                        "segment {id} has forgotten {} frames that were there",
                        expected - first_seq
                    ));
                }
                _ => {}
            }
            self.open = Some(Open {
                id,
                salt,
                offset: SEGMENT_HEAD as u64,
            });
        }
    }

    fn read_frames(&mut self, disk: &dyn Platter, open: &mut Open, records: &mut Vec<Record>) {
        let path = path(open.id);
        loop {
            let head = disk.read(&path, open.offset, FRAME_HEAD);
            let Some((len, seq)) = frame_head(&head, open.salt) else {
                return;
            };
            if self.next_seq != Some(seq) {
                return;
            }
            let rest = disk.read(&path, open.offset + FRAME_HEAD as u64, len + 1);
            let Some(record) = frame_body(&head, &rest, len).and_then(record) else {
                return;
            };
            records.push(record);
            open.offset += (FRAME_HEAD + len + 1) as u64;
            self.next_seq = Some(seq + 1);
        }
    }
}

/// All segments that lie on a disk, by their numbers, each with what it says.
pub fn segments(disk: &dyn Platter) -> Vec<(u64, Vec<Record>)> {
    let mut all = Vec::new();
    for id in disk.list(DIR).iter().filter_map(|name| segment_id(name)) {
        let mut records = Vec::new();
        if let Some((salt, first_seq)) = read_head(disk, id) {
            let mut open = Open {
                id,
                salt,
                offset: SEGMENT_HEAD as u64,
            };
            let mut tail = Tail {
                open: None,
                next_seq: Some(first_seq),
            };
            tail.read_frames(disk, &mut open, &mut records);
        }
        all.push((id, records));
    }
    all
}

fn segment_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn path(id: u64) -> String {
    format!("{DIR}/{id:016x}.wal")
}

/// The salt of its frames and the number of the first.
fn read_head(disk: &dyn Platter, id: u64) -> Option<(u32, u64)> {
    let bytes = disk.read(&path(id), 0, SEGMENT_HEAD);
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if bytes.len() != SEGMENT_HEAD
        || !content.starts_with(MAGIC)
        || crc32c(content) != u32::from_be_bytes(*crc)
    {
        return None;
    }
    let mut fields = Fields(content.get(48..)?.to_vec().into());
    let disk = fields.array::<16>()?;
    let (own_id, first_seq) = (fields.u64()?, fields.u64()?);
    (own_id == id).then(|| (crc32c_append(crc32c(&disk), &id.to_be_bytes()), first_seq))
}

/// Length and number of the frame that these bytes begin.
fn frame_head(head: &[u8], salt: u32) -> Option<(usize, u64)> {
    let mut fields = Fields(head.get(..FRAME_HEAD)?.to_vec().into());
    let (len, seq, _batch, _body_crc, crc) = (
        fields.u32()?,
        fields.u64()?,
        fields.u64()?,
        fields.u32()?,
        fields.u32()?,
    );
    let whole = crc32c_append(salt, &head[..24]) == crc && fields.u8()? == HEAD_END && len > 0;
    whole.then_some((usize::try_from(len).ok()?, seq))
}

fn frame_body(head: &[u8], rest: &[u8], len: usize) -> Option<Bytes> {
    let crc = u32::from_be_bytes(head.get(20..24)?.try_into().ok()?);
    let body = rest.get(..len)?;
    (rest.get(len) == Some(&BODY_END) && crc32c(body) == crc).then(|| body.to_vec().into())
}

struct Fields(Bytes);

impl Fields {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        (self.0.len() >= N)
            .then(|| self.0.split_to(N))?
            .as_ref()
            .try_into()
            .ok()
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn leader(&mut self) -> Option<Leader> {
        Some(Leader {
            term: self.u64()?,
            node: self.u64()?,
        })
    }

    fn log_id(&mut self) -> Option<LogId> {
        Some(LogId {
            leader: self.leader()?,
            index: self.u64()?,
        })
    }

    fn vote(&mut self) -> Option<Vote> {
        Some((self.leader()?, self.u8()? == 1))
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            _ => read(self).map(Some),
        }
    }
}

/// openraft's membership as postcard writes it.
#[derive(serde::Deserialize)]
struct Membership {
    configs: Vec<BTreeSet<u64>>,
    #[expect(dead_code, reason = "part of the format")]
    nodes: BTreeMap<u64, String>,
}

/// The beginning of what a snapshot says of itself, as postcard writes it; of a log id its term, leader and index.
#[derive(serde::Deserialize)]
struct SnapshotMeta {
    #[expect(dead_code, reason = "part of the format; the file's name says it")]
    last: Option<(u64, u64, u64)>,
    membership_at: Option<(u64, u64, u64)>,
    membership: Membership,
}

fn record(body: Bytes) -> Option<Record> {
    let mut fields = Fields(body);
    Some(match fields.u8()? {
        1 => Record::Checkpoint {
            vote: fields.option(Fields::vote)?,
            purged: fields.option(Fields::log_id)?,
            committed: fields.option(Fields::log_id)?,
        },
        2 => Record::Vote(fields.vote()?),
        3 => {
            let id = fields.log_id()?;
            let payload = match fields.u8()? {
                0 => Payload::Blank,
                1 => Payload::App(fields.0),
                _ => Payload::Membership(postcard::from_bytes::<Membership>(&fields.0).ok()?.configs),
            };
            Record::Entry(id, payload)
        }
        4 => Record::Truncate(fields.option(Fields::log_id)?),
        5 => Record::Committed(fields.log_id()?),
        6 => Record::Purge(fields.log_id()?),
        _ => return None,
    })
}

/// A snapshot on a disk: the last index it covers, and the machine's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The last index it covers.
    pub index: u64,
    /// Who votes behind it, and the index of the entry that says so; nothing, if it can't be read.
    pub membership: Option<(Option<u64>, Vec<BTreeSet<u64>>)>,
    /// What the machine gave.
    pub body: Bytes,
}

/// The indices that the snapshots on a disk cover.
pub fn snapshots(disk: &dyn Platter) -> BTreeSet<u64> {
    let index = |name: &String| name.strip_suffix(".snap")?.parse().ok();
    disk.list("snapshot").iter().filter_map(index).collect()
}

/// One of them, if it is whole.
pub fn snapshot(disk: &dyn Platter, index: u64) -> Option<SnapshotFile> {
    const HEAD: usize = 68;
    let path = format!("snapshot/{index:020}.snap");
    let head = disk.read(&path, 0, HEAD);
    if head.len() != HEAD || !head.starts_with(b"GRIDSNP\x02") {
        return None;
    }
    let mut fields = Fields(head.get(48..)?.to_vec().into());
    let (meta_len, len, crc) = (fields.u32()?, fields.u64()?, fields.u32()?);
    let meta = disk.read(&path, HEAD as u64, usize::try_from(meta_len).ok()?);
    let meta = postcard::take_from_bytes::<SnapshotMeta>(&meta).ok();
    let membership = meta.map(|(meta, _)| {
        let at = meta.membership_at.map(|(_, _, index)| index);
        (at, meta.membership.configs)
    });
    let body_at = HEAD as u64 + u64::from(meta_len);
    let body = disk.read(&path, body_at, usize::try_from(len).ok()?);
    (body.len() as u64 == len && crc32c(&body) == crc).then(|| SnapshotFile {
        index,
        membership,
        body: body.into(),
    })
}

/// The last header that a node says it has signed: the block's index and the header's digest.
pub fn signed(disk: &dyn Platter) -> Option<(u64, [u8; 32])> {
    let slot = |at: u64| {
        let bytes = disk.read("signed/last", at, 60);
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if !content.starts_with(b"GSSIGNED") || crc32c(content) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut fields = Fields(content.get(8..)?.to_vec().into());
        Some((fields.u64()?, fields.u64()?, fields.array()?))
    };
    let newest = [slot(0), slot(4_096)]
        .into_iter()
        .flatten()
        .max_by_key(|(sequence, ..)| *sequence)?;
    Some((newest.1, newest.2))
}
