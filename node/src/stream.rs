//! The binary stream: settlements without HTTP's and JSON's cost a request, over one connection.
//!
//! A client asks `GET /api/stream` with `Connection: Upgrade` and `Upgrade: gridseal-stream/1`. After the answer
//! `101 Switching Protocols` both sides send frames, as many as they like and without waiting for one another:
//! questions with numbers of the client's choice, answers with the same numbers in whatever order they come.
//!
//! # Format, version 1 (integers big-endian)
//!
//! ```text
//! frame          length u32 · kind u8 · number u64 · content        length: of all that follows it
//!
//! client → node
//!   1 settle     key · action         key: 0, or 1 · nonce [16]
//!                                     action: canonical: 4 · count u32 · count × settlement,
//!                                             or 14 · a packed batch (see `ledger::roster`)
//!                                     settlement: meter text · epoch i64 · consumption i64 · label text ·
//!                                                 co2eq i64 · autoseal: 0, or 1 · epochs u64
//!   2 envelope   canonical envelope, any action, signed by the client
//!
//! node → client
//!   1 done       index u64 · first u32 · count u32 · now u64
//!   2 failed     status u16 · now u64 · code text · message text
//!
//! text           length in bytes u16 · UTF-8
//! ```
//!
//! `settle` is what `balancing.addSettlements` is: unsigned, for development clusters, all or none, and its key
//! makes a retry on any node do nothing and get the first answer. (HTTP's `Idempotency-Key: K` is the nonce of the
//! first 16 bytes of SHA-256 over `gridseal/idempotency-key/v1\0` and K.) `envelope` is `envelope.submit`.
//!
//! `done` names the statements `index.first` up to `index.(first + count − 1)`, one a settlement, in order; for other
//! actions `first` and `count` are 0. What became of an `autoseal` is not told here; `balancing.isSealed` knows.
//! `failed` has the status and code that HTTP would give (`/api/openapi.json` lists them). `now` is the ledger's time in milliseconds.
//!
//! What always holds: an answer comes after the entry is applied on the node that was asked. If the connection ends,
//! what was not answered is unknown, as after HTTP's 504. A frame that isn't one is answered under its number (0
//! if it has none) and ends the connection; one whose content isn't right is answered, and the stream goes on.
//!
//! Absent on purpose: a checksum. The settlements of an entry are signed (or named by nonce) end to end, and
//! between client and node this is as safe as the HTTP it began as.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ledger::canonical::Canonical;
use ledger::{Action, Nonce, Timestamp};

/// What stands in the `Upgrade` header.
pub const PROTOCOL: &str = "gridseal-stream/1";
/// Where the stream begins.
pub const PATH: &str = "/api/stream";

/// Bytes of a frame's length.
const LENGTH: usize = 4;
/// Bytes of kind and number.
const HEAD: usize = 1 + 8;
const SETTLE: u8 = 1;
const ENVELOPE: u8 = 2;
const DONE: u8 = 1;
const FAILED: u8 = 2;

/// A frame's content, and under which number it was asked or is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// The client's number.
    pub number: u64,
    /// The rest.
    pub content: Bytes,
}

/// Why bytes are no frame. Nothing behind them can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFrame {
    /// Too short for kind and number.
    #[error("a frame of {0} bytes; it has at least {HEAD}")]
    TooShort(usize),
    /// Longer than the node takes.
    #[error("a frame of {bytes} bytes; at most {limit} are taken")]
    TooLong {
        /// What was announced.
        bytes: usize,
        /// What may be.
        limit: usize,
    },
}

/// Takes a whole frame from the front of what has arrived; `None` if more must come. Memory is made for what
/// arrives, never for what a length announces.
///
/// # Errors
/// [`NoFrame`], as soon as the length is there.
pub fn take(inbox: &mut BytesMut, limit: usize) -> Result<Option<Frame>, NoFrame> {
    let Some(length) = inbox.first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length < HEAD {
        return Err(NoFrame::TooShort(length));
    }
    if length > limit {
        return Err(NoFrame::TooLong { bytes: length, limit });
    }
    if inbox.len() < LENGTH + length {
        return Ok(None);
    }
    inbox.advance(LENGTH);
    let mut content = inbox.split_to(length).freeze();
    Ok(Some(Frame {
        kind: content.get_u8(),
        number: content.get_u64(),
        content,
    }))
}

