//! A leader whose process is gone is not waited for.
//!
//! A follower whose connection from the leader ends dials the leader. If the connection is *refused*, nobody
//! listens there any more: the process was killed, for a leader that stops by itself hands over first. The
//! follower then gives up the lease under which it protects that leader from others, and asks the rest for a
//! pre-vote after a short random delay, again and again until somebody leads.
//!
//! What always holds: this decides only *when* to ask. A leader that lives after all (its port was closed to
//! this node alone, say) is kept by the others' leases: the pre-votes fail, and no term is spent. Silence proves
//! nothing and is left to the election timeout. No read relies on a lease, so giving one up is always safe.

use std::io;
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;

use super::Context;
use super::hello::{self, Lane};
use crate::applier::Applier;
use crate::types::{LeaderId, TypeConfig, Vote};

/// The longest wait before one pre-vote. Long beside a vote's sync, so that two followers seldom ask at once.
const DELAY: Duration = Duration::from_millis(30);
/// How often to look whether somebody listens, while connections break.
const LOOKS: usize = 20;
/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// How a connection breaks that was accepted by an ending process.
const BROKEN: [io::ErrorKind; 3] = [
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::UnexpectedEof,
];
/// Pre-votes before the rest is left to the election timeout.
const ATTEMPTS: usize = 10;

/// To be called when a connection from `peer` ended on which it sent appends.
pub(super) async fn lost(context: &Context, raft: &Raft<TypeConfig, Applier>, peer: u64) {
    let Some((vote, addr)) = leads(raft, peer) else {
        return;
    };
    if !is_gone(context, peer, &addr).await {
        return;
    }
    tracing::info!(leader = peer, "nobody listens where the leader was");
    // The leader's own word that it may be replaced, had it come to say it: gives up the lease, no more,
    // because it names another node than this one.
    let released = raft
        .handle_transfer_leader(TransferLeaderRequest::new(vote, peer, None))
        .await;
    if released.is_err() {
        return;
    }
    for _ in 0..ATTEMPTS {
        tokio::time::sleep(delay(context)).await;
        if leads(raft, peer).is_none_or(|(now, _)| now != vote) || raft.trigger().elect(true).await.is_err() {
            return;
        }
    }
}

/// The vote under which `peer` leads this node, and its address, if it does.
fn leads(raft: &Raft<TypeConfig, Applier>, peer: u64) -> Option<(Vote, String)> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    if metrics.current_leader != Some(peer) || metrics.id == peer {
        return None;
    }
    // The vote that is shown is the one on disk, which may lag behind.
    let leader_id = LeaderId {
        term: metrics.current_term,
        node_id: peer,
    };
    let vote = Vote {
        leader_id,
        committed: true,
    };
    let addr = metrics.membership_config.membership().get_node(&peer)?;
    Some((vote, addr.0.clone()))
}

/// Whether the other end says that nobody listens; what never answers says nothing. A process that is just ending
/// may close its connections before its port: what is accepted then, and breaks before a word, is dialed again.
async fn is_gone(context: &Context, peer: u64, addr: &str) -> bool {
    for _ in 0..LOOKS {
        match hello::dial(context, peer, addr, Lane::Control).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
            Err(error) if BROKEN.contains(&error.kind()) => tokio::time::sleep(BETWEEN_LOOKS).await,
            _ => return false,
        }
    }
    false
}

fn delay(context: &Context) -> Duration {
    let micros = u64::try_from(DELAY.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(context.seeds.draw() % micros)
}
