//! Snapshots that refer to files: a machine that moves what it has applied into attachments, eight payloads each.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{Failure, Keep, MemoryDisk, MemoryNetwork};
use crate::attachments::{Attachment, Attachments, By};
use crate::machine::{Capture, Committed, Payload, RestoreError, StateMachine};
use crate::{Config, Fault, FaultKind, NoService, PeerAddr, Replica, Role, StartError};

const PATIENCE: Duration = Duration::from_secs(60);
/// Payloads of one file.
const MOVED: usize = 8;

#[derive(Default)]
struct State {
    open: Vec<Bytes>,
    files: Vec<Attachment>,
}

/// The machine; its clones share the state.
#[derive(Clone)]
struct Mover {
    state: Arc<Mutex<State>>,
    attachments: Attachments,
    /// Whether it takes no snapshot.
    refuses: Arc<AtomicBool>,
}

impl Mover {
    fn new(disk: &MemoryDisk) -> Mover {
        Mover {
            state: Arc::default(),
            attachments: Attachments::new(Arc::new(disk.clone())),
            refuses: Arc::default(),
        }
    }

    fn files(&self) -> Vec<Attachment> {
        self.state.lock().files.clone()
    }

    /// All that was applied, in order, as far as the files can be read.
    async fn payloads(&self) -> io::Result<Vec<Bytes>> {
        let mut all = Vec::new();
        for file in self.files() {
            let content = self.attachments.read(&file).await.map_err(io::Error::other)?;
            all.extend(postcard::from_bytes::<Vec<Bytes>>(&content).map_err(io::Error::other)?);
        }
        all.extend(self.state.lock().open.clone());
        Ok(all)
    }
}

impl StateMachine for Mover {
    fn prepare(&mut self, _batch: &[Committed]) -> Option<BoxFuture<'static, io::Result<()>>> {
        let machine = self.clone();
        (self.state.lock().open.len() >= MOVED).then(|| {
            let moving: BoxFuture<'static, _> = Box::pin(async move {
                let moved = machine.state.lock().open[..MOVED].to_vec();
                let content = crate::codec::encode_postcard(&moved);
                let name = format!("{:08x}.payloads", crc32c::crc32c(&content));
                let attachment = Attachment::of(name, &content);
                let held = machine.attachments.write(&attachment, content).await?;
                let mut state = machine.state.lock();
                state.open.drain(..MOVED);
                state.files.push(attachment);
                drop(held);
                Ok(())
            });
            moving
        })
    }

    fn apply(&mut self, batch: Vec<Committed>) {
        let payloads = batch.into_iter().filter_map(|entry| match entry.payload {
            Payload::App(payload) => Some(payload),
            _ => None,
        });
        self.state.lock().open.extend(payloads);
    }

    fn snapshot(&mut self) -> Capture {
        let state = self.state.lock();
        let body = crate::codec::encode_postcard(&(&state.open, &state.files));
        Capture {
            encode: Box::new(move |give| give(body)),
            attachments: state.files.clone(),
        }
    }

    fn restore(&mut self, snapshot: Bytes, _index: u64) -> Result<(), RestoreError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(RestoreError("on purpose".to_owned()));
        }
        let (open, files) = postcard::from_bytes(&snapshot).map_err(|e| RestoreError(e.to_string()))?;
        *self.state.lock() = State { open, files };
        Ok(())
    }

    fn attachments(&self) -> Option<Attachments> {
        Some(self.attachments.clone())
    }

    fn attached(&self) -> BTreeSet<String> {
        self.files().into_iter().map(|file| file.name).collect()
    }
}