/// Appends a frame whose content `fill` appends.
fn put(out: &mut BytesMut, kind: u8, number: u64, fill: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    out.put_u64(number);
    fill(out);
    // Whoever sends more than 4 GiB in a frame finds that the other side takes none of that length.
    let length = u32::try_from(out.len() - start - LENGTH).unwrap_or(u32::MAX);
    out[start..start + LENGTH].copy_from_slice(&length.to_be_bytes());
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Unsigned, with the client's key if it has one.
    Settle {
        /// Makes a retry harmless.
        nonce: Option<Nonce>,
        /// The canonical bytes of an `Action::Settle` or `Action::SettleRoster`.
        action: Bytes,
    },
    /// The canonical bytes of a signed envelope.
    Envelope(Bytes),
}

impl Question {
    /// Settlements without a key, or with one.
    pub fn settle(action: &Action, nonce: Option<Nonce>) -> Question {
        Question::Settle {
            nonce,
            action: action.to_bytes().into(),
        }
    }

    /// Appends the frame.
    pub fn put(&self, number: u64, out: &mut BytesMut) {
        match self {
            Question::Settle { nonce, action } => put(out, SETTLE, number, |out| {
                match nonce {
                    None => out.put_u8(0),
                    Some(nonce) => {
                        out.put_u8(1);
                        out.put_slice(nonce);
                    }
                }
                out.put_slice(action);
            }),
            Question::Envelope(bytes) => put(out, ENVELOPE, number, |out| out.put_slice(bytes)),
        }
    }

