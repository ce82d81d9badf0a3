//! The handle to one member of a group, and how the parts are joined.
//!
//! ```text
//! propose ──► openraft ──► log_store ──► wal ──► Disk
//!    ▲          │   ▲
//!    │          │   └──► transport ──► Network        peers' appends, votes, snapshots, calls
//!    │          ▼
//!    └────── applier ──► StateMachine, snapshot ──► Disk
//! ```
//!
//! A supervisor task owns what must be released last (the directory's lock) and stops the parts in order:
//! openraft, then every task of ours, then the log's writer.

mod barrier;
mod supervisor;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::{ChangeMembers, Raft};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use self::barrier::Barrier;
use crate::applier::Applier;
use crate::attachments::Attachments;
use crate::config::Config;
use crate::disk::Disk;
use crate::error::{
    CallError, ChangeError, Fault, FaultKind, ProposeError, ReadError, StartError, WaitError,
};
use crate::fault::Faults;
use crate::log_store::LogStore;
use crate::machine::StateMachine;
use crate::network::Network;
use crate::pins::Pins;
use crate::runtime::Seeds;
use crate::service::Service;
use crate::snapshot::Shelf;
use crate::status::{Role, Status};
use crate::transport::{self, Caller, Context, Peers, Served};
use crate::types::{AppData, PeerAddr, TypeConfig};

/// One member of a group. Cheap to clone; all clones are the same replica.
///
/// It runs until [`Replica::shutdown`] or a fault. Dropping every handle stops nothing gracefully: tasks end
/// as in a crash, which the log is made to bear.
#[derive(Clone)]
pub struct Replica(Arc<Inner>);

struct Inner {
    config: Config,
    raft: Raft<TypeConfig, Applier>,
    seeds: Seeds,
    barrier: Barrier,
    caller: Caller,
    context: Arc<Context>,
    status: watch::Receiver<Status>,
    faults: Faults,
    applied: watch::Receiver<Option<u64>>,
    /// A wish to stop; the supervisor hears it.
    stop: mpsc::Sender<()>,
    /// Whether the supervisor is through.
    stopped: watch::Receiver<bool>,
    listen: String,
}