async fn start(
    id: u64,
    disk: &MemoryDisk,
    network: &MemoryNetwork,
    machine: &Mover,
) -> Result<Replica, StartError> {
    let mut config = Config::new(id, [4; 32], format!("node{id}"), id);
    config.log.segment_bytes = 16 << 10;
    config.snapshots.every_entries = 0;
    config.snapshots.every_bytes = 0;
    config.snapshots.keep_entries = 0;
    // Files and the body take several chunks.
    config.snapshots.chunk_bytes = 64;
    let (disk, network) = (Arc::new(disk.clone()), Arc::new(network.clone()));
    Replica::start(
        config,
        disk,
        network,
        Box::new(machine.clone()),
        Arc::new(NoService),
    )
    .await
}

async fn leader(disk: &MemoryDisk, network: &MemoryNetwork, machine: &Mover) -> Replica {
    let replica = start(1, disk, network, machine).await.expect("a good disk");
    let members = [(1, PeerAddr("node1".into()))].into();
    replica.initialize(members).await.expect("a member");
    let mut status = replica.watch_status();
    let leading = status.wait_for(|status| status.role == Role::Leader);
    timeout(PATIENCE, leading).await.expect("elected").expect("alive");
    replica
}

fn payload(n: u64) -> Bytes {
    Bytes::from(n.to_be_bytes().repeat(3))
}

async fn write(replica: &Replica, numbers: std::ops::Range<u64>) {
    for n in numbers {
        replica
            .propose(vec![payload(n)])
            .await
            .expect("alone it is a majority");
    }
}

fn archived(disk: &MemoryDisk) -> BTreeSet<String> {
    let names = disk.paths().into_iter();
    names
        .filter_map(|path| path.strip_prefix("archive/").map(ToOwned::to_owned))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_restart_and_a_fresh_member_have_all_that_snapshots_refer_to() {
    let (disk, network) = (MemoryDisk::default(), MemoryNetwork::default());
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &network, &machine).await;
    write(&replica, 0..40).await;
    replica.trigger_snapshot(PATIENCE).await.expect("a good disk");
    assert!(machine.files().len() >= 4, "{:?}", machine.files());
    replica.shutdown().await.expect("no fault");

    // Nothing that was not synced survives.
    let disk = disk.after_crash(Keep::Nothing);
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &network, &machine).await;
    let expected: Vec<Bytes> = (0..40).map(payload).collect();
    assert_eq!(machine.payloads().await.expect("undamaged"), expected);

    let (other_disk, other, joined, index) = join(&replica, &network).await;
    joined.wait_applied(index, PATIENCE).await.expect("it catches up");
    assert_eq!(other.payloads().await.expect("undamaged"), expected);
    assert_eq!(archived(&other_disk), other.attached(), "no more than needed");
    // Its own restart finds them, too.
    joined.shutdown().await.expect("no fault");
    let other_disk = other_disk.after_crash(Keep::Nothing);
    let other = Mover::new(&other_disk);
    let joined = start(2, &other_disk, &network, &other)
        .await
        .expect("a good disk");
    assert_eq!(other.payloads().await.expect("undamaged"), expected);
    joined.shutdown().await.expect("no fault");
    replica.shutdown().await.expect("no fault");
}

#[tokio::test(start_paused = true)]
async fn files_go_once_neither_the_state_nor_the_newest_snapshot_names_them() {
    let (disk, network) = (MemoryDisk::default(), MemoryNetwork::default());
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &network, &machine).await;
    write(&replica, 0..20).await;
    replica.trigger_snapshot(PATIENCE).await.expect("a good disk");
    let old = archived(&disk);
    assert!(!old.is_empty());
    // The state forgets them; the snapshot doesn't, nor after a restart.
    machine.state.lock().files.clear();
    write(&replica, 20..40).await;
    assert!(old.is_subset(&archived(&disk)));
    replica.trigger_snapshot(PATIENCE).await.expect("a good disk");
    assert_eq!(archived(&disk), machine.attached());
    assert!(!machine.attached().is_empty());
    replica.shutdown().await.expect("no fault");

    // What a crash left behind goes at the next start.
    for stray in ["archive/9.draft", "archive/stray"] {
        let file = crate::disk::Disk::open(&disk, stray, true)
            .await
            .expect("a good disk");
        file.write_at(0, Bytes::from_static(b"x"))
            .await
            .expect("a good disk");
    }
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &network, &machine).await;
    assert_eq!(archived(&disk), machine.attached());
    replica.shutdown().await.expect("no fault");
}