    /// Reads a frame's content, if it is a question; what it carries is not looked into.
    pub fn read(frame: Frame) -> Option<Question> {
        let mut content = frame.content;
        match frame.kind {
            SETTLE => {
                let nonce = match content.try_get_u8().ok()? {
                    0 => None,
                    1 => {
                        let mut nonce = Nonce::default();
                        content.try_copy_to_slice(&mut nonce).ok()?;
                        Some(nonce)
                    }
                    _ => return None,
                };
                Some(Question::Settle {
                    nonce,
                    action: content,
                })
            }
            ENVELOPE => Some(Question::Envelope(content)),
            _ => None,
        }
    }
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is in the ledger.
    Done {
        /// The index of its log entry.
        index: u64,
        /// The position of its first statement.
        first: u32,
        /// How many statements.
        count: u32,
        /// The ledger's time after it.
        now: Timestamp,
    },
    /// It is not, or nobody knows (status 504).
    Failed {
        /// HTTP's.
        status: u16,
        /// The ledger's time.
        now: Timestamp,
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

impl Reply {
    /// Appends the frame.
    pub fn put(&self, number: u64, out: &mut BytesMut) {
        match self {
            Reply::Done {
                index,
                first,
                count,
                now,
            } => put(out, DONE, number, |out| {
                out.put_u64(*index);
                out.put_u32(*first);
                out.put_u32(*count);
                out.put_u64(now.get());
            }),
            Reply::Failed {
                status,
                now,
                code,
                message,
            } => put(out, FAILED, number, |out| {
                out.put_u16(*status);
                out.put_u64(now.get());
                put_text(out, code);
                put_text(out, message);
            }),
        }
    }

    /// Reads a frame's content.
    ///
    /// # Errors
    /// `InvalidData` if it is no answer.
    pub fn read(frame: Frame) -> io::Result<Reply> {
        let mut content = frame.content;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not an answer of this version");
        let reply = match frame.kind {
            DONE => Reply::Done {
                index: content.try_get_u64().map_err(|_| bad())?,
                first: content.try_get_u32().map_err(|_| bad())?,
                count: content.try_get_u32().map_err(|_| bad())?,
                now: time(&mut content).ok_or_else(bad)?,
            },
            FAILED => Reply::Failed {
                status: content.try_get_u16().map_err(|_| bad())?,
                now: time(&mut content).ok_or_else(bad)?,
                code: text(&mut content).ok_or_else(bad)?,
                message: text(&mut content).ok_or_else(bad)?,
            },
            _ => return Err(bad()),
        };
        if content.has_remaining() {
            return Err(bad());
        }
        Ok(reply)
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    // Messages are short; one that is not loses its end, at a character.
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes());
}

fn text(content: &mut Bytes) -> Option<String> {
    let length = usize::from(content.try_get_u16().ok()?);
    let bytes = (length <= content.len()).then(|| content.split_to(length))?;
    String::from_utf8(bytes.into()).ok()
}

fn time(content: &mut Bytes) -> Option<Timestamp> {
    Timestamp::new(content.try_get_u64().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Vec<Frame> {
        let mut inbox = BytesMut::from(bytes);
        std::iter::from_fn(|| take(&mut inbox, 1000).expect("frames")).collect()
    }

    fn questions() -> Vec<Question> {
        let action = Bytes::from_static(b"action");
        vec![
            Question::Settle {
                nonce: None,
                action: action.clone(),
            },
            Question::Settle {
                nonce: Some([7; 16]),
                action: action.clone(),
            },
            Question::Envelope(action),
        ]
    }

    fn replies() -> Vec<Reply> {
        let now = Timestamp::new(1_700_000_000_000).expect("a moment");
        vec![
            Reply::Done {
                index: 5,
                first: 6,
                count: 7,
                now,
            },
            Reply::Failed {
                status: 409,
                now,
                code: "out_of_range".into(),
                message: "consumption is too much".into(),
            },
        ]
    }

    #[test]
    fn many_frames_in_one_piece_come_out_as_they_went_in() {
        let mut out = BytesMut::new();
        for (question, number) in questions().iter().zip(1..) {
            question.put(number, &mut out);
        }
        let read = frames(&out);
        assert_eq!(
            read.iter().map(|frame| frame.number).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        let read: Vec<_> = read.into_iter().map(Question::read).map(Option::unwrap).collect();
        assert_eq!(read, questions());

        let mut out = BytesMut::new();
        for (reply, number) in replies().iter().zip(1..) {
            reply.put(number, &mut out);
        }
        let read: Vec<_> = frames(&out)
            .into_iter()
            .map(|frame| Reply::read(frame).unwrap())
            .collect();
        assert_eq!(read, replies());
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut out = BytesMut::new();
        questions()[1].put(0x0102, &mut out);
        let mut expected = vec![0, 0, 0, 9 + 17 + 6, 1, 0, 0, 0, 0, 0, 0, 1, 2, 1];
        expected.extend([7; 16]);
        expected.extend(b"action");
        assert_eq!(out, expected);
    }

    #[test]
    fn a_cut_frame_waits_and_a_cut_answer_is_none() {
        let mut whole = BytesMut::new();
        replies()[1].put(9, &mut whole);
        for cut in 0..whole.len() {
            assert_eq!(frames(&whole[..cut]), [], "cut at {cut}");
        }
        let frame = frames(&whole).remove(0);
        for cut in 0..frame.content.len() {
            let cut = Frame {
                content: frame.content.slice(..cut),
                ..frame.clone()
            };
            Reply::read(cut).expect_err("a part of an answer");
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_refused_before_anything_else_arrives() {
        let mut inbox = BytesMut::from(&[0xFF, 0xFF, 0xFF, 0xFF][..]);
        assert_eq!(
            take(&mut inbox, 1000),
            Err(NoFrame::TooLong {
                bytes: 0xFFFF_FFFF,
                limit: 1000
            })
        );
        let mut inbox = BytesMut::from(&[0, 0, 0, 8][..]);
        assert_eq!(take(&mut inbox, 1000), Err(NoFrame::TooShort(8)));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let reply = Reply::Failed {
            status: 422,
            now: Timestamp::ZERO,
            code: "c".into(),
            message: "ü".repeat(40_000),
        };
        let mut out = BytesMut::new();
        reply.put(1, &mut out);
        let mut inbox = out;
        let frame = take(&mut inbox, usize::MAX).expect("a frame").expect("whole");
        let Reply::Failed { message, .. } = Reply::read(frame).expect("an answer") else {
            panic!("another kind");
        };
        assert_eq!(message.chars().count(), 32_767);
    }
}
