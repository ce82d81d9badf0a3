//! Peers on the wire: one port, one connection for each purpose.
//!
//! # What always holds
//!
//! - A connection begins with a hello that names cluster, both nodes, their disks (see `pins`) and its purpose,
//!   its *lane*; whoever is not meant refuses, says why, and closes.
//! - Answers come in the order of the questions, or carry the question's number; a connection that was given
//!   up with a question open is closed and never used again. So no answer can meet another's question.
//! - Every wait has a deadline, from the dial on. Whoever tries again waits first: openraft's replication
//!   sleeps inside its stream of requests, which is therefore polled before dialing.
//! - A length is believed only up to a limit, which before the hello is a few hundred bytes.
//!
//! # Format, version 2 (integers big-endian)
//!
//! ```text
//! frame     length u32 · CRC32C of body u32 · body
//! hello     "GSPEER" · version u16 · lane u8 · cluster [32] · from u64 · to u64 · disk u128
//! welcome   0 · disk u128   or   1 · why not (UTF-8)
//! append    vote · optional prev log id · optional committed log id · count u32 ·
//!           count × (entry head · payload length u32 · payload)
//!   answer  0 · optional matching log id   or   1 · conflicting log id   or   2 · higher vote
//! control   1 vote, 2 pre-vote or 3 transfer · postcard        answer: 0 · postcard, or 1 · what failed
//!           (sent right behind the hello)
//! snapshot  1 begin · vote · body length u64 · body crc u32 · postcard meta
//!           4 list · postcard attachments                      answer: 0 · postcard places of those wanted, or 1 · …
//!           5 file · postcard place                            one wanted; its chunks and an end follow
//!           2 chunk · bytes                                    answer: 0, or 1 · what failed
//!           3 end                                              answer: 0 · vote, or 1 · what failed
//! call      number u64 · bytes                                 answer: number u64 · bytes
//! attachment  postcard attachment                              answer: 0, and file, chunks and end as in a snapshot, or 1 · …
//! ```
//!
//! Why a CRC when TCP has a checksum: TCP's is weak, and an entry that changed between two nodes would be
//! synced, checksummed and applied in its wrong form by one of them.
//!
//! # Absent on purpose
//!
//! Authentication: a hello is a check against mistakes, not against malice (see [`crate::Network`]).

mod append;
mod attachment;
mod caller;
mod client;
mod frame;
mod hello;
mod mend;
mod server;
mod snapshot;
mod suspect;
mod wire;

use std::sync::Arc;

use crate::attachments::Attachments;
use crate::config::Config;
use crate::fault::Faults;
use crate::network::Network;
use crate::pins::Pins;
use crate::runtime::Seeds;
use crate::wal::Identity;

pub(crate) use caller::Caller;
pub(crate) use client::Peers;
pub(crate) use mend::run as mend;
pub(crate) use server::{Served, serve};

/// What every connection needs to know.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) seeds: Seeds,
    pub(crate) pins: Pins,
    /// Whether no peer gets a snapshot of this node any more.
    pub(crate) withheld: tokio::sync::watch::Sender<bool>,
    pub(crate) attachments: Attachments,
    pub(crate) faults: Faults,
}

impl Context {
    /// The largest frame that a peer may send: a batch, or one payload beyond it, and what is around them.
    fn max_frame(&self) -> usize {
        self.config.log.max_batch_bytes
            + self.config.log.max_payload_bytes
            + self.config.snapshots.chunk_bytes
            + (64 << 10)
    }
}