/// A leader's disk with files in its archive, and a machine that names them.
async fn archive() -> (MemoryDisk, Vec<Attachment>) {
    let (disk, network) = (MemoryDisk::default(), MemoryNetwork::default());
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &network, &machine).await;
    write(&replica, 0..20).await;
    replica.trigger_snapshot(PATIENCE).await.expect("a good disk");
    replica.shutdown().await.expect("no fault");
    (disk, machine.files())
}

/// A second node with an empty disk and a machine, and the index of the entry by which it becomes a learner.
async fn join(leader: &Replica, network: &MemoryNetwork) -> (MemoryDisk, Mover, Replica, u64) {
    let disk = MemoryDisk::default();
    let machine = Mover::new(&disk);
    let joined = start(2, &disk, network, &machine).await.expect("an empty disk");
    let index = leader
        .add_learner(2, PeerAddr("node2".into()))
        .await
        .expect("it leads");
    (disk, machine, joined, index)
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_or_gone_is_neither_read_nor_sent_and_the_replica_goes_on() {
    let (disk, files) = archive().await;
    let path = format!("archive/{}", files[0].name);
    let rotten = disk.copy();
    rotten.with(&path, |bytes| bytes[7] ^= 1);
    let lost = disk.copy();
    lost.delete(&path);
    for (disk, what) in [(rotten, "damaged"), (lost, "missing")] {
        let network = MemoryNetwork::default();
        let machine = Mover::new(&disk);
        let replica = leader(&disk, &network, &machine).await;
        let (fresh, _machine, joined, index) = join(&replica, &network).await;
        let caught_up = joined.wait_applied(index, Duration::from_secs(20)).await;
        assert!(caught_up.is_err(), "a snapshot came without {path}");
        assert!(archived(&fresh).iter().all(|name| *name != files[0].name));
        // Noticed when it was to be sent, or at the start; nobody has read it.
        assert_eq!(machine.attachments.health(), (1, 0));
        let refused = machine.payloads().await.expect_err(what).to_string();
        assert!(refused.contains(&path) && refused.contains(what), "{refused}");
        write(&replica, 20..30).await;
        replica.shutdown().await.expect("no fault");
        joined.shutdown().await.expect("no fault");
    }
}

fn snapshots(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.paths().into_iter();
    names.filter(|path| path.starts_with("snapshot/")).collect()
}

async fn fault(replica: &Replica) -> Fault {
    let mut fault = replica.fault();
    let seen = timeout(PATIENCE, fault.wait_for(Option::is_some)).await;
    let seen = seen.expect("it stops").expect("alive").clone();
    seen.expect("a fault")
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_rots_is_the_fault_of_whoever_sends_it() {
    let (disk, network) = (MemoryDisk::default(), MemoryNetwork::default());
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &network, &machine).await;
    write(&replica, 0..20).await;
    replica.trigger_snapshot(PATIENCE).await.expect("a good disk");
    let [path] = &snapshots(&disk)[..] else {
        panic!("one snapshot: {:?}", disk.paths());
    };
    disk.with(path, |bytes| *bytes.last_mut().expect("a body") ^= 1);
    let (fresh, _machine, joined, _) = join(&replica, &network).await;
    let Fault { kind, message } = fault(&replica).await;
    assert_eq!(
        (kind, message),
        (FaultKind::Disk, format!("{path}: the snapshot is damaged"))
    );
    joined.shutdown().await.expect("no fault");
    assert!(snapshots(&fresh).iter().all(|path| !path.ends_with(".snap")));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_nothing_can_be_restored_from_does_not_replace_the_one_before() {
    let (disk, network) = (MemoryDisk::default(), MemoryNetwork::default());
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &network, &machine).await;
    write(&replica, 0..3).await;
    let (own_disk, _machine, joined, index) = join(&replica, &network).await;
    joined.wait_applied(index, PATIENCE).await.expect("it catches up");
    joined.trigger_snapshot(PATIENCE).await.expect("a good disk");
    let own = snapshots(&own_disk);
    joined.shutdown().await.expect("no fault");
    write(&replica, 3..6).await;
    let covered = replica.trigger_snapshot(PATIENCE).await.expect("a good disk");
    let mut status = replica.watch_status();
    let purged = status.wait_for(|status| status.purged >= covered);
    timeout(PATIENCE, purged)
        .await
        .expect("only a snapshot has it")
        .expect("alive");

    let picky = Mover::new(&own_disk);
    let joined = start(2, &own_disk, &network, &picky)
        .await
        .expect("its own is good");
    picky.refuses.store(true, Ordering::Relaxed);
    let Fault { kind, message } = fault(&joined).await;
    assert_eq!(kind, FaultKind::Machine, "{message}");
    assert!(message.contains("on purpose"), "{message}");
    assert!(joined.shutdown().await.is_err());
    // Also after a power cut it has what it had, and goes on from there.
    let own_disk = own_disk.after_crash(Keep::Nothing);
    assert_eq!(snapshots(&own_disk), own);
    let healed = Mover::new(&own_disk);
    let joined = start(2, &own_disk, &network, &healed)
        .await
        .expect("its own is good");
    let last = replica.status().last_log.expect("entries");
    joined.wait_applied(last, PATIENCE).await.expect("it catches up");
    assert_eq!(healed.payloads().await.expect("undamaged").len(), 6);
    joined.shutdown().await.expect("no fault");
    replica.shutdown().await.expect("no fault");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_while_a_snapshot_is_received_stops_the_replica() {
    let disk = MemoryDisk::default();
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &MemoryNetwork::default(), &machine).await;
    // No file, but a body of several chunks.
    write(&replica, 0..7).await;
    replica.trigger_snapshot(PATIENCE).await.expect("a good disk");
    replica.shutdown().await.expect("no fault");
    let mut hit = 0;
    for at in 1..40 {
        let (disk, network, fresh) = (disk.copy(), MemoryNetwork::default(), MemoryDisk::default());
        let replica = leader(&disk, &network, &Mover::new(&disk)).await;
        let other = Mover::new(&fresh);
        let joined = start(2, &fresh, &network, &other).await.expect("an empty disk");
        let at = fresh.operations() + at;
        fresh.fail_at(at, Failure::Error);
        let index = replica.add_learner(2, PeerAddr("node2".into())).await;
        let caught_up = joined
            .wait_applied(index.expect("it leads"), Duration::from_secs(20))
            .await;
        let fault = joined.fault().borrow().clone();
        let kind = fault.as_ref().map(|fault| fault.kind);
        // Nothing is tried again on a disk that failed, as if nothing had been.
        match fresh.operations() >= at {
            true => assert_eq!(kind, Some(FaultKind::Disk), "operation {at}: {fault:?}"),
            false => assert_eq!((kind, caught_up), (None, Ok(())), "operation {at}: {fault:?}"),
        }
        let draft = snapshots(&fresh).iter().any(|path| path.ends_with(".draft"));
        hit += usize::from(fault.is_some() && draft);
        let _ = joined.shutdown().await;
        replica.shutdown().await.expect("no fault");
    }
    assert!(hit > 3, "{hit} failures hit a draft");
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_another_file_of_that_name_does_not_make_it_a_damaged_one() {
    let (disk, files) = archive().await;
    let attachments = Attachments::new(Arc::new(disk.clone()));
    let mut false_digest = files[0].clone();
    false_digest.digest[0] ^= 1;
    let mut longer = files[0].clone();
    longer.bytes += 1;
    for (wanted, by, damaged) in [
        (&files[0], By::Peer, 0),
        (&false_digest, By::Peer, 0),
        (&longer, By::Peer, 0),
        (&false_digest, By::Snapshot, 1),
    ] {
        let mut sending = attachments.send(wanted, by).await.expect("it is there");
        let mut sent = Ok(Some(Bytes::new()));
        while let Ok(Some(_)) = sent {
            sent = sending.next(64).await;
        }
        assert_eq!(sent.is_ok(), *wanted == files[0], "{wanted:?}");
        assert_eq!(attachments.health(), (damaged, 0), "{wanted:?} asked by {by:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_or_gone_is_fetched_from_whoever_has_it() {
    let (disk, files) = archive().await;
    let network = MemoryNetwork::default();
    let machine = Mover::new(&disk);
    let replica = leader(&disk, &network, &machine).await;
    let (other_disk, _machine, joined, index) = join(&replica, &network).await;
    joined.wait_applied(index, PATIENCE).await.expect("it catches up");
    joined.shutdown().await.expect("no fault");

    let expected: Vec<Bytes> = (0..20).map(payload).collect();
    for (turn, mended) in [(0, 1), (1, 1), (2, 2)] {
        let disk = other_disk.copy();
        let [first, second] = [0, 1].map(|n| format!("archive/{}", files[n].name));
        match turn {
            0 => disk.with(&first, |bytes| bytes[7] ^= 1),
            1 => disk.delete(&first),
            _ => {
                disk.with(&first, |bytes| bytes.truncate(5));
                disk.delete(&second);
            }
        }
        let machine = Mover::new(&disk);
        let joined = start(2, &disk, &network, &machine).await.expect("it starts");
        assert_eq!(machine.payloads().await.expect("mended"), expected, "turn {turn}");
        assert_eq!(machine.attachments.health(), (0, mended), "turn {turn}");
        joined.shutdown().await.expect("no fault");
        // It is durable: after a power cut nobody has to be asked.
        let disk = disk.after_crash(Keep::Nothing);
        let alone = Mover::new(&disk);
        let apart = MemoryNetwork::default();
        let joined = start(2, &disk, &apart, &alone).await.expect("it starts");
        assert_eq!(alone.payloads().await.expect("mended"), expected, "turn {turn}");
        joined.shutdown().await.expect("no fault");
    }
    replica.shutdown().await.expect("no fault");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_or_a_crash_at_any_moment_loses_nothing_acknowledged() {
    let mut hit = 0;
    for (at, failure) in (1..)
        .step_by(2)
        .zip([Failure::Crash, Failure::Error].into_iter().cycle())
    {
        let (disk, network) = (MemoryDisk::default(), MemoryNetwork::default());
        let machine = Mover::new(&disk);
        let replica = leader(&disk, &network, &machine).await;
        let at = disk.operations() + at;
        disk.fail_at(at, failure);
        let mut acknowledged = 0;
        for n in 0..30 {
            match timeout(PATIENCE, replica.propose(vec![payload(n)])).await {
                Ok(Ok(_)) => acknowledged = n + 1,
                _ => break,
            }
            if n % 7 == 6
                && timeout(PATIENCE, replica.trigger_snapshot(PATIENCE))
                    .await
                    .is_err()
            {
                break;
            }
        }
        if disk.operations() < at {
            break;
        }
        hit += 1;
        drop(replica);
        let survivor = disk.after_crash(Keep::Some(at));
        let machine = Mover::new(&survivor);
        let replica = leader(&survivor, &MemoryNetwork::default(), &machine).await;
        write(&replica, 30..31).await;
        let mut found = machine.payloads().await.expect("undamaged");
        assert_eq!(found.pop(), Some(payload(30)));
        let expected: Vec<Bytes> = (0..found.len() as u64).map(payload).collect();
        assert_eq!(found, expected, "{failure:?} at {at}");
        assert!(found.len() as u64 >= acknowledged, "{failure:?} at {at}");
        replica.shutdown().await.expect("no fault");
    }
    assert!(hit > 20, "only {hit} failures hit");
}
