//! openraft's view of the state machine: batches of committed entries in, snapshots out.
//!
//! # What always holds
//!
//! - The machine, the last applied log id and the membership change together, under one lock, so that a
//!   snapshot names exactly the entries that are in it.
//! - A snapshot is taken over only when it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload as Kind, OptionalSend};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::attachments::{Hold, MISSING};
use crate::codec;
use crate::config::SnapshotPolicy;
use crate::error::{Fault, FaultKind};
use crate::fault::Faults;
use crate::machine::{Capture, Committed, Payload, StateMachine};
use crate::snapshot::{Draft, Shelf, SnapshotFile};
use crate::threads::{Pace, Pieces, aside};
use crate::types::{Entry, LogId, PeerAddr, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

/// A batch of this many payload bytes is applied aside: it takes longer than going there.
const LARGE_BATCH: usize = 16 << 10;

/// What openraft hands around as a snapshot's data.
pub(crate) enum SnapshotData {
    /// In its place on disk.
    Stored(SnapshotFile),
    /// Received, to be made durable when it is installed; its attachments are here.
    Received(Box<Draft>, Vec<Hold>),
}

/// The machine with what it has applied.
struct Applied {
    machine: Box<dyn StateMachine>,
    last: Option<LogId>,
    membership: StoredMembership,
    /// Payload bytes since the last snapshot.
    bytes: u64,
}

/// Feeds the machine. All clones feed the same one.
#[derive(Clone)]
pub(crate) struct Applier {
    applied: Arc<Mutex<Applied>>,
    newest: Arc<Mutex<Option<(SnapshotMeta, SnapshotFile)>>>,
    shelf: Shelf,
    progress: Arc<watch::Sender<Option<u64>>>,
    /// Told when enough bytes were applied that a snapshot is due.
    due: Arc<tokio::sync::Notify>,
    due_bytes: u64,
    batch_bytes: usize,
    faults: Faults,
}

impl Applier {
    /// Restores the machine from the newest snapshot, if there is one.
    ///
    /// # Errors
    /// A disk fault if it can't be read, a machine fault if the machine refuses it.
    pub(crate) async fn open(
        machine: Box<dyn StateMachine>,
        shelf: Shelf,
        newest: Option<(SnapshotMeta, SnapshotFile)>,
        policy: &SnapshotPolicy,
        batch_bytes: usize,
        faults: Faults,
    ) -> Result<Applier, Fault> {
        let empty = Applied {
            machine,
            last: None,
            membership: StoredMembership::default(),
            bytes: 0,
        };
        let applier = Applier {
            applied: Arc::new(Mutex::new(empty)),
            newest: Arc::new(Mutex::new(None)),
            shelf,
            progress: Arc::new(watch::Sender::new(None)),
            due: Arc::new(tokio::sync::Notify::new()),
            due_bytes: if policy.every_bytes == 0 {
                u64::MAX
            } else {
                policy.every_bytes
            },
            batch_bytes,
            faults,
        };
        let disk_fault = |e: io::Error| Fault {
            kind: FaultKind::Disk,
            message: e.to_string(),
        };
        let attachments = &applier.shelf.attachments;
        let present = attachments
            .open(applier.faults.clone())
            .await
            .map_err(disk_fault)?;
        if let Some((meta, file)) = newest {
            for missing in file.attachments.iter().filter(|a| !present.contains(&a.name)) {
                attachments.report(missing, MISSING);
            }
            applier.restore(meta, file, true).await?;
        }
        applier.sweep().await.map_err(disk_fault)?;
        Ok(applier)
    }

    /// The last applied index.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<u64>> {
        self.progress.subscribe()
    }

    /// The members, as of the last applied entry, and where they are.
    pub(crate) fn members(&self) -> BTreeMap<u64, PeerAddr> {
        let membership = self.applied.lock().membership.clone();
        membership.nodes().map(|(id, addr)| (*id, addr.clone())).collect()
    }

    /// Waits until a snapshot is due by size.
    pub(crate) async fn snapshot_due(&self) {
        self.due.notified().await;
    }

    async fn restore(&self, meta: SnapshotMeta, file: SnapshotFile, starting: bool) -> Result<(), Fault> {
        let body = file.load().await.map_err(|e| Fault {
            kind: FaultKind::Disk,
            message: e.to_string(),
        })?;
        // One that covers no entry is the state that every machine begins with.
        if let Some(last) = meta.last_log_id {
            let mut applied = self.applied.lock();
            let restore = || applied.machine.restore(body, last.index());
            // Before the start nothing goes on beside.
            let restored = aside_if(!starting, restore);
            restored.map_err(|e| Fault {
                kind: FaultKind::Machine,
                message: format!("{}: {e}", file.path),
            })?;
            applied.last = Some(last);
            applied.membership = meta.last_membership.clone();
            applied.bytes = 0;
            drop(applied);
            self.progress.send_replace(Some(last.index()));
        }
        *self.newest.lock() = Some((meta, file));
        Ok(())
    }

    /// Removes the attachments that nothing refers to any more.
    async fn sweep(&self) -> io::Result<()> {
        let keep = || -> BTreeSet<String> {
            let mut kept = self.applied.lock().machine.attached();
            if let Some((_, newest)) = &*self.newest.lock() {
                kept.extend(newest.attachments.iter().map(|a| a.name.clone()));
            }
            kept
        };
        self.shelf.attachments.sweep(keep).await
    }

    async fn apply_batch(&self, batch: Vec<Entry>) -> io::Result<()> {
        let Some(last) = batch.last().map(|entry| entry.log_id) else {
            return Ok(());
        };
        let mut bytes = 0;
        let mut newest_membership = None;
        let committed: Vec<Committed> = batch
            .into_iter()
            .map(|entry| {
                bytes += codec::entry_bytes(&entry);
                let log_id = entry.log_id;
                let leader = log_id.committed_leader_id();
                let payload = match entry.payload {
                    Kind::Blank => Payload::Blank,
                    Kind::Normal(data) => Payload::App(data.0),
                    Kind::Membership(membership) => {
                        let voters = membership.get_joint_config().clone();
                        newest_membership = Some(StoredMembership::new(Some(log_id), membership));
                        Payload::Membership(voters)
                    }
                };
                Committed {
                    index: log_id.index(),
                    term: leader.term,
                    leader: leader.node_id,
                    payload,
                }
            })
            .collect();
        let room = self.applied.lock().machine.room();
        if let Some(room) = room {
            room.await;
        }
        let large = bytes >= LARGE_BATCH;
        let preparing = {
            let mut applied = self.applied.lock();
            aside_if(large, || applied.machine.prepare(&committed))
        };
        if let Some(preparing) = preparing {
            preparing.await.map_err(|e| self.fail(e))?;
        }
        let mut applied = self.applied.lock();
        aside_if(large, || applied.machine.apply(committed));
        applied.last = Some(last);
        applied.bytes += bytes as u64;
        if let Some(membership) = newest_membership {
            applied.membership = membership;
        }
        let due = applied.bytes >= self.due();
        drop(applied);
        self.progress.send_replace(Some(last.index()));
        if due {
            self.due.notify_one();
        }
        Ok(())
    }

    /// After how many bytes of log a snapshot is due. One that has more than twice as many itself would be written rather
    /// often; one that has fewer saves more of the next start than it costs, for applying a byte of log takes far
    /// longer than encoding one of the state.
    fn due(&self) -> u64 {
        let newest = self.newest.lock().as_ref().map_or(0, |(_, file)| file.body_bytes);
        self.due_bytes.max(newest / 2)
    }

    /// Stops the replica for a disk that failed outside the log.
    fn fail(&self, error: io::Error) -> io::Error {
        self.faults.disk(&error);
        error
    }
}

