//! openraft made ours: bytes go in, the same bytes come out on every node, in one order.
//!
//! A [`Replica`] is one member of a group. It keeps a durable log on a [`Disk`], speaks to its peers
//! over a [`Network`], and feeds committed entries to a [`StateMachine`], which knows nothing of Raft.
//! openraft decides; everything that touches the world is ours and lies behind those three seams, so that
//! a simulator can supply its own and run the same code to the byte.
//!
//! # What always holds
//!
//! - A vote is on disk before anyone hears of it; an entry is on a majority's disks before it is applied.
//! - A machine sees every committed entry once, in log order; after a restart it starts from the newest
//!   snapshot and sees the rest again.
//! - Damage is found and said, with file and offset, never skipped. A failed sync is never retried: the
//!   replica stops and [`Replica::fault`] says why.
//! - Silence is *unknown*, never *failed*: only [`ProposeError::NotLeader`] promises that nothing happened.
//! - One seed, one run: all randomness comes from [`Config::seed`], all timers are tokio's.
//!
//! # What is absent on purpose
//!
//! - Meaning. Payloads are bytes; clients, retries and signatures belong to the caller.
//! - Lease reads. A lease trusts that clocks run at the same speed on all nodes; [`Replica::read_barrier`]
//!   asks a majority instead and shares one round among all who wait, so that it costs little more.
//! - Encryption between peers. It belongs behind [`Network`], which sees plain streams.
//! - Defence against a leader that lies. Raft assumes honest members; the seals above it don't.
//!
//! # Where to look
//!
//! [`Config`] for the knobs, `wal` for the format on disk, `transport` for the format on the wire,
//! `replica` for how the parts are joined.

/// Whether this bug is planted: always `false`, except in the simulator's own build (see the crate `planted`).
macro_rules! planted {
    ($name:literal) => {{
        #[cfg(feature = "planted")]
        {
            ::planted::is($name)
        }
        #[cfg(not(feature = "planted"))]
        {
            false
        }
    }};
}

mod applier;
mod attachments;
mod codec;
mod config;
mod disk;
mod error;
mod fault;
mod log_store;
mod machine;
mod network;
mod pins;
mod replica;
mod runtime;
mod service;
mod snapshot;
mod status;
#[cfg(test)]
mod testing;
mod threads;
mod transport;
mod types;
mod wal;

pub use attachments::{Attachment, Attachments, Hold, Unreadable};
pub use config::{Config, LogPolicy, SnapshotPolicy, Timing};
pub use disk::{Disk, DiskFile, DiskLock, DiskWork, FileDisk};
pub use error::{CallError, ChangeError, Fault, FaultKind, ProposeError, ReadError, StartError, WaitError};
pub use futures::future::BoxFuture;
pub use machine::{Capture, Committed, Encode, Payload, RestoreError, StateMachine};
pub use network::{BoxStream, Listener, Network, Stream, TcpNetwork};
pub use replica::Replica;
pub use service::{NoService, Service};
pub use status::{Role, Status};
pub use threads::{Pace, aside, elsewhere};
pub use types::PeerAddr;
