//! One segment file: its head, its name, and where things lie in it.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};

use super::DIR;
use crate::codec::Reader;
use crate::disk::DiskFile;

const MAGIC: &[u8; 8] = b"GRIDWAL\x01";

/// Bytes of a segment's head.
pub(crate) const HEAD_BYTES: usize = 8 + 32 + 8 + 16 + 8 + 8 + 4;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: [u8; 32],
    pub(crate) node: u64,
    /// Drawn when the disk was first used: tells a disk from its empty replacement.
    pub(crate) disk: u128,
}

impl Identity {
    /// What the crcs of a segment's frames begin with, so that no bytes that merely pass through this log,
    /// such as another node's frames in a payload, can pass for its own.
    pub(crate) fn salt(&self, segment: u64) -> u32 {
        crc32c_append(crc32c(&self.disk.to_be_bytes()), &segment.to_be_bytes())
    }
}

/// An open segment.
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) salt: u32,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Segment {
    pub(crate) fn path(&self) -> String {
        path(self.id)
    }
}

/// Where the frame of an entry lies.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
    /// Bytes of the whole frame.
    pub(crate) len: u32,
}

/// A segment's path.
pub(crate) fn path(id: u64) -> String {
    format!("{DIR}/{id:016x}.wal")
}

/// The number in a segment's file name, if it is one.
pub(crate) fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

pub(crate) fn encode_head(identity: &Identity, id: u64, first_seq: u64) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEAD_BYTES);
    out.put_slice(MAGIC);
    out.put_slice(&identity.cluster);
    out.put_u64(identity.node);
    out.put_u128(identity.disk);
    out.put_u64(id);
    out.put_u64(first_seq);
    out.put_u32(crc32c(&out));
    out
}

/// Checks a head against the name of its file and against whose log it should be; `disk` is not known before
/// the first one. Returns the identity and the first sequence number.
pub(crate) fn decode_head(
    bytes: Bytes,
    id: u64,
    cluster: &[u8; 32],
    node: u64,
) -> io::Result<(Identity, u64)> {
    let path = path(id);
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{path} at 0: {what}"));
    if bytes.len() < HEAD_BYTES {
        return Err(bad(format!(
            "only {} bytes of {HEAD_BYTES} of the segment's head",
            bytes.len()
        )));
    }
    if bytes[..7] != MAGIC[..7] {
        return Err(bad("not a log segment".into()));
    }
    if bytes[7] != MAGIC[7] {
        return Err(bad(format!(
            "format version {}; this program reads version {}",
            bytes[7], MAGIC[7]
        )));
    }
    let sum = crc32c(&bytes[..HEAD_BYTES - 4]);
    let mut reader = Reader::new(bytes.slice(MAGIC.len()..HEAD_BYTES));
    let mut read = || {
        Ok((
            Identity {
                cluster: reader.bytes32("cluster")?,
                node: reader.u64("node")?,
                disk: reader.u128("disk")?,
            },
            reader.u64("segment")?,
            reader.u64("first seq")?,
            reader.u32("crc")?,
        ))
    };
    let (identity, found_id, first_seq, crc) =
        read().map_err(|e: crate::codec::Malformed| bad(e.to_string()))?;
    if sum != crc {
        return Err(bad("the segment's head is damaged".into()));
    }
    if identity.cluster != *cluster {
        return Err(bad(format!(
            "belongs to cluster {}, not {}",
            hex(&identity.cluster),
            hex(cluster)
        )));
    }
    if identity.node != node {
        return Err(bad(format!("belongs to node {}, not {node}", identity.node)));
    }
    if found_id != id {
        return Err(bad(format!(
            "is segment {found_id:#x}: the file was renamed or misplaced"
        )));
    }
    Ok((identity, first_seq))
}

/// The first bytes of a cluster id, for messages.
pub(crate) fn hex(id: &[u8; 32]) -> String {
    id[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
