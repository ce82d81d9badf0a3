//! Requests and answers as bytes.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};

use crate::codec::{self, Malformed, Reader};
use crate::types::{Entry, TypeConfig};

/// Payloads up to this size are copied behind one another; larger ones are sent from where they are.
const COPY_BYTES: usize = 2 << 10;

/// An append, in parts that share the entries' payloads.
pub(super) fn encode_append(request: &AppendEntriesRequest<TypeConfig>) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut out = BytesMut::with_capacity(256);
    codec::put_vote(&mut out, &request.vote);
    codec::put_opt_log_id(&mut out, request.prev_log_id.as_ref());
    codec::put_opt_log_id(&mut out, request.leader_commit.as_ref());
    // openraft limits entries per append, the log limits bytes per entry: both far below 32 bits.
    out.put_u32(u32::try_from(request.entries.len()).expect("a bounded batch"));
    for entry in &request.entries {
        let (head, payload) = codec::entry_parts(entry);
        out.put_slice(&head);
        out.put_u32(u32::try_from(payload.len()).expect("a bounded payload"));
        if payload.len() <= COPY_BYTES {
            out.put_slice(&payload);
        } else {
            parts.push(out.split().freeze());
            parts.push(payload);
        }
    }
    parts.push(out.freeze());
    parts
}

pub(super) fn decode_append(frame: Bytes) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let mut reader = Reader::new(frame);
    let vote = reader.vote()?;
    let prev_log_id = reader.opt_log_id()?;
    let leader_commit = reader.opt_log_id()?;
    let count = reader.u32("entry count")?;
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..count {
        // The payload lies behind its length; head and payload are one slice once the length is cut out.
        let head = reader.take(codec::ENTRY_HEAD_BYTES, "entry head")?;
        let len = reader.u32("payload length")? as usize;
        entries.push(codec::entry_from_parts(head, reader.take(len, "payload")?)?);
    }
    reader.end("append")?;
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

pub(super) fn encode_append_answer(answer: &StreamAppendResult<TypeConfig>) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    match answer {
        Ok(matching) => {
            out.put_u8(0);
            codec::put_opt_log_id(&mut out, matching.as_ref());
        }
        Err(StreamAppendError::Conflict(log_id)) => {
            out.put_u8(1);
            codec::put_log_id(&mut out, log_id);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.put_u8(2);
            codec::put_vote(&mut out, vote);
        }
    }
    out.freeze()
}

pub(super) fn decode_append_answer(frame: Bytes) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    let mut reader = Reader::new(frame);
    let answer = match reader.u8("append answer")? {
        0 => Ok(reader.opt_log_id()?),
        1 => Err(StreamAppendError::Conflict(reader.log_id()?)),
        2 => Err(StreamAppendError::HigherVote(reader.vote()?)),
        _ => return Err(Malformed("append answer")),
    };
    reader.end("append answer")?;
    Ok(answer)
}

/// A good answer: 0 and what it holds.
pub(super) fn good(content: Bytes) -> [Bytes; 2] {
    [Bytes::from_static(&[0]), content]
}

/// A bad answer: 1 and what failed.
pub(super) fn failed(what: &str) -> [Bytes; 2] {
    [Bytes::from_static(&[1]), Bytes::copy_from_slice(what.as_bytes())]
}

/// What an answer holds, or what failed.
pub(super) fn open(answer: Bytes) -> Result<Bytes, String> {
    let mut reader = Reader::new(answer);
    match reader.u8("answer") {
        Ok(0) => Ok(reader.rest()),
        Ok(1) => Err(String::from_utf8_lossy(&reader.rest()).into_owned()),
        _ => Err("malformed answer".into()),
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload as Kind;

    use super::*;
    use crate::types::{AppData, LeaderId, LogId, Vote};

    fn append() -> AppendEntriesRequest<TypeConfig> {
        let leader = LeaderId { term: 7, node_id: 2 };
        let entry = |index, payload| Entry {
            log_id: LogId::new(leader, index),
            payload,
        };
        AppendEntriesRequest {
            vote: Vote {
                leader_id: leader,
                committed: true,
            },
            prev_log_id: Some(LogId::new(leader, 4)),
            leader_commit: None,
            entries: vec![
                entry(5, Kind::Blank),
                entry(6, Kind::Normal(AppData(Bytes::from(vec![1; 10])))),
                entry(7, Kind::Normal(AppData(Bytes::from(vec![2; 10_000])))),
            ],
        }
    }

    #[test]
    fn an_append_comes_out_as_it_went_in() {
        let request = append();
        let frame: Bytes = encode_append(&request).concat().into();
        let back = decode_append(frame).expect("what was written can be read");
        assert_eq!(format!("{back:?}"), format!("{request:?}"));
        assert_eq!(back.entries[2].payload, request.entries[2].payload);
    }

    #[test]
    fn a_cut_append_is_refused_wherever_it_was_cut() {
        let frame: Bytes = encode_append(&append()).concat().into();
        for cut in 0..frame.len() {
            assert!(decode_append(frame.slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn answers_come_out_as_they_went_in() {
        let log_id = LogId::new(LeaderId { term: 7, node_id: 2 }, 4);
        let vote = Vote {
            leader_id: LeaderId { term: 8, node_id: 3 },
            committed: false,
        };
        for answer in [
            Ok(None),
            Ok(Some(log_id)),
            Err(StreamAppendError::Conflict(log_id)),
            Err(StreamAppendError::HigherVote(vote)),
        ] {
            assert_eq!(decode_append_answer(encode_append_answer(&answer)), Ok(answer));
        }
    }
}
