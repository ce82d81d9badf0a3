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
mod router;
mod routing;
mod scheduler;
mod signed;
mod signer;

use std::sync::Arc;

use actix::Actor as _;
use ed25519_dalek::SigningKey;
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

/// What the actors are started with.
pub(crate) struct Setup {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) key: SigningKey,
    pub(crate) ledger: Arc<RwLock<Ledger>>,
    pub(crate) record: Record,
    pub(crate) gateway: Gateway,
    pub(crate) alarms: Alarms,
    pub(crate) feed: mpsc::UnboundedReceiver<Fed>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) signed: watch::Sender<Option<Own>>,
    pub(crate) sealing: Sealing,
}

/// Starts them all. Must be called on a `LocalSet` (tokio's, or a simulated host's); they end with it, or when
/// the state machine and the gateway are gone.
pub(crate) fn start(setup: Setup) {
    let (headers, verified) = mpsc::unbounded_channel();
    let attestor = attestor::Attestor::new(setup.cluster, headers, setup.alarms.clone()).start();
    let router = router::Router::new(setup.cluster, setup.ledger, attestor, setup.backlog);
    tokio::task::spawn_local(router.run(setup.feed));
    let signer = signer::Signer {
        node: setup.node,
        key: setup.key,
        record: setup.record,
        verified,
        gateway: setup.gateway.clone(),
        alarms: setup.alarms,
        signed: setup.signed,
    };
    tokio::task::spawn_local(signer.run());
    if setup.sealing.auto {
        scheduler::Scheduler::new(setup.gateway, setup.sealing.grace_epochs).start();
    }
}
