//! The actors of a node: they recompute every seal on their own memory, and the node signs what they agree on.
//!
//! ```text
//! state machine ─ Fed ─► router ─ Work ─► balancing actor (one a group) ─ Report ─► attestor ─► signer ─► log
//!                          └──────────────── Expected ────────────────────────────────┘└─► alarm
//! ```
//!
//! Decisions are made by pure cores ([`memory`], [`routing`], [`attestation`]); the files of the actors' names
//! are shells. No actor waits for another, none touches the ledger, and none has state across an await.
//!
//! After a restart the memories begin with the snapshot's journals, which this node or a peer without an alarm
//! wrote: from there on they are independent of the ledger, about what came before they believe it. The same is true of an
//! epoch that comes back from the archive: its books were given away with it, and are believed when they return.

mod agreed;
mod attestation;
mod attestor;
mod backlog;
mod balancing;
mod book;
mod memory;
mod names;
#[cfg(test)]
mod restore_tests;
mod router;
mod routing;
mod scheduler;
mod signed;
mod signer;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use actix::Actor as _;
use ed25519_dalek::SigningKey;
use ledger::block::Header;
use ledger::{ClusterId, Ledger, NodeId};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

pub(crate) use backlog::Backlog;
pub(crate) use router::{Fed, Origin};
pub(crate) use signed::Record;
pub(crate) use signer::Own;

use crate::alarm::Alarms;
use crate::config::Sealing;
use crate::gateway::Gateway;

/// What those who sign and seal are started with.
pub(crate) struct Setup {
    pub(crate) node: NodeId,
    pub(crate) key: SigningKey,
    pub(crate) record: Record,
    pub(crate) gateway: Gateway,
    pub(crate) alarms: Alarms,
    pub(crate) verified: mpsc::UnboundedReceiver<Header>,
    pub(crate) signed: watch::Sender<Option<Own>>,
    pub(crate) sealing: Sealing,
}

/// Recomputes what is applied, from now on, and returns the headers that it verified. To be called before anything is applied: else
/// whoever applies fills the backlog and waits for nobody. Must be called on a `LocalSet` (tokio's, or a simulated host's); it ends
/// with it, or when the state machine is gone.
pub(crate) fn recompute(
    cluster: ClusterId,
    ledger: Arc<RwLock<Ledger>>,
    alarms: Alarms,
    feed: mpsc::UnboundedReceiver<Fed>,
    backlog: Arc<Backlog>,
) -> mpsc::UnboundedReceiver<Header> {
    let (headers, verified) = mpsc::unbounded_channel();
    let attestor = attestor::Attestor::new(cluster, headers, alarms).start();
    let router = router::Router::new(cluster, ledger, attestor, backlog);
    tokio::task::spawn_local(router.run(feed));
    verified
}

/// Starts those who sign and seal. Must be called on a `LocalSet` like [`recompute`]; they end with it, or when the gateway is gone.
pub(crate) fn start(setup: Setup) {
    let signer = signer::Signer {
        node: setup.node,
        key: setup.key,
        record: setup.record,
        verified: setup.verified,
        gateway: setup.gateway.clone(),
        alarms: setup.alarms,
        signed: setup.signed,
    };
    tokio::task::spawn_local(signer.run());
    if setup.sealing.auto {
        scheduler::Scheduler::new(setup.gateway, setup.sealing.grace_epochs).start();
    }
}
