//! Groups of replicas over loopback TCP and real files.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use common::{CLUSTER, Group, PATIENCE, wait};
use raft::{CallError, FileDisk, NoService, ProposeError, ReadError, Replica, Role, StartError, TcpNetwork};

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
    for indexes in futures::future::join_all(proposals).await {
        let indexes = indexes.expect("the leader stays");
        assert_eq!(indexes[1], indexes[0] + 1, "payloads of one call stay together");
        last = last.max(indexes[1]);
    }
    group.settle(last).await;
    assert_eq!(group.nodes[&1].journal.payloads().len(), 100);
}
