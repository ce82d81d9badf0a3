//! A node that was away for longer than the log reaches back comes by a snapshot, and has the same chain.

mod common;

use std::time::Duration;

use common::{Cluster, Plan, eventually};
use serde_json::{Value, json};

const SHORT_LOG: &str = "[log]\nsnapshot_after_entries = 40\nkeep_entries = 5\nsegment_bytes = 65536\n";

fn settle_and_seal(cluster: &Cluster, nodes: &[u64], epochs: std::ops::RangeInclusive<u64>) {
    for epoch in epochs {
        let body = json!({"meterId": format!("meter {}", epoch % 7), "epoch": epoch, "consumption": epoch, "label": "l"});
        cluster
            .persist(
                nodes,
                "balancing.addSettlement",
                &body,
                &format!("settle {epoch}"),
            )
            .ok();
        cluster
            .persist(
                nodes,
                "balancing.sealEpoch",
                &json!({"epoch": epoch}),
                &format!("seal {epoch}"),
            )
            .ok();
    }
}

#[test]
fn a_node_that_was_away_for_long_comes_by_snapshot() {
    let mut cluster = Plan::nodes(3).options(SHORT_LOG).start();
    settle_and_seal(&cluster, &[1, 2, 3], 1..=3);
    cluster.certified(&[1, 2, 3], 3);
    let leader = cluster.leader(&[1, 2, 3]);
    let away = cluster
        .ids()
        .into_iter()
        .find(|&id| id != leader)
        .expect("a follower");
    let rest: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != away).collect();
    cluster.kill9(away);

    settle_and_seal(&cluster, &rest, 4..=80);
    cluster.certified(&rest, 80);
    cluster.restart(away);
    let chain = cluster.certified(&[1, 2, 3], 80);
    assert_eq!(chain.len(), 80);
    assert!(
        cluster.log(away).contains("received a snapshot"),
        "the log still reached back: this tested nothing"
    );
    // It has what the snapshot carried, can prove old seals, and goes on signing new ones.
    let proof = cluster.ok(
        away,
        "balancing.proof",
        &json!({"assetId": "meter 5", "epoch": 5}),
    );
    assert_eq!(proof["seal"]["energy_in"], 5, "{proof}");
    // The others may have certified a block before its signature is there; it needs none then.
    let mut last = 80;
    eventually("it signs what is new", Duration::from_secs(30), || {
        last += 1;
        settle_and_seal(&cluster, &[away], last..=last);
        let chain = cluster.blocks(away)?;
        chain
            .iter()
            .skip(80)
            .any(|block| block["signatures"] == 3)
            .then_some(())
    });
    cluster.certified(&[1, 2, 3], 81);
}

#[test]
fn all_nodes_restart_from_their_snapshots() {
    let mut cluster = Plan::nodes(3).options(SHORT_LOG).start();
    settle_and_seal(&cluster, &[1, 2, 3], 1..=60);
    let before = cluster.certified(&[1, 2, 3], 60);
    for id in cluster.ids() {
        cluster.kill9(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    for id in cluster.ids() {
        cluster.wait_ready(id);
    }
    let after = cluster.certified(&[1, 2, 3], 60);
    let digests = |chain: &[Value]| {
        chain
            .iter()
            .map(|block| block["digest"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(digests(&before), digests(&after));
    // The table of keys came with the snapshot: a retry is still the same write.
    let body = json!({"meterId": "meter 4", "epoch": 60, "consumption": 60, "label": "l"});
    let again = cluster
        .persist(&[2], "balancing.addSettlement", &body, "settle 60")
        .ok();
    assert_eq!(again["statement"]["energy"], 60);
    let journal = cluster.ok(
        3,
        "balancing.journal",
        &json!({"assetId": "meter 4", "epoch": 60}),
    );
    assert_eq!(
        journal["statements"].as_array().map(Vec::len),
        Some(1),
        "{journal}"
    );
    settle_and_seal(&cluster, &[1, 2, 3], 61..=62);
    cluster.certified(&[1, 2, 3], 62);
}
