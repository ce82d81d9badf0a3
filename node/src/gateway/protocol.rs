//! What nodes ask each other beside Raft's own messages: to propose for them, and for a read point.
//!
//! A request says hello with the cluster's id underneath (crate `raft`); what it carries is signed on its own:
//! a peer can withhold or repeat an envelope, never make one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A request to the leader. First byte: the version of this enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Propose these: canonical bytes of envelopes, and of attestations.
    Propose {
        /// `ledger::Envelope`s.
        envelopes: Vec<Bytes>,
        /// `ledger::block::Attestation`s.
        attestations: Vec<Bytes>,
    },
    /// An index such that state which has applied it shows all that was acknowledged before this request.
    ReadPoint,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Response {
    /// Committed, and applied on the leader.
    Proposed,
    /// The read point.
    ReadPoint(u64),
    /// Certainly not proposed: ask someone else.
    NotLeader,
    /// Certainly not proposed: too much is under way.
    Busy,
    /// Certainly not proposed: more bytes than an entry may have.
    TooLarge,
    /// It may commit, now or later.
    Unknown,
    /// These bytes are no request.
    Malformed,
}

const VERSION: u8 = 1;

/// Encodes a request or response.
pub(crate) fn encode(message: &impl Serialize) -> Bytes {
    // Writing to a vector can't fail, and these types serialize totally; an empty answer reads as malformed.
    postcard::to_extend(message, vec![VERSION])
        .map(Bytes::from)
        .unwrap_or_default()
}

/// Decodes a request or response; `None` for anything that is not one of this version, to the last byte.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (version, body) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_nothing_else_decodes() {
        let request = Request::Propose {
            envelopes: vec![Bytes::from_static(b"x")],
            attestations: vec![],
        };
        let bytes = encode(&request);
        assert_eq!(decode::<Request>(&bytes), Some(request));
        for cut in 0..bytes.len() {
            assert_eq!(decode::<Request>(&bytes[..cut]), None, "cut at {cut}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(decode::<Request>(&longer), None);
        assert_eq!(
            decode::<Response>(&encode(&Response::ReadPoint(7))),
            Some(Response::ReadPoint(7))
        );
    }
}
