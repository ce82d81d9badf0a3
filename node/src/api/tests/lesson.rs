//! Lesson 5 as its script calls it, and what EAF's clients look at afterwards.

use serde_json::{Value, json};

use super::{BEGUN, Client, EPOCH_MS, key, public};
use crate::jwt;

/// The lesson up to the seals.
pub(super) fn taught() -> (Client, Value) {
    let client = Client::new();
    client.done(
        "asset.upsert",
        json!({ "assetId": "production1", "type": "balance", "balancerule": { "to": "seller1" } }),
    );
    client.done(
        "asset.upsert",
        json!({ "assetId": "seller1", "type": "balance", "balancerule": { "from": "bigbalancer", "to": "bigbalancer" } }),
    );
    client.done(
        "contract.add",
        json!({
            "contractId": "ppa1", "assetId": "seller1", "partnerId": "buyer1", "direction": "to", "energy": 200,
            "load_min": 0, "load_max": 20000, "balanced": 0, "status": "active",
        }),
    );
    client.done(
        "balancing.addSettlement",
        json!({ "meterId": "production1", "epoch": 1337, "consumption": 500, "label": "virtual_1" }),
    );
    let got = client.get("/api/balancing/seal?assetId=production1&epoch=1337");
    assert_eq!(got.status, 200, "{}", got.body);
    let got = client.get("/api/balancing/seal?assetId=seller1&epoch=1337");
    assert_eq!(got.status, 200, "{}", got.body);
    (client, got.body)
}

