//! A node whose ledger is falsified notices, says so, and falls out; the others go on certifying.

mod common;

use std::time::Duration;

use common::http::Request;
use common::{Cluster, Plan, eventually};
use serde_json::json;

const LIAR: u64 = 2;

fn epoch(cluster: &Cluster, nodes: &[u64], epoch: u64) {
    let body = json!({"meterId": "meter", "epoch": epoch, "consumption": 100 + epoch, "label": "l"});
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
fn exactly_the_falsified_node_falls_out_and_two_go_on_certifying() {
    let cluster = Plan::nodes(3).env(LIAR, "GRIDSEAL_TEST_CORRUPT", "20").start();
    let honest = [1, 3];
    for number in 1..=30 {
        epoch(&cluster, &honest, number);
    }
    let chain = cluster.certified(&honest, 30);

    let alarms = eventually(
        "the falsified node raises an alarm",
        Duration::from_secs(30),
        || {
            let status = cluster.status(LIAR)?;
            status["alarms"]
                .as_array()
                .filter(|alarms| !alarms.is_empty())
                .cloned()
        },
    );
    assert!(!alarms.is_empty());
    for id in honest {
        assert_eq!(
            cluster.status(id).expect("a status")["alarms"],
            json!([]),
            "node {id} is well"
        );
    }
    // It refuses sealed reads and says why; it doesn't lead; metrics and status say so too.
    let read = cluster.call(
        LIAR,
        "balancing.balance",
        &json!({"assetId": "meter", "epoch": 1}),
    );
    assert_eq!((read.status, read.code()), (503, "alarm"), "{}", read.body);
    let metrics = Request::get(&cluster.api(LIAR), "/metrics")
        .send()
        .expect("metrics")
        .body
        .to_string();
    assert!(metrics.contains("alarm"), "{metrics}");
    let (code, table, error) = cluster.cli(&["status"]);
    assert_eq!(code, 1, "{table}{error}");
    assert!(error.contains("alarm"), "{error}");
    let leader = cluster.leader(&honest);
    assert_ne!(leader, LIAR);

    // The last blocks bear the two honest signatures and never the third's.
    let newest = chain.last().expect("a block");
    assert_eq!(newest["signatures"], 2, "{newest}");
    epoch(&cluster, &honest, 31);
    let newest = cluster.certified(&honest, 31).pop().expect("a block");
    assert_eq!(newest["signatures"], 2, "{newest}");
}
