//! The binary stream through the real binary, asked by a client in another language.

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::{Cluster, Plan};
use serde_json::json;

/// What the Python client printed: amount → what became of it. `None` where there is no Python.
fn python(cluster: &Cluster, node: u64, meter: &str, amounts: &[String]) -> Option<BTreeMap<String, String>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stream_client.py");
    let output = Command::new("python3")
        .args([script, &cluster.api(node), meter, "1337"])
        .args(amounts)
        .output()
        .inspect_err(|error| eprintln!("not tried, there is no python3: {error}"))
        .ok()?;
    let text = String::from_utf8(output.stdout).expect("text");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
    let line = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    Some(text.lines().filter_map(line).collect())
}

/// The statements of the meter as a node has them: `index.position` → energy.
fn booked(cluster: &Cluster, node: u64, meter: &str) -> BTreeMap<String, u64> {
    let journal = cluster.ok(
        node,
        "balancing.journal",
        &json!({"assetId": meter, "epoch": 1337}),
    );
    let statements = journal["statements"].as_array().expect("statements");
    statements
        .iter()
        .map(|statement| {
            let id = statement["id"].as_str().expect("an id").to_owned();
            (id, statement["energy"].as_u64().expect("an energy"))
        })
        .collect()
}

#[test]
fn single_settlements_of_a_stream_are_booked_once_each_and_answered_with_their_statements() {
    let cluster = Plan::nodes(3).start();
    let amounts: Vec<String> = (1..=500).map(|wh: u64| wh.to_string()).collect();
    for node in cluster.ids() {
        let meter = format!("meter-{node}");
        let Some(answers) = python(&cluster, node, &meter, &amounts) else {
            return;
        };
        let told: BTreeMap<String, u64> = answers
            .into_iter()
            .map(|(amount, id)| (id, amount.parse().expect("a number")))
            .collect();
        assert_eq!(told.len(), amounts.len(), "two were told of one statement");
        for other in cluster.ids() {
            assert_eq!(
                booked(&cluster, other, &meter),
                told,
                "asked {node}, read on {other}"
            );
        }
    }
}

#[test]
fn a_settlement_that_is_refused_spoils_none_that_travel_with_it() {
    let cluster = Plan::nodes(1).start();
    let beyond = ((1u64 << 40) + 1).to_string();
    let amounts = ["1", &beyond, "3"].map(str::to_owned);
    let Some(answers) = python(&cluster, 1, "meter", &amounts) else {
        return;
    };
    assert_eq!(answers[&beyond], "failed: 409 out_of_range");
    let energies: Vec<u64> = booked(&cluster, 1, "meter").into_values().collect();
    assert_eq!(energies.iter().sum::<u64>(), 4, "{answers:?}");
}
