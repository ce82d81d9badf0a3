//! The tasks around openraft: the status it shows, snapshots by size, and the end of it all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, RaftMetrics, ServerState};
use tokio::sync::{mpsc, watch};

use super::fault_of;
use crate::applier::Applier;
use crate::config::SnapshotPolicy;
use crate::disk::DiskLock;
use crate::error::{Fault, FaultKind};
use crate::fault::Faults;
use crate::log_store::LogStore;
use crate::runtime::Seeds;
use crate::status::{Role, Status};
use crate::transport::Context;
use crate::types::TypeConfig;

/// Triggers a snapshot whenever enough bytes were applied.
pub(super) fn snapshot_by_size(seeds: &Seeds, raft: Raft<TypeConfig, Applier>, applier: Applier) {
    seeds.spawn(async move {
        loop {
            applier.snapshot_due().await;
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    });
}

/// Drops log behind each new snapshot but for what should stay, by count and by size.
///
/// openraft could do it by count. It would take back what it was told to drop before and could not drop yet, because it led and a
/// follower was being sent it; with debug assertions it panics over that (0.10.0-alpha.37, `LogHandler::update_purge_upto`).
pub(super) fn purge_behind_snapshots(
    seeds: &Seeds,
    raft: Raft<TypeConfig, Applier>,
    log: LogStore,
    mut status: watch::Receiver<Status>,
    keep: &SnapshotPolicy,
) {
    let (keep_entries, keep_bytes) = (keep.keep_entries, keep.keep_bytes);
    seeds.spawn(async move {
        let mut purged = None;
        loop {
            let covered = status.borrow_and_update().snapshot;
            if covered > purged {
                purged = covered;
                let beyond = covered.and_then(|covered| {
                    let by_count = covered.checked_sub(keep_entries);
                    by_count.max(log.beyond(covered, keep_bytes))
                });
                if let Some(beyond) = beyond
                    && raft.trigger().purge_log(beyond).await.is_err()
                {
                    return;
                }
            }
            if status.changed().await.is_err() {
                return;
            }
        }
    });
}

/// How long progress gathers before the status is made anew.
const PROGRESS: Duration = Duration::from_millis(20);

/// Keeps the status up to date, and reports it when openraft stops by itself. Who leads and who is a member is told
/// at once. Progress, which changes several times an entry, is told now and then: each time wakes all who watch.
pub(super) fn mirror_status(
    seeds: &Seeds,
    raft: &Raft<TypeConfig, Applier>,
    mut applied: watch::Receiver<Option<u64>>,
    status: Arc<watch::Sender<Status>>,
    faults: Faults,
) {
    let mut metrics = raft.metrics();
    let mut server = raft.server_metrics();
    seeds.spawn(async move {
        let mut gone = false;
        loop {
            let (seen, stopped) = {
                let metrics = metrics.borrow_and_update();
                (
                    to_status(&metrics, *applied.borrow_and_update()),
                    metrics.running_state.clone().err(),
                )
            };
            status.send_if_modified(|known| {
                let changed = *known != seen;
                *known = seen;
                changed
            });
            if let Some(fatal) = stopped {
                if !matches!(fatal, openraft::errors::Fatal::Stopped) {
                    faults.report(fault_of(&fatal));
                }
                return;
            }
            if gone {
                // It ends with a word, be it only that it was told to.
                faults.report(Fault {
                    kind: FaultKind::Core,
                    message: "openraft ended without saying why: it panicked".to_owned(),
                });
                return;
            }
            let progress = async {
                let alive = tokio::select! {
                    biased;
                    changed = metrics.changed() => changed.is_ok(),
                    changed = applied.changed() => changed.is_ok(),
                };
                tokio::time::sleep(PROGRESS).await;
                alive
            };
            let alive = tokio::select! {
                biased;
                changed = server.changed() => changed.is_ok(),
                alive = progress => alive,
            };
            // Once more around, for openraft's last words.
            gone = !alive;
        }
    });
}

/// Forgets the disks of members that were removed: their ids are free for others.
pub(super) fn forget_removed(
    seeds: &Seeds,
    context: Arc<Context>,
    mut status: watch::Receiver<Status>,
    faults: Faults,
) {
    seeds.spawn(async move {
        let mut members = BTreeSet::new();
        loop {
            let now: BTreeSet<u64> = status.borrow_and_update().addrs.keys().copied().collect();
            for gone in members.difference(&now) {
                if let Err(error) = context.pins.forget(*gone).await {
                    faults.disk(&error);
                    return;
                }
            }
            members = now;
            if status.changed().await.is_err() {
                return;
            }
        }
    });
}

/// What openraft and the applier show, in our words.
pub(super) fn to_status(metrics: &RaftMetrics<TypeConfig>, applied: Option<u64>) -> Status {
    let membership = metrics.membership_config.membership();
    let index = |log_id: &Option<crate::types::LogId>| log_id.map(|log_id| log_id.index());
    Status {
        id: metrics.id,
        leader: metrics.current_leader,
        term: metrics.current_term,
        role: match metrics.state {
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        },
        last_log: metrics.last_log_index,
        committed: index(&metrics.local_committed),
        applied: applied.max(index(&metrics.last_applied)),
        snapshot: index(&metrics.snapshot),
        purged: index(&metrics.purged),
        membership_at: index(metrics.membership_config.log_id()),
        voters: membership.get_joint_config().clone(),
        learners: membership.learner_ids().collect(),
        addrs: membership.nodes().map(|(id, addr)| (*id, addr.clone())).collect(),
        matched: metrics
            .replication
            .iter()
            .flatten()
            .map(|(id, matched)| (*id, index(matched)))
            .collect(),
    }
}

/// Starts the task that holds the directory and ends everything: when told to, or for a fault.
pub(super) fn start(
    raft: Raft<TypeConfig, Applier>,
    seeds: Seeds,
    log: LogStore,
    status: Arc<watch::Sender<Status>>,
    faults: Faults,
    lock: DiskLock,
) -> (mpsc::Sender<()>, watch::Receiver<bool>) {
    let (stop_tx, mut stop) = mpsc::channel(1);
    let (stopped_tx, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            // Without a handle left nobody can tell; the replica runs on until it faults or the process ends.
            Some(()) = stop.recv() => {}
            () = faults.any() => {}
        }
        if let Err(error) = raft.shutdown().await {
            tracing::error!(%error, "openraft ended badly");
        }
        seeds.stop().await;
        if let Err(error) = log.close().await {
            faults.disk(&error);
        }
        status.send_modify(|status| {
            status.role = Role::Stopped;
            status.leader = None;
            status.matched.clear();
        });
        drop(lock);
        stopped_tx.send_replace(true);
    });
    (stop_tx, stopped)
}
