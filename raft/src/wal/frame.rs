//! One frame: a record with what it takes to tell it from rubble.

use bytes::{BufMut, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};

use super::record::Record;
use crate::codec::Malformed;
use crate::types::Entry;

/// Bytes before the body.
pub(crate) const HEAD_BYTES: usize = 29;
/// Bytes beside the body.
pub(crate) const FRAME_OVERHEAD: usize = HEAD_BYTES + 1;

const HEAD_END: u8 = 0xF7;
const BODY_END: u8 = 0xE7;

/// What a disk loses or keeps as a whole.
const SECTOR: u64 = 512;

/// The head of a frame, once its crc was found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the body.
    pub(crate) len: u32,
    pub(crate) seq: u64,
    /// Where in the segment the frame's batch begins.
    pub(crate) batch: u64,
    body_crc: u32,
}

impl Head {
    /// Bytes of the whole frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        u64::from(self.len) + FRAME_OVERHEAD as u64
    }
}

/// Appends a frame to a batch, and returns its size.
pub(crate) fn put(out: &mut BytesMut, salt: u32, seq: u64, batch: u64, record: &Record) -> u64 {
    let start = out.len();
    out.put_bytes(0, HEAD_BYTES);
    record.encode(out);
    let body = &out[start + HEAD_BYTES..];
    // Payloads are bounded by the configuration, far below 4 GiB.
    let len = u32::try_from(body.len()).expect("a record fits 32 bits");
    let body_crc = crc32c(body);

    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&len.to_be_bytes());
    head[4..12].copy_from_slice(&seq.to_be_bytes());
    head[12..20].copy_from_slice(&batch.to_be_bytes());
    head[20..24].copy_from_slice(&body_crc.to_be_bytes());
    let head_crc = crc32c_append(salt, &head[..24]);
    head[24..28].copy_from_slice(&head_crc.to_be_bytes());
    head[28] = HEAD_END;
    out[start..start + HEAD_BYTES].copy_from_slice(&head);
    out.put_u8(BODY_END);
    (out.len() - start) as u64
}

/// A head, if these bytes begin with one.
pub(crate) fn head(salt: u32, bytes: &[u8]) -> Option<Head> {
    let head: &[u8; HEAD_BYTES] = bytes.get(..HEAD_BYTES)?.try_into().ok()?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| (u64::from(word(at)) << 32) | u64::from(word(at + 4));
    let crc = crc32c_append(salt, &head[..24]);
    (crc == word(24) && head[28] == HEAD_END && word(0) > 0).then(|| Head {
        len: word(0),
        seq: long(4),
        batch: long(12),
        body_crc: word(20),
    })
}

/// The body, if these bytes begin with a whole frame of this head.
pub(crate) fn body(head: &Head, frame: &Bytes) -> Option<Bytes> {
    let end = HEAD_BYTES.checked_add(head.len as usize)?;
    let body = frame.get(HEAD_BYTES..end)?;
    let whole = frame.get(end) == Some(&BODY_END) && crc32c(body) == head.body_crc;
    (whole || planted!("torn-tail-taken")).then(|| frame.slice(HEAD_BYTES..end))
}

/// Reads back the entry of a frame.
pub(crate) fn read_entry(salt: u32, frame: &Bytes) -> Result<Entry, Malformed> {
    let head = head(salt, frame).ok_or(Malformed("frame head"))?;
    let body = body(&head, frame).ok_or(Malformed("frame body"))?;
    match Record::decode(body)? {
        Record::Entry(entry) => Ok(entry),
        _ => Err(Malformed("record: not an entry")),
    }
}

/// Whether a lost write explains why the frame at `offset` is not whole: its end, or a sector of it, reads as
/// the zeros that were there before. `bytes` are the frame as far as its length is known, else its head.
pub(crate) fn is_lost(offset: u64, bytes: &[u8]) -> bool {
    if bytes.last().is_none_or(|last| *last == 0) {
        return true;
    }
    let mut rest = bytes;
    let mut room = usize::try_from(SECTOR - offset % SECTOR).unwrap_or(bytes.len());
    while !rest.is_empty() {
        let (sector, more) = rest.split_at(room.min(rest.len()));
        if sector.iter().all(|byte| *byte == 0) {
            return true;
        }
        rest = more;
        room = 512;
    }
    false
}
