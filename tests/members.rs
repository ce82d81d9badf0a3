//! Membership through the command line: a node joins, gets a vote, another leaves.

mod common;

use std::time::Duration;

use common::{Cluster, Plan, eventually};
use serde_json::{Value, json};

fn member(cluster: &Cluster, arguments: &[&str]) -> String {
    let data = cluster.data();
    let mut all = vec!["member", "--data", &data];
    all.extend(arguments);
    let (code, out, error) = cluster.cli(&all);
    assert_eq!(code, 0, "member {arguments:?}: {out}{error}");
    out
}

fn members(cluster: &Cluster) -> (Value, Value) {
    let list: Value = serde_json::from_str(&member(cluster, &["list", "--json"])).expect("JSON");
    (list["voters"].clone(), list["learners"].clone())
}

fn epoch(cluster: &Cluster, nodes: &[u64], epoch: u64) {
    let body = json!({"meterId": "meter", "epoch": epoch, "consumption": epoch, "label": "l"});
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

#[test]
fn a_node_joins_gets_a_vote_and_signs_and_an_old_one_leaves() {
    let mut cluster = Plan::nodes(3).start();
    epoch(&cluster, &[1, 2, 3], 1);
    cluster.certified(&[1, 2, 3], 1);

    let key = cluster.join(4);
    let peer = cluster.peer(4);
    member(&cluster, &["add", "--id", "4", "--peer", &peer, "--key", &key]);
    assert_eq!(members(&cluster), (json!([1, 2, 3]), json!([4])));
    cluster.spawn(4);
    cluster.wait_ready(4);
    cluster.certified(&[1, 2, 3, 4], 1);

    member(&cluster, &["promote", "--id", "4"]);
    assert_eq!(members(&cluster), (json!([1, 2, 3, 4]), json!([])));
    // Three of four may have certified a block before the fourth signature is there; it needs none then.
    let mut last = 1_000;
    eventually("all four sign", Duration::from_secs(30), || {
        last += 1;
        epoch(&cluster, &[4], last);
        let chain = cluster.blocks(4)?;
        chain.iter().any(|block| block["signatures"] == 4).then_some(())
    });

    member(&cluster, &["remove", "--id", "1"]);
    assert_eq!(members(&cluster), (json!([2, 3, 4]), json!([])));
    cluster.kill9(1);
    let rest = [2, 3, 4];
    epoch(&cluster, &rest, 3);
    let newest = cluster.certified(&rest, 3).pop().expect("a block");
    assert!(
        newest["signatures"].as_u64() <= Some(3),
        "who left signs nothing: {newest}"
    );
    // Three voters again: one may fail.
    let leader = cluster.leader(&rest);
    cluster.kill9(leader);
    let two: Vec<u64> = rest.into_iter().filter(|&id| id != leader).collect();
    epoch(&cluster, &two, 4);
    cluster.certified(&two, 4);
}

#[test]
fn what_can_not_be_done_is_refused_in_words() {
    let cluster = Plan::nodes(1).start();
    let data = cluster.data();
    let (code, _, error) = cluster.cli(&["member", "--data", &data, "promote", "--id", "9"]);
    assert!(code == 1 && error.contains('9'), "{code} {error}");
    // Another cluster's admin has no say here.
    let other = Plan::nodes(1).prepare().data();
    let (code, _, error) = cluster.cli(&["member", "--data", &other, "remove", "--id", "1"]);
    assert!(code == 2 && !error.is_empty(), "{code} {error}");
    let (code, _, error) = cluster.cli(&[
        "member",
        "add",
        "--id",
        "2",
        "--peer",
        "127.0.0.1:1",
        "--key",
        "short",
    ]);
    assert!(code == 2 && error.contains("--key"), "{code} {error}");
}