/// Computes aside where that is worth the way there.
fn aside_if<T>(worth: bool, compute: impl FnOnce() -> T) -> T {
    if worth { aside(compute) } else { compute() }
}

impl RaftStateMachine<TypeConfig> for Applier {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.applied.lock();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut entries = entries.fuse();
        let mut next = entries.next().await;
        while let Some(first) = next {
            let (entry, responder) = first?;
            let mut bytes = codec::entry_bytes(&entry);
            let mut batch = vec![entry];
            let mut responders = Vec::from_iter(responder);
            // What is there already goes to the machine at once; an error waits until that is done.
            let mut failed = None;
            while bytes < self.batch_bytes
                && let Some(Some(item)) = entries.next().now_or_never()
            {
                match item {
                    Ok((entry, responder)) => {
                        bytes += codec::entry_bytes(&entry);
                        batch.push(entry);
                        responders.extend(responder);
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            self.apply_batch(batch).await?;
            for responder in responders {
                responder.send(());
            }
            next = match failed {
                Some(error) => Some(Err(error)),
                None => entries.next().await,
            };
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let due = self.due();
        let mut applied = self.applied.lock();
        let since = std::mem::take(&mut applied.bytes);
        let meta = SnapshotMeta {
            last_log_id: applied.last,
            last_membership: applied.membership.clone(),
        };
        // The one before took so long that this one is overdue.
        let pace = match since >= due.saturating_mul(2) {
            true => Pace::Beside,
            false => Pace::Behind,
        };
        let capture = aside(|| applied.machine.snapshot());
        let names = capture.attachments.iter().map(|a| a.name.clone());
        let held = self.shelf.attachments.hold(names);
        Builder {
            capture: Mutex::new(Some((capture, held))),
            pace,
            meta,
            applier: self.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let (meta, file, received) = match snapshot {
            SnapshotData::Stored(file) => (meta.clone(), file, None),
            SnapshotData::Received(draft, held) => {
                let (meta, file) = self.shelf.finish(*draft).await.map_err(|e| self.fail(e))?;
                (meta, file, Some(held))
            }
        };
        if let Err(fault) = self.restore(meta.clone(), file.clone(), false).await {
            // What this node had before is still here, and is what it starts with again.
            if received.is_some() && fault.kind == FaultKind::Machine {
                self.shelf.take_back(&file).await.map_err(|e| self.fail(e))?;
            }
            let error = io::Error::other(fault.message.clone());
            self.faults.report(fault);
            return Err(error);
        }
        self.shelf.replace(&meta).await.map_err(|e| self.fail(e))?;
        drop(received);
        self.sweep().await.map_err(|e| self.fail(e))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<SnapshotData>>> {
        Ok(self.newest.lock().clone().map(|(meta, file)| Snapshot {
            meta,
            snapshot: SnapshotData::Stored(file),
        }))
    }
}

/// A captured state on its way to disk, beside the machine, which goes on.
pub(crate) struct Builder {
    capture: Mutex<Option<(Capture, Hold)>>,
    pace: Pace,
    meta: SnapshotMeta,
    applier: Applier,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<SnapshotData>> {
        let capture = self.capture.lock().take();
        let Some((capture, held)) = capture else {
            return Err(io::Error::other("a snapshot is built once"));
        };
        let body = Pieces::of(self.pace, capture.encode).map_err(|e| self.applier.fail(e))?;
        if planted!("snapshot-index-ahead") {
            // Encoding takes a moment, during which the machine goes on.
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            let applied = self.applier.applied.lock();
            self.meta.last_log_id = applied.last;
            self.meta.last_membership = applied.membership.clone();
        }
        let shelf = &self.applier.shelf;
        let saved = shelf.save(self.meta.clone(), capture.attachments, body).await;
        let (meta, file) = saved.map_err(|e| self.applier.fail(e))?;
        {
            let mut newest = self.applier.newest.lock();
            // A newer one may have been received meanwhile.
            if newest
                .as_ref()
                .is_none_or(|(known, _)| known.last_log_id <= meta.last_log_id)
            {
                *newest = Some((meta.clone(), file.clone()));
            }
        }
        drop(held);
        self.applier.sweep().await.map_err(|e| self.applier.fail(e))?;
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Stored(file),
        })
    }
}
