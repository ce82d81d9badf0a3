//! Snapshots that refer to files: a machine that moves what it has applied into attachments, eight payloads each.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{Failure, Keep, MemoryDisk, MemoryNetwork};
use crate::attachments::{Attachment, Attachments};
use crate::machine::{Capture, Committed, Payload, RestoreError, StateMachine};
use crate::{Config, NoService, PeerAddr, Replica, Role, StartError};

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
}

impl Mover {
    fn new(disk: &MemoryDisk) -> Mover {
        Mover {
            state: Arc::default(),
            attachments: Attachments::new(Arc::new(disk.clone())),
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
