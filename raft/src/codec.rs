//! The fixed layout shared by log and wire: integers big-endian, optional values behind a presence byte,
//! payloads as they are.
//!
//! ```text
//! leader  term u64 · node u64
//! log id  leader · index u64
//! vote    leader · committed u8
//! entry   log id · kind u8 (0 blank, 1 payload, 2 membership) · rest: nothing, the payload, or postcard
//! ```
//!
//! Reading never trusts a length, and hands out payloads as slices of the buffer they came in.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload as Kind;
use openraft::entry::RaftEntry;

use crate::types::{AppData, Entry, LeaderId, LogId, Vote};

/// Bytes of an encoded entry before its payload: a log id and a kind.
pub(crate) const ENTRY_HEAD_BYTES: usize = 24 + 1;

const BLANK: u8 = 0;
const APP: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Bytes that don't hold what they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Takes values from the front of a buffer.
#[derive(Debug)]
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Reader(bytes)
    }

    /// The next `len` bytes, without copying them.
    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<Bytes, Malformed> {
        if len > self.0.len() {
            return Err(Malformed(what));
        }
        Ok(self.0.split_to(len))
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N, what)?;
        <[u8; N]>::try_from(&bytes[..]).map_err(|_| Malformed(what))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u128(&mut self, what: &'static str) -> Result<u128, Malformed> {
        Ok(u128::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn bytes32(&mut self, what: &'static str) -> Result<[u8; 32], Malformed> {
        self.array(what)
    }

    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed(what)),
        }
    }

    pub(crate) fn log_id(&mut self) -> Result<LogId, Malformed> {
        let leader = self.leader()?;
        Ok(LogId::new(leader, self.u64("log id")?))
    }

    pub(crate) fn opt_log_id(&mut self) -> Result<Option<LogId>, Malformed> {
        self.bool("optional log id")?.then(|| self.log_id()).transpose()
    }

    pub(crate) fn vote(&mut self) -> Result<Vote, Malformed> {
        let leader_id = self.leader()?;
        Ok(Vote {
            leader_id,
            committed: self.bool("vote")?,
        })
    }

    pub(crate) fn opt_vote(&mut self) -> Result<Option<Vote>, Malformed> {
        self.bool("optional vote")?.then(|| self.vote()).transpose()
    }

    /// An entry that fills the rest of the buffer.
    pub(crate) fn entry(mut self) -> Result<Entry, Malformed> {
        let head = self.take(ENTRY_HEAD_BYTES, "entry head")?;
        entry_from_parts(head, self.rest())
    }

    /// Nothing must be left.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed(what))
        }
    }

    fn leader(&mut self) -> Result<LeaderId, Malformed> {
        Ok(LeaderId {
            term: self.u64("leader")?,
            node_id: self.u64("leader")?,
        })
    }
}

fn put_leader(out: &mut BytesMut, leader: &LeaderId) {
    out.put_u64(leader.term);
    out.put_u64(leader.node_id);
}

pub(crate) fn put_log_id(out: &mut BytesMut, log_id: &LogId) {
    put_leader(out, log_id.committed_leader_id());
    out.put_u64(log_id.index());
}

pub(crate) fn put_opt_log_id(out: &mut BytesMut, log_id: Option<&LogId>) {
    out.put_u8(u8::from(log_id.is_some()));
    if let Some(log_id) = log_id {
        put_log_id(out, log_id);
    }
}

pub(crate) fn put_vote(out: &mut BytesMut, vote: &Vote) {
    put_leader(out, &vote.leader_id);
    out.put_u8(u8::from(vote.committed));
}

pub(crate) fn put_opt_vote(out: &mut BytesMut, vote: Option<&Vote>) {
    out.put_u8(u8::from(vote.is_some()));
    if let Some(vote) = vote {
        put_vote(out, vote);
    }
}

/// An entry in two parts: its head, and its payload, which is shared and not copied.
pub(crate) fn entry_parts(entry: &Entry) -> ([u8; ENTRY_HEAD_BYTES], Bytes) {
    let (kind, payload) = match &entry.payload {
        Kind::Blank => (BLANK, Bytes::new()),
        Kind::Normal(data) => (APP, data.0.clone()),
        Kind::Membership(membership) => (MEMBERSHIP, encode_postcard(membership)),
    };
    let log_id = entry.log_id();
    let leader = log_id.committed_leader_id();
    let mut head = [0; ENTRY_HEAD_BYTES];
    head[..8].copy_from_slice(&leader.term.to_be_bytes());
    head[8..16].copy_from_slice(&leader.node_id.to_be_bytes());
    head[16..24].copy_from_slice(&log_id.index().to_be_bytes());
    head[24] = kind;
    (head, payload)
}

/// An entry from its head and its payload, which is shared and not copied.
pub(crate) fn entry_from_parts(head: Bytes, payload: Bytes) -> Result<Entry, Malformed> {
    let mut head = Reader::new(head);
    let log_id = head.log_id()?;
    let payload = match head.u8("entry kind")? {
        BLANK if payload.is_empty() => Kind::Blank,
        APP => Kind::Normal(AppData(payload)),
        MEMBERSHIP => Kind::Membership(postcard::from_bytes(&payload).map_err(|_| Malformed("membership"))?),
        _ => return Err(Malformed("entry kind")),
    };
    Ok(Entry { log_id, payload })
}

/// What an entry weighs in memory and on the wire; small constants aside.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_HEAD_BYTES
        + match &entry.payload {
            Kind::Blank => 0,
            Kind::Normal(data) => data.0.len(),
            Kind::Membership(_) => 64,
        }
}

/// Postcard, for what is rare and small.
pub(crate) fn encode_postcard<T: serde::Serialize>(value: &T) -> Bytes {
    // Serializing to memory fails only for sequences of unknown length and for custom errors; ours have
    // neither.
    postcard::to_stdvec(value).expect("plain data serializes").into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::types::PeerAddr;

    type Membership = openraft::Membership<u64, PeerAddr>;

    fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
        LogId::new(LeaderId { term, node_id }, index)
    }

    fn whole(entry: &Entry) -> Bytes {
        let (head, payload) = entry_parts(entry);
        [&head[..], &payload].concat().into()
    }

    #[test]
    fn entries_survive_the_way_there_and_back() {
        let membership = Membership::new_with_defaults(vec![BTreeSet::from([1, 2])], [3]);
        for payload in [
            Kind::Blank,
            Kind::Normal(AppData(Bytes::from_static(b"x"))),
            Kind::Normal(AppData(Bytes::new())),
            Kind::Membership(membership),
        ] {
            let entry = Entry {
                log_id: log_id(3, 2, 9),
                payload,
            };
            let back = Reader::new(whole(&entry))
                .entry()
                .expect("what was written can be read");
            assert_eq!(back.log_id, entry.log_id);
            assert_eq!(format!("{:?}", back.payload), format!("{:?}", entry.payload));
        }
    }

    #[test]
    fn every_cut_and_every_wrong_byte_is_refused_or_reads_as_something_else_without_a_panic() {
        let membership = Membership::new_with_defaults(vec![BTreeSet::from([1, 2])], [3]);
        let bytes = whole(&Entry {
            log_id: log_id(3, 2, 9),
            payload: Kind::Membership(membership),
        });
        for cut in 0..bytes.len() {
            assert!(Reader::new(bytes.slice(..cut)).entry().is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.to_vec();
                wrong[at] ^= 1 << bit;
                let _ = Reader::new(wrong.into()).entry();
            }
        }
    }
}
