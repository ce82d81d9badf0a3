//! Every vector of SPEC through HTTP on real nodes: each step's answer, then every journal, seal and contract.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Answer, Cluster, Plan};
use serde_json::{Map, Value, json};

struct Vector {
    name: String,
    content: Value,
}

fn vectors(which: impl Fn(&str) -> bool) -> Vec<Vector> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut vectors: Vec<Vector> = std::fs::read_dir(&directory)
        .expect("tests/vectors")
        .filter_map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_stem()?.to_str()?.to_owned();
            let json = path.extension().is_some_and(|extension| extension == "json");
            (json && which(&name)).then(|| {
                let text = std::fs::read_to_string(&path).expect("a vector");
                Vector {
                    name,
                    content: serde_json::from_str(&text).expect("JSON"),
                }
            })
        })
        .collect();
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!vectors.is_empty(), "no vector in {}", directory.display());
    vectors
}

/// Plays a vector on a fresh cluster, each step on another node.
fn play(vector: &Vector, nodes: u64) {
    let cluster = Plan::nodes(nodes).start();
    let ids = cluster.ids();
    for (number, step) in vector.content["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .enumerate()
    {
        let node = ids[number % ids.len()];
        let action = step["call"].as_str().expect("a call");
        let answer = cluster.call(node, action, &step["params"]);
        let context = format!("{} step {number}: {action} {}", vector.name, step["params"]);
        compare(&context, &answer, &step["expect"]);
    }
    journals(vector, &cluster, ids[0]);
    seals(vector, &cluster, ids[ids.len() - 1]);
    for (contract, balanced) in vector.content["contracts"].as_object().expect("contracts") {
        let found = cluster.ok(ids[0], "contract.get", &json!({"contractId": contract}));
        assert_eq!(
            &found["balanced"], balanced,
            "{}: contract {contract}",
            vector.name
        );
    }
}

fn compare(context: &str, answer: &Answer, expect: &Value) {
    if let Some(code) = expect["error"].as_str() {
        assert_eq!(
            answer.code(),
            code,
            "{context}: {} {}",
            answer.status,
            answer.body
        );
        let status = match code {
            "unknown_asset" | "unknown_contract" => 404,
            _ => 409,
        };
        assert_eq!(answer.status, status, "{context}: {}", answer.body);
        if !expect["assets"].is_null() {
            assert_eq!(answer.body["error"]["assets"], expect["assets"], "{context}");
        }
        return;
    }
    assert_eq!(answer.status, 200, "{context}: {}", answer.body);
    assert!(
        answer.body["index"].is_u64(),
        "{context}: a write answers its index: {}",
        answer.body
    );
    if !expect["statement"].is_null() {
        assert_eq!(bare(&answer.body["statement"]), expect["statement"], "{context}");
    }
    if !expect["seal"].is_null() {
        assert_seal(context, &answer.body, &expect["seal"]);
        assert!(
            answer.body["digest"].is_string() && answer.body["previous"].is_string(),
            "{context}"
        );
    }
    if let Some(expected) = expect["seals"].as_array() {
        let found = answer.body["seals"].as_array().expect("seals");
        assert_eq!(found.len(), expected.len(), "{context}: {}", answer.body);
        for (found, expected) in found.iter().zip(expected) {
            assert_seal(context, found, expected);
        }
        assert_eq!(answer.body["held"], expect["held"], "{context}");
    }
}

/// A statement without what names its place in this very log, and who metered it.
fn bare(statement: &Value) -> Value {
    let statement = statement.as_object().expect("a statement");
    assert!(!statement["id"].is_null(), "a statement has an id: {statement:?}");
    let kept = statement
        .iter()
        .filter(|(field, _)| !matches!(field.as_str(), "id" | "meter"));
    Value::Object(
        kept.map(|(field, value)| (field.clone(), value.clone()))
            .collect::<Map<_, _>>(),
    )
}

/// The vector's fields of a seal, exactly; EAF's and the digests stand beside them.
fn assert_seal(context: &str, found: &Value, expected: &Value) {
    for (field, value) in expected.as_object().expect("a seal") {
        assert_eq!(&found[field], value, "{context}: {field} of {found}");
    }
}

fn journals(vector: &Vector, cluster: &Cluster, node: u64) {
    let statements = vector.content["statements"].as_array().expect("statements");
    let sides =
        |statement: &Value| ["from", "to"].map(|side| statement[side].as_str().expect("an id").to_owned());
    let all: BTreeSet<(String, u64)> = statements
        .iter()
        .flat_map(|statement| {
            let epoch = statement["epoch"].as_u64().expect("an epoch");
            sides(statement).map(|asset| (asset, epoch))
        })
        .collect();
    for (asset, epoch) in all {
        let of_this = |statement: &&Value| statement["epoch"] == epoch && sides(statement).contains(&asset);
        let expected: Vec<Value> = statements.iter().filter(of_this).cloned().collect();
        let journal = cluster.ok(
            node,
            "balancing.journal",
            &json!({"assetId": asset, "epoch": epoch}),
        );
        let found: Vec<Value> = journal["statements"]
            .as_array()
            .expect("statements")
            .iter()
            .map(bare)
            .collect();
        assert_eq!(found, expected, "{}: journal of {asset} in {epoch}", vector.name);
    }
}

/// Each seal's content as its proof has it.
fn seals(vector: &Vector, cluster: &Cluster, node: u64) {
    for expected in vector.content["seals"].as_array().expect("seals") {
        let body = json!({"assetId": expected["assetId"], "epoch": expected["epoch"], "version": expected["version"]});
        let proof = cluster.ok(node, "balancing.proof", &body);
        let seal = &proof["seal"];
        for field in ["epoch", "version", "watermark", "residual", "position"] {
            assert_eq!(seal[field], expected[field], "{}: {field} of {seal}", vector.name);
        }
        let served = |list: &Value, id: &str| -> Vec<(Value, Value, Value)> {
            let entry = |entry: &Value| {
                (
                    entry[id].clone(),
                    entry["energy"].clone(),
                    entry["reason"].clone(),
                )
            };
            list.as_array().expect("contracts").iter().map(entry).collect()
        };
        let (found, wanted) = (
            served(&seal["contracts"], "contract"),
            served(&expected["contracts"], "contractId"),
        );
        assert_eq!(found, wanted, "{}: {seal}", vector.name);
    }
}

#[test]
fn written_vectors_on_three_nodes() {
    for vector in vectors(|name| !name.contains("random")) {
        play(&vector, 3);
    }
}

#[test]
fn random_vectors_on_one_node() {
    for vector in vectors(|name| name.contains("random")) {
        play(&vector, 1);
    }
}
