//! The reference lesson through HTTP as its script makes the calls, and what the original would show afterwards.

mod common;

use common::http::Request;
use common::{Cluster, Plan};
use serde_json::{Value, json};

/// The unmodified calls of the lesson, in its order, with the parameters it gives.
fn script() -> Vec<(&'static str, Value)> {
    vec![
        (
            "asset.upsert",
            json!({"assetId": "production1", "type": "balance", "balancerule": {"to": "seller1"}}),
        ),
        (
            "asset.upsert",
            json!({"assetId": "seller1", "type": "balance", "balancerule": {"from": "bigbalancer", "to": "bigbalancer"}}),
        ),
        (
            "contract.add",
            json!({"assetId": "seller1", "partnerId": "buyer1", "direction": "to", "energy": 200, "load_min": 0,
                "load_max": 20000, "balanced": 0, "status": "active"}),
        ),
        (
            "balancing.addSettlement",
            json!({"meterId": "production1", "epoch": 1337, "consumption": 500, "label": "virtual_1"}),
        ),
        ("balancing.seal", json!({"assetId": "production1", "epoch": 1337})),
        ("balancing.seal", json!({"assetId": "seller1", "epoch": 1337})),
    ]
}

fn taught(nodes: u64) -> Cluster {
    let cluster = Plan::nodes(nodes).start();
    for (action, body) in script() {
        cluster.ok(1, action, &body);
    }
    cluster
}

/// The GET that the original's clients make.
fn get(cluster: &Cluster, node: u64, path: &str) -> Value {
    Request::get(&cluster.api(node), path)
        .send()
        .expect("an answer")
        .ok()
}

fn statements(journal: &Value) -> Vec<String> {
    let one = |statement: &Value| {
        let text = |field: &str| statement[field].as_str().unwrap_or("?").to_owned();
        format!(
            "{} → {} {} ({}, {})",
            text("from"),
            text("to"),
            statement["energy"],
            text("kind"),
            text("label")
        )
    };
    journal["statements"]
        .as_array()
        .expect("statements")
        .iter()
        .map(one)
        .collect()
}

#[test]
fn the_lesson_books_its_four_statements_on_every_node() {
    let cluster = taught(3);
    let expected = [
        "production1 → seller1 500 (metered, virtual_1)",
        "seller1 → bigbalancer 500 (residual, .end)",
        "seller1 → buyer1 200 (contract, .ppa)",
        "bigbalancer → seller1 200 (counter, .ppa)",
    ];
    for node in cluster.ids() {
        let journal = cluster.ok(
            node,
            "balancing.journal",
            &json!({"assetId": "seller1", "epoch": 1337}),
        );
        assert_eq!(statements(&journal), expected, "node {node}");
        assert_eq!(
            (&journal["watermark"], &journal["version"]),
            (&json!(4), &json!(0)),
            "node {node}"
        );
    }
    cluster.certified(&cluster.ids(), 2);
}

#[test]
fn balances_have_the_figures_that_the_lesson_shows() {
    let cluster = taught(1);
    let path = |action: &str, asset: &str| format!("/api/balancing/{action}?assetId={asset}&epoch=1337");

    let seller = get(&cluster, 1, &path("balance", "seller1"));
    // SPEC §9: in 700, out 700, energy −300 after the contract, balancesum 500 before it.
    assert_eq!(seller["balancesum"], 500, "{seller}");
    assert_eq!(seller["energy"], -300, "{seller}");
    assert_eq!(seller["upstream"], "bigbalancer", "{seller}");
    assert_eq!(
        seller["transactions"].as_array().map(Vec::len),
        Some(4),
        "{seller}"
    );
    let flows = |peers: &Value| -> Vec<(String, i64)> {
        let peers = peers.as_object().expect("peers");
        peers
            .iter()
            .map(|(id, peer)| (id.clone(), peer["energy"].as_i64().expect("energy")))
            .collect()
    };
    assert_eq!(
        flows(&seller["peers"]["from"]),
        [("bigbalancer".to_owned(), 200), ("production1".to_owned(), 500)]
    );
    assert_eq!(flows(&seller["peers"]["to"]), [("buyer1".to_owned(), 200)]);

    let buyer = get(&cluster, 1, &path("balance", "buyer1"));
    assert_eq!((&buyer["in"], &buyer["out"]), (&json!(200), &json!(0)), "{buyer}");
    let balancer = get(&cluster, 1, &path("balance", "bigbalancer"));
    assert_eq!(
        (&balancer["in"], &balancer["out"]),
        (&json!(500), &json!(200)),
        "{balancer}"
    );

    assert_eq!(get(&cluster, 1, &path("isSealed", "seller1")), json!(true));
    assert_eq!(get(&cluster, 1, &path("isSealed", "buyer1")), json!(false));
    let newest = get(&cluster, 1, "/api/balancing/latestBalances?assetId=seller1");
    let newest = newest.as_array().expect("an array");
    assert_eq!(
        (newest.len(), &newest[0]["epoch"]),
        (1, &json!(1337)),
        "{newest:?}"
    );
    assert_eq!(newest[0]["time"], json!(1337 * 900_000u64), "{newest:?}");
}

#[test]
fn sealing_again_is_refused_with_the_words_of_the_original() {
    let cluster = taught(1);
    let answer = cluster.call(1, "balancing.seal", &json!({"assetId": "seller1", "epoch": 1337}));
    assert_eq!(
        (answer.status, answer.code()),
        (409, "already_sealed"),
        "{}",
        answer.body
    );
    assert_eq!(answer.body["err"], "balance already sealed", "{}", answer.body);
    assert!(
        answer.body["now"].is_u64(),
        "every answer carries the ledger's now: {}",
        answer.body
    );
}