#[test]
fn the_four_statements() {
    let (client, _) = taught();
    let journal = client
        .get("/api/balancing/journal?assetId=seller1&epoch=1337")
        .body;
    let seen: Vec<String> = journal["statements"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|statement| {
            let text = |name: &str| statement[name].as_str().expect(name).to_owned();
            format!(
                "{} → {} {} {}",
                text("from"),
                text("to"),
                statement["energy"],
                text("kind")
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            "production1 → seller1 500 metered",
            "seller1 → bigbalancer 500 residual",
            "seller1 → buyer1 200 contract",
            "bigbalancer → seller1 200 counter",
        ]
    );
    assert_eq!(
        (&journal["watermark"], &journal["version"]),
        (&json!(4), &json!(0))
    );
}

#[test]
fn the_seal_has_eafs_figures_and_ours() {
    let (client, seal) = taught();
    for (name, value) in [
        ("assetId", json!("seller1")),
        ("epoch", json!(1337)),
        ("in", json!(700)),
        ("out", json!(700)),
        ("energy", json!(-300)),
        ("upstreamenergy", json!(-300)),
        ("balancesum", json!(500)),
        ("upstream", json!("bigbalancer")),
        ("upstream_from", json!("bigbalancer")),
        ("upstream_to", json!("bigbalancer")),
        ("co2eq", json!(0)),
        ("version", json!(0)),
        ("watermark", json!(4)),
        ("residual", json!(500)),
        ("position", json!(500)),
        ("contracts", json!([{ "contractId": "ppa1", "energy": 200 }])),
        ("previous", json!("0".repeat(64))),
        (
            "clearing",
            json!({ "from": "seller1", "to": "bigbalancer", "epoch": 1337, "energy": -500, "co2eq": 0 }),
        ),
    ] {
        assert_eq!(seal[name], value, "{name}");
    }
    // All that came in may have gone to the buyer; what the buyer got is split.
    let peers = json!({
        "from": { "production1": { "energy": 500, "tx": { "buyer1": 500 } },
                  "bigbalancer": { "energy": 200, "tx": { "buyer1": 200 } } },
        "to": { "buyer1": { "energy": 200, "tx": { "production1": 143, "bigbalancer": 57 } } },
    });
    assert_eq!(seal["peers"], peers);
    assert_eq!(seal["transactions"].as_array().map(Vec::len), Some(4));
    assert_eq!(seal["block"], seal["index"]);
    let blocks = client.get("/api/cluster/blocks").body;
    assert_eq!(blocks[1]["index"], seal["block"]);
    assert_eq!(blocks[1]["certified"], true);
}

#[test]
fn the_preview_shows_the_latest_balance() {
    let (client, seal) = taught();
    let balances = client.get("/api/balancing/latestBalances?assetId=seller1").body;
    assert_eq!(balances.as_array().map(Vec::len), Some(1));
    assert_eq!(balances[0]["time"], json!(1337 * EPOCH_MS));
    for name in [
        "assetId",
        "epoch",
        "energy",
        "balancesum",
        "digest",
        "peers",
        "transactions",
    ] {
        assert_eq!(balances[0][name], seal[name], "{name}");
    }
    assert_eq!(
        client
            .get("/api/balancing/latestBalances?assetId=seller1&n=1000000000&before=1337")
            .body,
        json!([])
    );
    // The parties that aren't sealed show what is open.
    let buyer = client
        .get("/api/balancing/balance?assetId=buyer1&epoch=1337")
        .body;
    assert_eq!(
        (&buyer["in"], &buyer["out"], &buyer["clearing"]["energy"]),
        (&json!(200), &json!(0), &json!(-200))
    );
    assert_eq!(buyer.get("seal"), None);
    let balancer = client
        .get("/api/balancing/unsealedBalance?assetId=bigbalancer&epoch=1337")
        .body;
    assert_eq!(
        (&balancer["in"], &balancer["out"], &balancer["energy"]),
        (&json!(500), &json!(200), &json!(-300))
    );
}

#[test]
fn the_token_names_the_seal_and_is_verified_only_if_it_is_a_nodes() {
    let (client, seal) = taught();
    let token = seal["seal"].as_str().expect("a token");
    let decoded = jwt::decode(token).expect("a JWT");
    assert!(decoded.verify(&public(&key(1))));
    for name in [
        "assetId",
        "epoch",
        "upstream",
        "balancesum",
        "energy",
        "co2eq",
        "auditId",
        "digest",
        "version",
        "block",
    ] {
        assert_eq!(decoded.payload[name], seal[name], "{name}");
    }
    assert!(
        decoded.payload["iat"]
            .as_u64()
            .is_some_and(|iat| iat >= BEGUN / 1000)
    );
    let answer = client
        .get(&format!("/api/balancing/decodeSeal?seal={token}"))
        .body;
    assert_eq!(
        (&answer["verified"], &answer["node"], &answer["energy"]),
        (&json!(true), &json!(1), &json!(-300))
    );
    // Another's signature over the same claims: decoded, and said to be nobody's.
    let (message, _) = token.rsplit_once('.').expect("three parts");
    let forged = format!("{message}.{}", ledger::jws::base64url(&[1; 64]));
    let answer = client
        .get(&format!("/api/balancing/decodeSeal?seal={forged}"))
        .body;
    assert_eq!(
        (&answer["verified"], &answer["node"]),
        (&json!(false), &json!(null))
    );
}

#[test]
fn a_seal_whose_block_this_node_has_not_signed_has_no_token() {
    let client = Client::new();
    client.solo.state.lock().signs = false;
    client.done(
        "balancing.addSettlement",
        json!({ "meterId": "m", "epoch": 1, "consumption": 5, "label": "x" }),
    );
    let seal = client.done("balancing.seal", json!({ "assetId": "m", "epoch": 1 }));
    assert_eq!(seal["seal"], json!(null));
    client.solo.state.lock().signs = true;
    assert!(client.get("/api/balancing/balance?assetId=m&epoch=1").body["seal"].is_string());
}

#[test]
fn a_proof_convinces_a_stranger() {
    let (client, seal) = taught();
    let proof = client.get("/api/balancing/proof?assetId=seller1&epoch=1337").body;
    let proof: ledger::certificate::Proof = serde_json::from_value(proof).expect("a proof");
    let verdict = ledger::certificate::verify(&proof, &[(1, public(&key(1)))]).expect("it holds");
    assert_eq!(verdict.digest.to_string(), seal["digest"]);
    assert!(ledger::certificate::verify(&proof, &[(1, public(&key(9)))]).is_err());
}

#[test]
fn late_values_and_corrections() {
    let (client, _) = taught();
    client.done(
        "balancing.addSettlement",
        json!({ "meterId": "production1", "epoch": 1337, "consumption": 50, "label": "x" }),
    );
    let late = client.get("/api/balancing/late?epoch=1337").body;
    let late: Vec<_> = late
        .as_array()
        .expect("a list")
        .iter()
        .map(|late| (&late["assetId"], &late["energy"]))
        .collect();
    assert_eq!(
        late,
        [
            (&json!("production1"), &json!(50)),
            (&json!("seller1"), &json!(50))
        ]
    );
    let statements = client
        .get("/api/balancing/statements?assetId=seller1&epoch=1337")
        .body;
    assert_eq!(
        (&statements[3]["sealed"], &statements[4]["sealed"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&statements[1]["isUpstream"], &statements[4]["isUpstream"]),
        (&json!(true), &json!(false))
    );
    client.done(
        "balancing.correct",
        json!({ "assetId": "production1", "epoch": 1337 }),
    );
    let seal = client.done(
        "balancing.correct",
        json!({ "assetId": "seller1", "epoch": 1337 }),
    );
    assert_eq!(
        (&seal["version"], &seal["residual"], &seal["energy"]),
        (&json!(1), &json!(50), &json!(-350))
    );
    let versions = client
        .get("/api/balancing/sealedBalance?assetId=seller1&epoch=1337")
        .body;
    assert_eq!(
        (&versions[0]["version"], &versions[1]["version"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(versions[0]["previous"], versions[1]["digest"]);
    assert_eq!(versions[1]["watermark"], json!(4));
}
