//! What one frame says.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{self, Malformed, Reader};
use crate::types::{Entry, LogId, Vote};

const CHECKPOINT: u8 = 1;
const VOTE: u8 = 2;
const ENTRY: u8 = 3;
const TRUNCATE: u8 = 4;
const COMMITTED: u8 = 5;
const PURGE: u8 = 6;

/// Everything but entries that a segment's reader must know before its first frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
}

/// One change of the durable state.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    Checkpoint(Checkpoint),
    Vote(Vote),
    Entry(Entry),
    /// The last entry that stays; none stays without one.
    Truncate(Option<LogId>),
    Committed(LogId),
    Purge(LogId),
}

impl Record {
    /// Appends kind and content.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Record::Checkpoint(checkpoint) => {
                out.put_u8(CHECKPOINT);
                codec::put_opt_vote(out, checkpoint.vote.as_ref());
                codec::put_opt_log_id(out, checkpoint.purged.as_ref());
                codec::put_opt_log_id(out, checkpoint.committed.as_ref());
            }
            Record::Vote(vote) => {
                out.put_u8(VOTE);
                codec::put_vote(out, vote);
            }
            Record::Entry(entry) => {
                let (head, payload) = codec::entry_parts(entry);
                out.put_u8(ENTRY);
                out.put_slice(&head);
                out.put_slice(&payload);
            }
            Record::Truncate(last) => {
                out.put_u8(TRUNCATE);
                codec::put_opt_log_id(out, last.as_ref());
            }
            Record::Committed(log_id) => {
                out.put_u8(COMMITTED);
                codec::put_log_id(out, log_id);
            }
            Record::Purge(log_id) => {
                out.put_u8(PURGE);
                codec::put_log_id(out, log_id);
            }
        }
    }

    /// Reads kind and content.
    pub(crate) fn decode(body: Bytes) -> Result<Record, Malformed> {
        let mut reader = Reader::new(body);
        let record = match reader.u8("record kind")? {
            CHECKPOINT => Record::Checkpoint(Checkpoint {
                vote: reader.opt_vote()?,
                purged: reader.opt_log_id()?,
                committed: reader.opt_log_id()?,
            }),
            VOTE => Record::Vote(reader.vote()?),
            ENTRY => return reader.entry().map(Record::Entry),
            TRUNCATE => Record::Truncate(reader.opt_log_id()?),
            COMMITTED => Record::Committed(reader.log_id()?),
            PURGE => Record::Purge(reader.log_id()?),
            _ => return Err(Malformed("record kind")),
        };
        reader.end("record")?;
        Ok(record)
    }
}