impl Replica {
    /// Opens the disk, restores the machine from the newest snapshot, replays what is known to be committed,
    /// listens, and takes part.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        network: Arc<dyn Network>,
        machine: Box<dyn StateMachine>,
        service: Arc<dyn Service>,
    ) -> Result<Replica, StartError> {
        let openraft_config = Arc::new(config.to_openraft().map_err(StartError::Config)?);
        let lock = disk.lock().await.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StartError::Locked(error),
            _ => disk_fault(&error).into(),
        })?;

        let faults = Faults::new();
        let seeds = Seeds::new(config.seed);
        let (cluster, node) = (config.cluster_id, config.node_id);
        let new_disk = (u128::from(seeds.draw()) << 64) | u128::from(seeds.draw());
        let poisoned = faults.clone();
        let on_poison = Box::new(move |error: &io::Error| poisoned.disk(error));
        let log = LogStore::open(Arc::clone(&disk), cluster, node, new_disk, &config.log, on_poison)
            .await
            .map_err(|e| disk_fault(&e))?;
        let pins = Pins::open(Arc::clone(&disk), faults.clone())
            .await
            .map_err(|e| disk_fault(&e))?;
        let attachments = machine
            .attachments()
            .unwrap_or_else(|| Attachments::new(Arc::clone(&disk)));
        let (shelf, newest) = Shelf::open(disk, attachments.clone(), cluster, node)
            .await
            .map_err(|e| disk_fault(&e))?;
        let batch_bytes = config.log.max_batch_bytes;
        let applier = Applier::open(
            machine,
            shelf.clone(),
            newest,
            &config.snapshots,
            batch_bytes,
            faults.clone(),
        )
        .await?;
        let applied = applier.progress();

        let listener = network
            .listen(&config.listen)
            .await
            .map_err(|source| StartError::Listen {
                addr: config.listen.clone(),
                source,
            })?;
        let listen = listener.local_addr();

        let context = Arc::new(Context {
            config: config.clone(),
            identity: *log.identity(),
            network,
            seeds: seeds.clone(),
            pins,
            withheld: tokio::sync::watch::Sender::new(false),
            attachments,
            faults: faults.clone(),
        });
        // Before the log is applied again, which may need what is to be mended.
        let members = applier.clone();
        seeds.spawn(transport::mend(Arc::clone(&context), move || members.members()));
        let starting = Raft::new(
            node,
            openraft_config,
            Peers(Arc::clone(&context)),
            log.clone(),
            applier.clone(),
        );
        // In a task: committed entries are applied again here, and where the caller runs (a `LocalSet`, perhaps) large
        // ones couldn't be computed aside.
        let scoped = seeds.clone();
        let started = tokio::spawn(async move { scoped.scope(starting).await }).await;
        let raft = match started {
            Ok(started) => started.map_err(|fatal| fault_of(&fatal))?,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => return Err(disk_fault(&io::Error::other(cancelled)).into()),
            },
        };

        let served = Served {
            context: Arc::clone(&context),
            raft: raft.clone(),
            shelf,
            service,
        };
        seeds.spawn(transport::serve(listener, Arc::new(served)));
        let barrier = Barrier::start(&seeds, raft.clone(), config.timing.read);
        supervisor::snapshot_by_size(&seeds, raft.clone(), applier);
        let (status, status_rx) = watch::channel(Status {
            id: node,
            ..Status::default()
        });
        let status = Arc::new(status);
        supervisor::mirror_status(
            &seeds,
            &raft,
            applied.clone(),
            Arc::clone(&status),
            faults.clone(),
        );
        supervisor::purge_behind_snapshots(
            &seeds,
            raft.clone(),
            log.clone(),
            status_rx.clone(),
            &config.snapshots,
        );
        supervisor::forget_removed(&seeds, Arc::clone(&context), status_rx.clone(), faults.clone());
        let supervised = faults.clone();
        let (stop, stopped) = supervisor::start(raft.clone(), seeds.clone(), log, status, supervised, lock);

        Ok(Replica(Arc::new(Inner {
            caller: Caller::new(Arc::clone(&context)),
            context,
            config,
            raft,
            seeds,
            barrier,
            status: status_rx,
            faults,
            applied,
            stop,
            stopped,
            listen,
        })))
    }

    /// Forms a group of these voters. To be called on every one of them at the first start, with the same
    /// members; does nothing if the log is not empty.
    ///
    /// # Errors
    /// `Refused` if this node is not among the members.
    pub async fn initialize(&self, members: BTreeMap<u64, PeerAddr>) -> Result<(), ChangeError> {
        match self.0.seeds.scope(self.0.raft.initialize(members)).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(refused)) => Err(ChangeError::Refused(refused.to_string())),
            Err(RaftError::Fatal(_)) => Err(ChangeError::Stopped),
        }
    }

    /// Appends payloads, in this order and next to one another, and returns their indexes once all are
    /// committed and applied here. Many calls may be under way at once.
    ///
    /// # Errors
    /// See [`ProposeError`]; dropping the future leaves the outcome unknown too.
    pub async fn propose(&self, payloads: Vec<Bytes>) -> Result<Vec<u64>, ProposeError> {
        let limit = self.0.config.log.max_payload_bytes;
        if let Some(large) = payloads.iter().find(|payload| payload.len() > limit) {
            return Err(ProposeError::TooLarge {
                bytes: large.len(),
                limit,
            });
        }
        let proposing = self.0.seeds.scope(self.write(payloads));
        match timeout(self.0.config.timing.propose, proposing).await {
            Ok(result) => result,
            Err(_) => Err(ProposeError::Unknown("not applied before the deadline".into())),
        }
    }

    async fn write(&self, payloads: Vec<Bytes>) -> Result<Vec<u64>, ProposeError> {
        let count = payloads.len();
        let mut results = self
            .0
            .raft
            .client_write_many(payloads.into_iter().map(AppData))
            .await
            .map_err(|_| ProposeError::Stopped)?;
        let mut indexes = Vec::with_capacity(count);
        while let Some(result) = results.next().await {
            match result.map_err(|_| ProposeError::Stopped)? {
                Ok(written) => indexes.push(written.log_id.index()),
                // openraft takes or rejects a call's payloads together, before any is appended.
                Err(ClientWriteError::ForwardToLeader(forward)) if indexes.is_empty() => {
                    return Err(ProposeError::NotLeader {
                        leader: forward.leader_id,
                    });
                }
                Err(error) => return Err(ProposeError::Unknown(error.to_string())),
            }
        }
        if indexes.len() == count {
            Ok(indexes)
        } else {
            Err(ProposeError::Stopped)
        }
    }

    /// On the leader: an index such that state which has applied it shows every write that was acknowledged
    /// anywhere before this call. Does not wait for the apply: see [`Replica::wait_applied`].
    ///
    /// This is ReadIndex: a majority confirms, after the call, that this node still leads. All who ask while a
    /// round is under way share the next one.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        self.0.barrier.pass().await
    }

    /// Waits until the machine here has applied `index`.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn wait_applied(&self, index: u64, deadline: Duration) -> Result<(), WaitError> {
        let mut applied = self.0.applied.clone();
        let waiting = async {
            tokio::select! {
                biased;
                reached = applied.wait_for(|applied| *applied >= Some(index)) => {
                    reached.map(drop).map_err(|_| WaitError::Stopped)
                }
                () = self.0.seeds.stopped() => Err(WaitError::Stopped),
            }
        };
        timeout(deadline, waiting)
            .await
            .unwrap_or(Err(WaitError::Deadline))
    }

    /// Sends a request to a member's [`Service`] and waits for the answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, peer: u64, request: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        if self.0.seeds.is_stopped() {
            return Err(CallError::Stopped);
        }
        let addr = self.0.status.borrow().addrs.get(&peer).cloned();
        let Some(addr) = addr else {
            return Err(CallError::UnknownPeer(peer));
        };
        self.0.caller.call(peer, &addr.0, request, deadline).await
    }

    /// From here on no peer gets a snapshot of this replica; one on its way is broken off. For a node that no longer
    /// trusts its own state. It still takes part in votes and passes the log on.
    pub fn withhold_snapshots(&self) {
        self.0.context.withheld.send_replace(true);
    }

    /// On the leader: adds a member without a vote, and returns the entry's index; it may still be catching
    /// up then.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add_learner(&self, id: u64, addr: PeerAddr) -> Result<u64, ChangeError> {
        self.change(async { self.0.raft.add_learner(id, addr, false).await })
            .await
    }

    /// On the leader: makes exactly these members the voters, by joint consensus; voters that are not among
    /// them become learners. Returns the index of the final configuration.
    ///
    /// # Errors
    /// See [`ChangeError`]; a joint configuration may be left behind, which the next change completes.
    pub async fn change_voters(&self, voters: BTreeSet<u64>) -> Result<u64, ChangeError> {
        self.change(async { self.0.raft.change_membership(voters, true).await })
            .await
    }

    /// On the leader: removes a member, voter or learner. Returns the index of the final configuration. A
    /// leader that removes itself hands leadership over a moment later.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove(&self, id: u64) -> Result<u64, ChangeError> {
        let status = self.status();
        let change = if status.voters.iter().any(|voters| voters.contains(&id)) {
            ChangeMembers::RemoveVoters(BTreeSet::from([id]))
        } else if status.learners.contains(&id) {
            ChangeMembers::RemoveNodes(BTreeSet::from([id]))
        } else {
            return Err(ChangeError::Refused(format!("node {id} is not a member")));
        };
        self.change(async { self.0.raft.change_membership(change, false).await })
            .await
    }

    async fn change(&self, change: impl Future<Output = MembershipResult>) -> Result<u64, ChangeError> {
        // A change is two entries; each may take as long as a proposal.
        let deadline = 2 * self.0.config.timing.propose;
        match timeout(deadline, self.0.seeds.scope(change)).await {
            Err(_) => Err(ChangeError::Unknown("not committed before the deadline".into())),
            Ok(Ok(done)) => Ok(done.log_id.index()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Err(ChangeError::NotLeader {
                    leader: forward.leader_id,
                })
            }
            Ok(Err(RaftError::APIError(unknown @ ClientWriteError::LogEntryDiscarded(_)))) => {
                Err(ChangeError::Unknown(unknown.to_string()))
            }
            Ok(Err(RaftError::APIError(refused))) => Err(ChangeError::Refused(refused.to_string())),
            Ok(Err(RaftError::Fatal(_))) => Err(ChangeError::Stopped),
        }
    }

    /// On the leader: hands leadership to `to`, or to the voter that is furthest along, and returns who leads
    /// then. Until someone does, proposals are answered with `NotLeader`.
    ///
    /// # Errors
    /// `Refused` if there is no such voter; `Unknown` if no other leader showed up in time.
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<u64, ChangeError> {
        let status = self.status();
        if status.role != Role::Leader {
            return Err(ChangeError::NotLeader {
                leader: status.leader,
            });
        }
        let me = status.id;
        let others = status
            .voters
            .iter()
            .flatten()
            .copied()
            .filter(|voter| *voter != me);
        let to = match to {
            Some(to) if to == me => return Ok(me),
            Some(to) => others.into_iter().find(|voter| *voter == to),
            None => others.max_by_key(|voter| status.matched.get(voter).copied().flatten()),
        };
        let Some(to) = to else {
            return Err(ChangeError::Refused("no such voter to lead".into()));
        };
        let transfer = self
            .0
            .seeds
            .scope(self.0.raft.trigger().transfer_leader(to))
            .await;
        transfer.map_err(|_| ChangeError::Stopped)?;
        let deadline = 3 * self.0.config.timing.election_max;
        let mut watch = self.0.status.clone();
        let done = watch.wait_for(|status| status.leader.is_some_and(|leader| leader != me));
        match timeout(deadline, done).await {
            Ok(Ok(status)) => Ok(status.leader.unwrap_or(to)),
            Ok(Err(_)) => Err(ChangeError::Stopped),
            Err(_) => Err(ChangeError::Unknown(format!(
                "node {to} did not take over in time"
            ))),
        }
    }

    /// Takes a snapshot of what is applied now, and returns the index that the newest one covers once it is
    /// durable; `None` if nothing was applied yet.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn trigger_snapshot(&self, deadline: Duration) -> Result<Option<u64>, WaitError> {
        let Some(applied) = *self.0.applied.borrow() else {
            return Ok(None);
        };
        let mut status = self.0.status.clone();
        let taking = async {
            self.0
                .seeds
                .scope(self.0.raft.trigger().snapshot())
                .await
                .map_err(|_| WaitError::Stopped)?;
            let reached =
                status.wait_for(|status| status.snapshot >= Some(applied) || status.role == Role::Stopped);
            let status = reached.await.map_err(|_| WaitError::Stopped)?;
            if status.snapshot >= Some(applied) {
                Ok(status.snapshot)
            } else {
                Err(WaitError::Stopped)
            }
        };
        timeout(deadline, taking)
            .await
            .unwrap_or(Err(WaitError::Deadline))
    }

    /// Drops log up to `index`, as far as a durable snapshot covers it. Returns at once; see
    /// [`Status::purged`].
    ///
    /// # Errors
    /// `Stopped` only.
    pub async fn purge(&self, index: u64) -> Result<(), WaitError> {
        self.0
            .seeds
            .scope(self.0.raft.trigger().purge_log(index))
            .await
            .map_err(|_| WaitError::Stopped)
    }

    /// The status now.
    pub fn status(&self) -> Status {
        let shown = self.0.status.borrow();
        if shown.role == Role::Stopped {
            return shown.clone();
        }
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        supervisor::to_status(&metrics, *self.0.applied.borrow())
    }

    /// Every change of the status, the newest only: of leader and members at once, of progress within some
    /// hundredths of a second.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.0.status.clone()
    }

    /// The last applied index, the newest only; changes after the machine's `apply` returned.
    pub fn watch_applied(&self) -> watch::Receiver<Option<u64>> {
        self.0.applied.clone()
    }

    /// `Some` once the replica has stopped for a reason.
    pub fn fault(&self) -> watch::Receiver<Option<Fault>> {
        self.0.faults.watch()
    }

    /// Stops the replica as if its log had failed: for whoever keeps something else on the same disk that a node can't
    /// do without.
    pub fn disk_failed(&self, error: &io::Error) {
        self.0.faults.disk(error);
    }

    /// Where it listens, with the port that was picked.
    pub fn listen_addr(&self) -> &str {
        &self.0.listen
    }

    /// Hands leadership over if it leads, stops taking requests, flushes, closes, and releases the directory.
    /// Idempotent; all callers wait for the same end.
    ///
    /// # Errors
    /// The fault, if it had stopped for one.
    pub async fn shutdown(&self) -> Result<(), Fault> {
        if self.0.faults.watch().borrow().is_none() && !self.0.seeds.is_stopped() {
            // Nobody may be there to take over; then the others elect someone later.
            let _ = self.transfer_leader(None).await;
        }
        // A full queue holds the same wish; a closed one means that it is over already.
        let _ = self.0.stop.try_send(());
        let mut stopped = self.0.stopped.clone();
        // An error means that the supervisor is gone, and all that it held with it.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        match &*self.0.faults.watch().borrow() {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }
}

type MembershipResult = Result<
    openraft::raft::ClientWriteResponse<TypeConfig>,
    RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
>;

fn disk_fault(error: &io::Error) -> Fault {
    Fault {
        kind: FaultKind::Disk,
        message: error.to_string(),
    }
}

/// What openraft stopped for, in our words.
fn fault_of(fatal: &Fatal<TypeConfig>) -> Fault {
    let kind = if matches!(fatal, Fatal::StorageError(_)) {
        FaultKind::Disk
    } else {
        FaultKind::Core
    };
    Fault {
        kind,
        message: fatal.to_string(),
    }
}
