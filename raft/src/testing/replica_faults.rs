//! Whole replicas on a disk that fails and in time that is not real.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{Failure, Journal, Keep, MemoryDisk, MemoryNetwork};
use crate::network::Network as _;
use crate::{Config, Fault, FaultKind, NoService, PeerAddr, ProposeError, Replica, Role, StartError};

const PATIENCE: Duration = Duration::from_secs(60);

async fn start(
    id: u64,
    disk: &MemoryDisk,
    network: &MemoryNetwork,
    journal: &Journal,
) -> Result<Replica, StartError> {
    let mut config = Config::new(id, [3; 32], format!("node{id}"), id);
    config.log.segment_bytes = 16 << 10;
    config.snapshots.every_entries = 10;
    config.snapshots.keep_entries = 2;
    let (disk, network) = (Arc::new(disk.clone()), Arc::new(network.clone()));
    Replica::start(
        config,
        disk,
        network,
        Box::new(journal.clone()),
        Arc::new(NoService),
    )
    .await
}

fn members(ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, PeerAddr> {
    ids.into_iter()
        .map(|id| (id, PeerAddr(format!("node{id}"))))
        .collect()
}

async fn leads(replica: &Replica) {
    let mut status = replica.watch_status();
    let leading = status.wait_for(|status| status.role == Role::Leader);
    timeout(PATIENCE, leading).await.expect("elected").expect("alive");
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_stops_the_replica_which_says_so_and_keeps_what_it_acknowledged() {
    // Which operation fails decides where it hurts: in the log, in a snapshot, in a rotation.
    let mut stopped = 0;
    for at in (30..200).step_by(7) {
        let (disk, journal) = (MemoryDisk::default(), Journal::default());
        let replica = start(1, &disk, &MemoryNetwork::default(), &journal)
            .await
            .expect("an empty disk");
        replica.initialize(members([1])).await.expect("a member");
        leads(&replica).await;
        disk.fail_at(disk.operations() + at, Failure::Error);
        let mut acknowledged = Vec::new();
        for n in 0..60u64 {
            match timeout(
                PATIENCE,
                replica.propose(vec![Bytes::from(n.to_be_bytes().to_vec())]),
            )
            .await
            {
                Ok(Ok(indexes)) => acknowledged.push((indexes[0], n)),
                Ok(Err(ProposeError::Stopped | ProposeError::Unknown(_))) => break,
                Ok(Err(other)) => panic!("failure at {at}: {other}"),
                Err(_) => panic!("failure at {at}: no answer"),
            }
        }
        let ended = timeout(PATIENCE, replica.shutdown()).await.expect("it stops");
        if let Err(Fault { kind, message }) = &ended {
            stopped += 1;
            assert_eq!(
                (*kind, message.contains("injected")),
                (FaultKind::Disk, true),
                "{ended:?}"
            );
            assert_eq!(*replica.fault().borrow(), ended.clone().err());
            assert_eq!(replica.status().role, Role::Stopped);
        }

        let survivor = disk.after_crash(Keep::Nothing);
        let journal = Journal::default();
        let replica = start(1, &survivor, &MemoryNetwork::default(), &journal)
            .await
            .expect("a healthy log");
        leads(&replica).await;
        let index = replica
            .propose(vec![Bytes::from_static(b"after")])
            .await
            .expect("it goes on")[0];
        replica.wait_applied(index, PATIENCE).await.expect("alive");
        for (index, n) in acknowledged {
            let found = journal.0.lock().get(&index).cloned();
            assert_eq!(
                found,
                Some(Bytes::from(n.to_be_bytes().to_vec())),
                "failure at {at}: {n} is lost"
            );
        }
    }
    assert!(stopped > 10, "only {stopped} failures hit");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_comes_back_has_to_be_elected_again() {
    let (disk, network) = (MemoryDisk::default(), MemoryNetwork::default());
    let mut term = 0;
    for _ in 0..3 {
        let replica = start(1, &disk, &network, &Journal::default())
            .await
            .expect("a healthy disk");
        replica.initialize(members([1])).await.expect("a member");
        leads(&replica).await;
        let now = replica.status().term;
        assert!(now > term, "it leads in term {now} after having led in {term}");
        term = now;
        replica.shutdown().await.expect("no fault");
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_is_refused_with_its_name() {
    let (disk, journal) = (MemoryDisk::default(), Journal::default());
    let replica = start(1, &disk, &MemoryNetwork::default(), &journal)
        .await
        .expect("an empty disk");
    replica.initialize(members([1])).await.expect("a member");
    leads(&replica).await;
    replica
        .propose(vec![Bytes::from_static(b"x")])
        .await
        .expect("alone it is a majority");
    replica.trigger_snapshot(PATIENCE).await.expect("a healthy disk");
    replica.shutdown().await.expect("no fault");
    let path = disk
        .paths()
        .into_iter()
        .find(|path| path.ends_with(".snap"))
        .expect("a snapshot");
    let len = disk.with(&path, |bytes| bytes.len());
    for at in 0..len {
        let rotten = disk.copy();
        rotten.with(&path, |bytes| bytes[at] ^= 0x10);
        let journal = Journal::default();
        let refused = start(1, &rotten, &MemoryNetwork::default(), &journal)
            .await
            .map(drop);
        let refused = refused.expect_err("a bit is wrong").to_string();
        assert!(refused.contains(&path), "at {at}: {refused}");
    }
}

/// A leader is told to drop log that a member who does not answer is being sent, so it can't yet; and takes the next snapshot, behind
/// which more may stay. (Seed 24 of the simulator.)
#[tokio::test(start_paused = true)]
async fn log_that_was_to_go_is_not_taken_back() {
    let network = MemoryNetwork::default();
    let mut replicas = Vec::new();
    for id in 1..=2 {
        let (disk, journal) = (MemoryDisk::default(), Journal::default());
        let replica = start(id, &disk, &network, &journal).await;
        replicas.push(replica.expect("an empty disk"));
    }
    let _silent = network.listen("node3").await.expect("a name");
    replicas[0].initialize(members(1..=3)).await.expect("a member");
    let led = replicas.iter().map(|replica| {
        Box::pin(async move {
            leads(replica).await;
            replica
        })
    });
    let (leader, ..) = futures::future::select_all(led).await;
    leader.read_barrier().await.expect("two of three");
    for _ in 0..2 {
        let payload = vec![Bytes::from_static(b"x")];
        let index = leader.propose(payload).await.expect("two of three")[0];
        leader.wait_applied(index, PATIENCE).await.expect("alive");
        leader.trigger_snapshot(PATIENCE).await.expect("a healthy disk");
        leader.purge(index).await.expect("alive");
    }
    assert_eq!(leader.status().role, Role::Leader);
    assert_eq!(*leader.fault().borrow(), None);
    assert!(leader.status().purged < leader.status().snapshot, "it is in use");
}

/// A group lives through an election, writes, the loss of its leader and more writes; what happened when.
async fn story() -> Vec<String> {
    let network = MemoryNetwork::default();
    let mut trace = Vec::new();
    let began = Instant::now();
    let mut replicas = BTreeMap::new();
    for id in 1..=3 {
        let replica = start(id, &MemoryDisk::default(), &network, &Journal::default()).await;
        replicas.insert(id, replica.expect("an empty disk"));
    }
    for replica in replicas.values() {
        replica.initialize(members(1..=3)).await.expect("a member");
    }
    for round in 0..3 {
        let mut written = 0;
        while written < 15 {
            for (id, replica) in &replicas {
                if let Ok(indexes) = replica.propose(vec![Bytes::from(vec![round; 100])]).await {
                    written += 1;
                    trace.push(format!("{:?}: {id} wrote {indexes:?}", began.elapsed()));
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for (id, replica) in &replicas {
            trace.push(format!("{:?}: {id} is {:?}", began.elapsed(), replica.status()));
        }
        if round == 0 {
            let leader = replicas[&1].status().leader.expect("someone wrote");
            let gone = replicas.remove(&leader).expect("it ran");
            trace.push(format!(
                "{:?}: {leader} ended {:?}",
                began.elapsed(),
                gone.shutdown().await
            ));
        }
    }
    trace
}

#[test]
fn one_seed_makes_one_story() {
    let tell = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(async {
                timeout(Duration::from_secs(600), story())
                    .await
                    .expect("it comes to an end")
            })
    };
    let (first, second) = (tell(), tell());
    for (a, b) in first.iter().zip(&second) {
        assert_eq!(a, b);
    }
    assert_eq!(first.len(), second.len());
}
