//! The command line against real nodes: calls, status, keys, and how it says that something is wrong.

mod common;

use common::{Cluster, Plan, gridseal};
use serde_json::{Value, json};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

fn call(cluster: &Cluster, arguments: &[&str]) -> (i32, Value, String) {
    let mut all = vec!["call"];
    all.extend(arguments);
    let (code, out, error) = cluster.cli(&all);
    (
        code,
        if out.is_empty() { Value::Null } else { parse(&out) },
        error,
    )
}

#[test]
fn call_reaches_any_action_and_tells_refusals_from_silence() {
    let mut cluster = Plan::nodes(3).start();
    let (code, _, error) = call(&cluster, &["asset.upsert", "assetId=pv", "balancerule.to=house"]);
    assert_eq!(code, 0, "{error}");
    let settlement = [
        "balancing.addSettlement",
        "meterId=pv",
        "epoch=5",
        "consumption=2.5",
        "label=virtual_1",
    ];
    let (code, answer, _) = call(&cluster, &settlement);
    assert_eq!((code, &answer["statement"]["energy"]), (0, &json!(3)), "{answer}");

    // The same key is the same write.
    let keyed: Vec<&str> = settlement.iter().copied().chain(["--key", "k7"]).collect();
    let (first, again) = (call(&cluster, &keyed).1, call(&cluster, &keyed).1);
    assert_eq!(first["statement"]["id"], again["statement"]["id"]);

    // A batch from a file.
    let file = cluster.path("readings.ndjson");
    std::fs::write(
        &file,
        "{\"meterId\":\"pv\",\"epoch\":6,\"consumption\":1,\"label\":\"l\"}\n".repeat(4),
    )
    .expect("write");
    let (code, answer, error) = call(
        &cluster,
        &["balancing.addSettlements", &format!("@{}", file.display())],
    );
    assert_eq!((code, &answer["accepted"]), (0, &json!(4)), "{error}");

    // A refusal is printed, and is exit code 1; a wrong command line is 2.
    let (code, answer, error) = call(&cluster, &["balancing.seal", "assetId=nobody", "epoch=1"]);
    assert_eq!((code, &answer["error"]["code"]), (1, &json!("unknown_asset")));
    assert!(error.contains("404 unknown_asset"), "{error}");
    assert_eq!(call(&cluster, &["balancing.seal", "epoch"]).0, 2);
    assert_eq!(call(&cluster, &["seal"]).0, 2);

    // With the first node of the list down, the next is asked; with all of them down, that is said.
    cluster.kill9(1);
    let (code, answer, error) = call(&cluster, &["balancing.journal", "assetId=pv", "epoch=5"]);
    assert_eq!(
        (code, answer["statements"].as_array().map(Vec::len)),
        (0, Some(2)),
        "{error}"
    );
    for id in [2, 3] {
        cluster.kill9(id);
    }
    let (code, _, error) = call(
        &cluster,
        &["balancing.journal", "assetId=pv", "epoch=5", "--patience", "1"],
    );
    assert!(code == 3 && error.contains("no answer"), "{code} {error}");
}

#[test]
fn status_shows_every_node_and_says_who_is_silent() {
    let mut cluster = Plan::nodes(3).start();
    cluster.ok(
        1,
        "balancing.addSettlement",
        &json!({"meterId": "m", "epoch": 1, "consumption": 1, "label": "l"}),
    );
    cluster.ok(1, "balancing.sealEpoch", &json!({"epoch": 1}));
    cluster.certified(&[1, 2, 3], 1);
    let (code, table, error) = cluster.cli(&["status"]);
    assert_eq!(code, 0, "{table}{error}");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert_eq!(
        table.matches("leader").count(),
        2,
        "one leads, and the head has a column: {table}"
    );
    assert_eq!(table.matches("certified").count(), 3, "{table}");

    cluster.kill9(3);
    let (code, out, error) = cluster.cli(&["status", "--json"]);
    assert_eq!(code, 3, "{error}");
    let list = parse(&out);
    assert_eq!(list.as_array().map(Vec::len), Some(3));
    assert!(
        list[2]["error"].is_string() && list[0]["status"]["applied"].is_u64(),
        "{list}"
    );
    assert_eq!(list[0]["newest_block"]["count"], 1, "{list}");
}

#[test]
fn a_node_refuses_to_start_with_what_does_not_fit_and_says_where() {
    let cluster = Plan::nodes(1).prepare();
    let start = |file: &str| gridseal(&["node", "--id", "1", "--cluster", file, "--data", &cluster.data()]);
    let altered = |from: &str, to: &str| {
        let text = std::fs::read_to_string(cluster.file()).expect("the cluster file");
        let file = cluster.path("altered.toml");
        std::fs::write(&file, text.replace(from, to)).expect("write");
        file.display().to_string()
    };
    let (code, _, error) = start(&altered("epoch_ms = 900000", "epoch_ms = 3600000"));
    assert!(
        code == 2 && error.contains("epoch_ms is 3600000") && error.contains("genesis.json says 900000"),
        "{error}"
    );
    let (code, _, error) = start(&altered("epoch_ms = 900000", "epoch_ms = \"soon\""));
    assert!(code == 2 && error.contains("altered.toml:1: epoch_ms"), "{error}");
    let (code, _, error) = gridseal(&[
        "node",
        "--id",
        "7",
        "--cluster",
        &cluster.file(),
        "--data",
        &cluster.data(),
    ]);
    assert!(code != 0 && error.contains('7'), "{error}");

    use std::os::unix::fs::PermissionsExt as _;
    let key = cluster.path("data/node-1/node.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let (code, _, error) = start(&cluster.file());
    assert!(code == 2 && error.contains("chmod 600"), "{error}");
    let secret = std::fs::read_to_string(&key).expect("the key");
    let secret = secret.split_whitespace().nth(1).expect("the seed");
    assert!(!error.contains(secret), "a secret in a message");
}

#[test]
fn keys_are_made_once_and_shown_in_public_only() {
    let cluster = Plan::nodes(2).prepare();
    let show = |more: &[&str]| {
        let mut all = vec!["keys", "show", "--data"];
        let data = cluster.data();
        all.push(&data);
        all.extend(more);
        let (code, out, error) = gridseal(&all);
        assert_eq!(code, 0, "{error}");
        out
    };
    let (before, all) = (show(&[]), parse(&show(&["--json"])));
    assert_eq!(all["nodes"].as_array().map(Vec::len), Some(2));
    let jwks = parse(&show(&["--jwks"]));
    assert_eq!(jwks["keys"][0]["kty"], "OKP");
    assert!(jwks["keys"][0].get("d").is_none(), "no secret part");
    let (code, _, error) = gridseal(&[
        "keys",
        "init",
        "--cluster",
        &cluster.file(),
        "--data",
        &cluster.data(),
    ]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(show(&[]), before, "a second init changes nothing");
}

#[test]
fn help_is_there_for_every_command() {
    for command in ["up", "node", "call", "status", "verify", "keys", "member"] {
        let (code, out, _) = gridseal(&[command, "--help"]);
        assert_eq!(code, 0, "{command}");
        assert!(out.len() > 300, "{command}: {out}");
    }
    let (code, out, _) = gridseal(&["--help"]);
    assert!(code == 0 && out.contains("Exit codes"), "{out}");
}

#[test]
fn whoever_stops_reading_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gridseal"))
        .args(["bench", "--list"])
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .output()
        .expect("the binary runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    assert_eq!(error, "");
}
