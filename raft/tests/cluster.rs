//! Groups of replicas over loopback TCP and real files.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{CLUSTER, Echo, Group, Journal, PATIENCE, wait};
use futures::future::join_all;
use raft::{
    CallError, Config, FileDisk, NoService, PeerAddr, ProposeError, ReadError, Replica, Role, StartError,
    TcpNetwork,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_apply_the_same_payloads_in_the_same_order() {
    let group = Group::start(1..=3, |_| {}).await;
    let leader = group.leader().await;
    let proposals = (0..50).map(|n| {
        let replica = group.replica(leader).clone();
        async move {
            replica
                .propose(vec![Bytes::from(format!("a{n}")), Bytes::from(format!("b{n}"))])
                .await
        }
    });
    let mut last = 0;
    for indexes in join_all(proposals).await {
        let indexes = indexes.expect("the leader stays");
        assert_eq!(indexes[1], indexes[0] + 1, "payloads of one call stay together");
        last = last.max(indexes[1]);
    }
    group.settle(last).await;
    assert_eq!(group.nodes[&1].journal.payloads().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_refuse_to_propose_and_to_vouch_for_reads_and_name_the_leader() {
    let group = Group::start(1..=3, |_| {}).await;
    let leader = group.leader().await;
    let follower = group
        .nodes
        .keys()
        .copied()
        .find(|id| *id != leader)
        .expect("three nodes");
    let replica = group.replica(follower);
    let refused = replica.propose(vec![Bytes::from_static(b"x")]).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));
    assert_eq!(
        replica.read_barrier().await,
        Err(ReadError::NotLeader { leader: Some(leader) })
    );

    let written = group.propose("w").await;
    let barrier = group
        .replica(leader)
        .read_barrier()
        .await
        .expect("the leader leads");
    assert!(
        barrier >= written,
        "a read at {barrier} would miss the write at {written}"
    );
    replica
        .wait_applied(barrier, PATIENCE)
        .await
        .expect("the follower catches up");
    assert!(
        group.nodes[&follower]
            .journal
            .payloads()
            .contains(&Bytes::from_static(b"w"))
    );

    let limit = group.config(9, "").log.max_payload_bytes;
    let large = group
        .replica(leader)
        .propose(vec![Bytes::from(vec![0; limit + 1])])
        .await;
    assert_eq!(
        large,
        Err(ProposeError::TooLarge {
            bytes: limit + 1,
            limit
        })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_without_the_leader_and_it_catches_up_when_it_returns() {
    let mut group = Group::start(1..=3, |_| {}).await;
    let leader = group.leader().await;
    group.propose("before").await;
    let addr = group.stop(leader).await;
    let second = group.leader().await;
    assert_ne!(second, leader);
    let last = group.propose("without").await;
    group.spawn(leader, &addr).await;
    group.settle(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_there_after_all_nodes_restarted() {
    let mut group = Group::start(1..=3, |_| {}).await;
    let mut last = 0;
    for n in 0..20 {
        last = group.propose(&format!("p{n}")).await;
    }
    let mut addrs = Vec::new();
    for id in 1..=3 {
        addrs.push((id, group.stop(id).await));
    }
    for (id, addr) in addrs {
        group.spawn(id, &addr).await;
    }
    let more = group.propose("after").await;
    assert!(more > last);
    group.settle(more).await;
    assert_eq!(group.nodes[&2].journal.payloads().len(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_longer_than_the_log_reaches_back_gets_a_snapshot() {
    let mut group = Group::start(1..=3, |config| {
        config.snapshots.keep_entries = 0;
        config.snapshots.chunk_bytes = 1000;
    })
    .await;
    let leader = group.leader().await;
    let away = group
        .nodes
        .keys()
        .copied()
        .find(|id| *id != leader)
        .expect("three nodes");
    let addr = group.stop(away).await;
    let mut last = 0;
    for n in 0..30 {
        last = group.propose(&format!("{n}{}", "x".repeat(500))).await;
    }
    for node in group.nodes.values() {
        node.replica
            .wait_applied(last, PATIENCE)
            .await
            .expect("a majority is there");
        let covered = node
            .replica
            .trigger_snapshot(PATIENCE)
            .await
            .expect("the disk is well");
        assert!(covered >= Some(last));
        wait(&node.replica, |status| status.purged >= Some(last)).await;
    }
    group.spawn(away, &addr).await;
    group.settle(last).await;
    let status = wait(group.replica(away), |status| status.snapshot >= Some(last)).await;
    assert!(status.purged >= Some(last), "it came by snapshot: {status:?}");

    // And it starts from that snapshot.
    let addr = group.stop(away).await;
    group.spawn(away, &addr).await;
    let more = group.propose("more").await;
    group.settle(more).await;
    assert_eq!(group.nodes[&away].journal.payloads().len(), 31);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_withholds_its_snapshots_sends_none_and_the_next_one_does() {
    let mut group = Group::start(1..=3, |config| config.snapshots.keep_entries = 0).await;
    let leader = group.leader().await;
    let mut others = group.nodes.keys().copied().filter(|id| *id != leader);
    let (away, heir) = (others.next().expect("three"), others.next().expect("three"));
    let addr = group.stop(away).await;
    let last = group.propose("while it is away").await;
    for node in group.nodes.values() {
        node.replica
            .wait_applied(last, PATIENCE)
            .await
            .expect("a majority is there");
        node.replica
            .trigger_snapshot(PATIENCE)
            .await
            .expect("the disk is well");
        wait(&node.replica, |status| status.purged >= Some(last)).await;
    }
    group.replica(leader).withhold_snapshots();
    group.spawn(away, &addr).await;
    // The leader has found it: it knows that it lacks what only a snapshot has.
    wait(group.replica(away), |status| status.leader == Some(leader)).await;
    let heard = group
        .replica(away)
        .wait_applied(last, Duration::from_secs(1))
        .await;
    assert!(heard.is_err(), "a snapshot came all the same");

    group
        .replica(leader)
        .transfer_leader(Some(heir))
        .await
        .expect("the heir is well");
    group.settle(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_taken_and_log_is_purged_by_count_and_by_size() {
    for (every_entries, every_bytes, keep_entries, keep_bytes) in [
        (20, 0, 5, usize::MAX),
        (0, 20_000, 5, usize::MAX),
        (20, 0, 1_000, 5_000),
    ] {
        let mut group = Group::start([1], move |config| {
            config.snapshots.every_entries = every_entries;
            config.snapshots.every_bytes = every_bytes;
            config.snapshots.keep_entries = keep_entries;
            config.snapshots.keep_bytes = keep_bytes;
            config.log.segment_bytes = 8 << 10;
        })
        .await;
        group.leader().await;
        let mut last = 0;
        for n in 0..60 {
            last = group.propose(&format!("{n}{}", "y".repeat(1000))).await;
        }
        let status = wait(group.replica(1), |status| status.purged >= Some(20)).await;
        assert!(status.snapshot >= status.purged);
        let segments = std::fs::read_dir(group.path(1).join("log"))
            .expect("a log")
            .count();
        assert!(
            segments < 10,
            "{segments} segments of 8 KiB hold what 60 KiB were"
        );
        let addr = group.stop(1).await;
        group.spawn(1, &addr).await;
        group.settle(last).await;
        assert_eq!(group.nodes[&1].journal.payloads().len(), 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_vote_and_go() {
    let mut group = Group::start(1..=3, |_| {}).await;
    group.propose("first").await;
    group.spawn(4, "127.0.0.1:0").await;
    let leader = group.leader_among(BTreeSet::from([1, 2, 3])).await;
    let addr = PeerAddr(group.nodes[&4].addr.clone());
    group
        .replica(leader)
        .add_learner(4, addr)
        .await
        .expect("a leader");
    let last = group.propose("second").await;
    group.settle(last).await;
    assert_eq!(group.replica(4).status().role, Role::Learner);

    group
        .replica(leader)
        .change_voters(BTreeSet::from([1, 2, 3, 4]))
        .await
        .expect("4 has caught up");
    wait(group.replica(4), |status| {
        status.voters == [BTreeSet::from([1, 2, 3, 4])]
    })
    .await;

    let gone = (1..=4).find(|id| *id != leader).expect("four nodes");
    group.replica(leader).remove(gone).await.expect("a leader");
    group.stop(gone).await;
    let left: BTreeSet<u64> = (1..=4).filter(|id| *id != gone).collect();
    let status = wait(group.replica(leader), |status| status.voters == [left.clone()]).await;
    assert!(
        status.learners.is_empty() && !status.addrs.contains_key(&gone),
        "{status:?}"
    );

    // Three are left of which two suffice.
    let second = left
        .iter()
        .copied()
        .find(|id| *id != leader)
        .expect("three are left");
    group.stop(second).await;
    let last = group.propose("third").await;
    group.settle(last).await;
    let refused = group.replica(group.leader().await).remove(77).await;
    assert!(refused.is_err_and(|e| e.to_string().contains("77")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_where_it_is_sent() {
    let group = Group::start(1..=3, |_| {}).await;
    group.propose("x").await;
    for _ in 0..3 {
        let leader = group.leader().await;
        let to = leader % 3 + 1;
        assert_eq!(group.replica(leader).transfer_leader(Some(to)).await, Ok(to));
        assert_eq!(group.leader().await, to);
    }
    let leader = group.leader().await;
    assert!(group.replica(leader).transfer_leader(Some(9)).await.is_err());
    let last = group.propose("y").await;
    group.settle(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_ask_each_other_many_things_at_once() {
    let mut group = Group::start(1..=3, |_| {}).await;
    group.leader().await;
    let asker = group.replica(1).clone();
    let answers = join_all((0..200).map(|n| {
        let asker = asker.clone();
        async move {
            asker
                .call(2 + n % 2, Bytes::from(format!("q{n}")), PATIENCE)
                .await
        }
    }))
    .await;
    for (n, answer) in (0u64..).zip(answers) {
        let expected = format!("1>{}:q{n}", 2 + n % 2);
        assert_eq!(answer.expect("all nodes are up"), Bytes::from(expected));
    }
    assert_eq!(
        asker.call(9, Bytes::new(), PATIENCE).await,
        Err(CallError::UnknownPeer(9))
    );

    let addr = group.stop(3).await;
    let unreachable = asker.call(3, Bytes::new(), PATIENCE).await;
    assert!(
        matches!(unreachable, Err(CallError::Unreachable { peer: 3, .. })),
        "{unreachable:?}"
    );
    group.spawn(3, &addr).await;
    assert_eq!(
        asker.call(3, Bytes::from_static(b"back"), PATIENCE).await,
        Ok(Bytes::from_static(b"1>3:back"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_held_by_one_and_refused_to_strangers() {
    let mut group = Group::start([1], |_| {}).await;
    group.leader().await;
    let start = |config: Config| {
        let disk = Arc::new(FileDisk::new(group.path(1)));
        Replica::start(
            config,
            disk,
            Arc::new(TcpNetwork),
            Box::new(Journal::default()),
            Arc::new(NoService),
        )
    };
    let taken = start(group.config(1, "127.0.0.1:0")).await;
    assert!(matches!(taken, Err(StartError::Locked(_))));
    group.stop(1).await;

    let start = |config: Config| {
        let disk = Arc::new(FileDisk::new(group.path(1)));
        Replica::start(
            config,
            disk,
            Arc::new(TcpNetwork),
            Box::new(Journal::default()),
            Arc::new(Echo(1)),
        )
    };
    let other_node = start(group.config(2, "127.0.0.1:0"))
        .await
        .map(drop)
        .expect_err("node 1's disk");
    assert!(
        other_node.to_string().contains("belongs to node 1, not 2"),
        "{other_node}"
    );
    let mut config = group.config(1, "127.0.0.1:0");
    config.cluster_id = [8; 32];
    let other_cluster = start(config).await.map(drop).expect_err("another cluster's disk");
    assert!(
        other_cluster.to_string().contains("belongs to cluster 0707"),
        "{other_cluster}"
    );
    let mut config = group.config(1, "127.0.0.1:0");
    config.timing.election_max = config.timing.election_min;
    assert!(matches!(start(config).await, Err(StartError::Config(_))));
    assert_eq!(CLUSTER, [7; 32]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_another_cluster_are_not_heard() {
    let group = Group::start(1..=3, |_| {}).await;
    let strangers = Group::start([4], |config| config.cluster_id = [9; 32]).await;
    let leader = group.leader().await;
    strangers.leader().await;
    let addr = PeerAddr(strangers.nodes[&4].addr.clone());
    group
        .replica(leader)
        .add_learner(4, addr)
        .await
        .expect("the members agree");
    let last = group.propose("secret").await;
    group.settle(last).await;
    let refused = group.replica(leader).call(4, Bytes::new(), PATIENCE).await;
    assert!(
        matches!(&refused, Err(CallError::Unreachable { message, .. }) if message.contains("cluster")),
        "{refused:?}"
    );
    assert!(strangers.nodes[&4].journal.payloads().is_empty());
}

/// Asks until it is told that one of the two has lost its disk; nobody may answer. Before that the one asked may not be known
/// as a member yet, or the connection be closed before the reason was read.
async fn told_of_its_disk(asking: &Replica, asked: u64) {
    let told = async {
        loop {
            match asking.call(asked, Bytes::new(), PATIENCE).await {
                Err(CallError::Unreachable { message, .. }) if message.contains("lost its disk") => return,
                Err(CallError::Unreachable { .. } | CallError::UnknownPeer(_)) => {
                    tokio::task::yield_now().await;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_is_refused_until_it_comes_back_as_another() {
    let mut group = Group::start(1..=3, |_| {}).await;
    let leader = group.leader().await;
    let last = group.propose("kept").await;
    group.settle(last).await;
    let lost = group
        .nodes
        .keys()
        .copied()
        .find(|id| *id != leader)
        .expect("three nodes");
    let addr = group.stop(lost).await;
    std::fs::remove_dir_all(group.path(lost)).expect("its directory");
    group.spawn(lost, &addr).await;
    // As at a first start: it would vote again, had the others not met it before.
    let mut members = group.members();
    members.insert(lost, PeerAddr(addr));
    group
        .replica(lost)
        .initialize(members)
        .await
        .expect("an empty log");
    told_of_its_disk(group.replica(leader), lost).await;
    told_of_its_disk(group.replica(lost), leader).await;
    assert!(group.nodes[&lost].journal.payloads().is_empty());

    group.stop(lost).await;
    group.replica(leader).remove(lost).await.expect("a leader");
    group.spawn(4, "127.0.0.1:0").await;
    let addr = PeerAddr(group.nodes[&4].addr.clone());
    group
        .replica(leader)
        .add_learner(4, addr)
        .await
        .expect("a leader");
    let last = group.propose("more").await;
    group.settle(last).await;
}
