//! Every way in which a request can be wrong: the status, the code, the field that is named; and that nothing
//! happened.

mod common;

use common::http::Request;
use common::{Answer, Cluster, Plan};
use serde_json::{Value, json};

/// A wrong request and what must be said about it: status, code, and the field named ("" for none).
type Case = (&'static str, Value, u16, &'static str, &'static str);

/// What the edge refuses: nothing reaches the ledger.
fn invalid() -> Vec<Case> {
    let long = "x".repeat(129);
    let settlement = |field: &str, value: Value| {
        let mut body = json!({"meterId": "m", "epoch": 1, "consumption": 1, "label": "l"});
        body[field] = value;
        body
    };
    let contract = |field: &str, value: Value| {
        let mut body = json!({"assetId": "a", "partnerId": "b", "direction": "to", "energy": 1});
        body[field] = value;
        body
    };
    let missing = |body: Value, field: &str| {
        let mut body = body;
        body.as_object_mut().expect("an object").remove(field);
        body
    };
    let whole = settlement("epoch", json!(1));
    let mut cases: Vec<Case> = vec![
        // Ids and texts.
        ("asset.upsert", json!({}), 422, "missing_parameter", "assetId"),
        (
            "asset.upsert",
            json!({"assetId": ""}),
            422,
            "invalid_parameter",
            "assetId",
        ),
        (
            "asset.upsert",
            json!({"assetId": long}),
            422,
            "invalid_parameter",
            "assetId",
        ),
        (
            "asset.upsert",
            json!({"assetId": "a\u{7}b"}),
            422,
            "invalid_parameter",
            "assetId",
        ),
        (
            "asset.upsert",
            json!({"assetId": 5}),
            422,
            "invalid_parameter",
            "assetId",
        ),
        (
            "asset.upsert",
            json!({"assetId": "a", "balancerule": "b"}),
            422,
            "invalid_parameter",
            "balancerule",
        ),
        (
            "asset.upsert",
            json!({"assetId": "a", "balancerule": {"up": "b"}}),
            422,
            "invalid_parameter",
            "balancerule.up",
        ),
        (
            "asset.upsert",
            json!({"assetId": "a", "balancerule": {"to": ""}}),
            422,
            "invalid_parameter",
            "balancerule.to",
        ),
        ("asset.get", json!({}), 422, "missing_parameter", "assetId"),
        ("asset.find", json!({"q": "("}), 422, "invalid_parameter", "q"),
        ("asset.query", json!({}), 422, "missing_parameter", "q"),
        // Settlements.
        (
            "balancing.addSettlement",
            settlement("epoch", json!(-1)),
            422,
            "out_of_range",
            "epoch",
        ),
        (
            "balancing.addSettlement",
            settlement("epoch", json!(1u64 << 40)),
            422,
            "out_of_range",
            "epoch",
        ),
        (
            "balancing.addSettlement",
            settlement("epoch", json!(13.37)),
            422,
            "invalid_parameter",
            "epoch",
        ),
        (
            "balancing.addSettlement",
            settlement("epoch", json!("abc")),
            422,
            "invalid_parameter",
            "epoch",
        ),
        (
            "balancing.addSettlement",
            settlement("consumption", json!("much")),
            422,
            "invalid_parameter",
            "consumption",
        ),
        (
            "balancing.addSettlement",
            settlement("consumption", json!(1e300)),
            422,
            "out_of_range",
            "consumption",
        ),
        (
            "balancing.addSettlement",
            settlement("consumption", json!(true)),
            422,
            "invalid_parameter",
            "consumption",
        ),
        (
            "balancing.addSettlement",
            settlement("label", json!(".end")),
            422,
            "invalid_parameter",
            "label",
        ),
        (
            "balancing.addSettlement",
            settlement("label", json!("")),
            422,
            "invalid_parameter",
            "label",
        ),
        (
            "balancing.addSettlement",
            settlement("co2eq", json!([])),
            422,
            "invalid_parameter",
            "co2eq",
        ),
        (
            "balancing.addSettlement",
            settlement("autoseal", json!(-1)),
            422,
            "out_of_range",
            "autoseal",
        ),
        (
            "balancing.addSettlement",
            settlement("colour", json!("red")),
            422,
            "unknown_parameter",
            "colour",
        ),
        (
            "balancing.addSettlements",
            json!([]),
            422,
            "missing_parameter",
            "body",
        ),
        (
            "balancing.addSettlements",
            json!([whole, settlement("epoch", json!("x"))]),
            422,
            "invalid_parameter",
            "[1].epoch",
        ),
        (
            "balancing.addSettlements",
            json!([missing(whole.clone(), "label")]),
            422,
            "missing_parameter",
            "[0].label",
        ),
        // Contracts.
        (
            "contract.add",
            contract("direction", json!("up")),
            422,
            "invalid_parameter",
            "direction",
        ),
        (
            "contract.add",
            contract("energy", json!(-1)),
            422,
            "out_of_range",
            "energy",
        ),
        (
            "contract.add",
            contract("delivery", json!("soon")),
            422,
            "invalid_parameter",
            "delivery",
        ),
        (
            "contract.add",
            contract("status", json!("maybe")),
            422,
            "invalid_parameter",
            "status",
        ),
        (
            "contract.add",
            contract("load_min", json!(-5)),
            422,
            "out_of_range",
            "load_min",
        ),
        (
            "contract.add",
            contract("price", json!("dear")),
            422,
            "invalid_parameter",
            "price",
        ),
        (
            "contract.add",
            contract("priority", json!("first")),
            422,
            "invalid_parameter",
            "priority",
        ),
        (
            "contract.add",
            contract("contractId", json!("")),
            422,
            "invalid_parameter",
            "contractId",
        ),
        (
            "contract.add",
            json!({"assetId": "a", "partnerId": "b", "direction": "to", "energy": 1, "valid_from": 5, "valid_until": 4}),
            422,
            "invalid_parameter",
            "valid_until",
        ),
        (
            "contract.list",
            json!({"status": "gone"}),
            422,
            "invalid_parameter",
            "status",
        ),
        ("contract.get", json!({}), 422, "missing_parameter", "contractId"),
        (
            "contract.confirm",
            json!({}),
            422,
            "missing_parameter",
            "contractId",
        ),
        ("meritorder.get", json!({}), 422, "missing_parameter", "assetId"),
        ("meritorder.set", json!({}), 422, "missing_parameter", "assetId"),
        // Reads.
        (
            "balancing.journal",
            json!({"assetId": "a", "epoch": "x"}),
            422,
            "invalid_parameter",
            "epoch",
        ),
        (
            "balancing.latestBalances",
            json!({"assetId": "a", "n": 0}),
            422,
            "invalid_parameter",
            "n",
        ),
        (
            "balancing.proof",
            json!({"assetId": "a", "epoch": 1, "version": -1}),
            422,
            "out_of_range",
            "version",
        ),
        (
            "balancing.decodeSeal",
            json!({"seal": "not a token"}),
            422,
            "invalid_parameter",
            "seal",
        ),
        (
            "cluster.blocks",
            json!({"from": "x"}),
            422,
            "invalid_parameter",
            "from",
        ),
        (
            "cluster.status",
            json!({"verbose": true}),
            422,
            "unknown_parameter",
            "verbose",
        ),
        (
            "settlement.retrieve",
            json!({"consumption": 1, "startTime": 5, "endTime": 5}),
            422,
            "invalid_parameter",
            "endTime",
        ),
        // Things that aren't there.
        (
            "asset.get",
            json!({"assetId": "nobody"}),
            404,
            "unknown_asset",
            "",
        ),
        (
            "contract.get",
            json!({"contractId": "nothing"}),
            404,
            "unknown_contract",
            "",
        ),
        (
            "balancing.journal",
            json!({"assetId": "nobody", "epoch": 1}),
            404,
            "unknown_asset",
            "",
        ),
        (
            "balancing.balance",
            json!({"assetId": "nobody", "epoch": 1}),
            404,
            "unknown_asset",
            "",
        ),
        ("balancing.addSettlment", json!({}), 404, "unknown_action", ""),
        ("nothing.atAll", json!({}), 404, "unknown_action", ""),
    ];
    for action in [
        "balancing.seal",
        "balancing.correct",
        "balancing.journal",
        "balancing.proof",
        "balancing.balance",
        "balancing.isSealed",
        "balancing.sealedBalance",
        "balancing.unsealedBalance",
    ] {
        cases.push((action, json!({"epoch": 1}), 422, "missing_parameter", "assetId"));
        cases.push((action, json!({"assetId": "a"}), 422, "missing_parameter", "epoch"));
    }
    cases.push((
        "balancing.sealEpoch",
        json!({}),
        422,
        "missing_parameter",
        "epoch",
    ));
    for field in ["meterId", "epoch", "consumption", "label"] {
        cases.push((
            "balancing.addSettlement",
            missing(whole.clone(), field),
            422,
            "missing_parameter",
            field,
        ));
    }
    for field in ["assetId", "partnerId", "direction", "energy"] {
        cases.push((
            "contract.add",
            missing(contract("energy", json!(1)), field),
            422,
            "missing_parameter",
            field,
        ));
    }
    cases
}

/// What the ledger refuses, after `a → b → c`, a settlement on a in epoch 1, and the seal of a are there.
fn refused() -> Vec<Case> {
    let root = "eaf_generic_balancegroup";
    let settlement = |meter: &str| json!({"meterId": meter, "epoch": 1, "consumption": 1, "label": "l"});
    vec![
        (
            "asset.upsert",
            json!({"assetId": "c", "balancerule": {"from": "a"}}),
            409,
            "rule_cycle",
            "",
        ),
        (
            "asset.upsert",
            json!({"assetId": root, "balancerule": {"to": "a"}}),
            409,
            "root_has_no_rule",
            "",
        ),
        (
            "asset.upsert",
            json!({"assetId": "a", "note": "x".repeat(5_000)}),
            409,
            "metadata_too_large",
            "",
        ),
        (
            "contract.add",
            json!({"assetId": "a", "partnerId": "a", "direction": "to", "energy": 1}),
            409,
            "same_party",
            "",
        ),
        (
            "contract.add",
            json!({"assetId": root, "partnerId": "a", "direction": "to", "energy": 1}),
            409,
            "root_is_no_party",
            "",
        ),
        (
            "contract.add",
            json!({"contractId": "k", "assetId": "a", "partnerId": "b", "direction": "to", "energy": 1}),
            409,
            "contract_exists",
            "",
        ),
        (
            "contract.cancel",
            json!({"contractId": "nothing"}),
            404,
            "unknown_contract",
            "",
        ),
        (
            "balancing.addSettlement",
            settlement(root),
            409,
            "root_is_no_meter",
            "",
        ),
        (
            "balancing.addSettlements",
            json!([settlement("new"), settlement(root)]),
            409,
            "root_is_no_meter",
            "",
        ),
        (
            "balancing.seal",
            json!({"assetId": "nobody", "epoch": 1}),
            404,
            "unknown_asset",
            "",
        ),
        (
            "balancing.seal",
            json!({"assetId": root, "epoch": 1}),
            409,
            "root_not_sealable",
            "",
        ),
        (
            "balancing.seal",
            json!({"assetId": "a", "epoch": 1}),
            409,
            "already_sealed",
            "",
        ),
        (
            "balancing.seal",
            json!({"assetId": "a", "epoch": 2}),
            409,
            "nothing_to_seal",
            "",
        ),
        (
            "balancing.seal",
            json!({"assetId": "c", "epoch": 3}),
            409,
            "downstream_open",
            "",
        ),
        (
            "balancing.correct",
            json!({"assetId": "b", "epoch": 1}),
            409,
            "not_sealed",
            "",
        ),
        (
            "balancing.correct",
            json!({"assetId": "a", "epoch": 1}),
            409,
            "nothing_late",
            "",
        ),
        (
            "balancing.sealEpoch",
            json!({"epoch": 1, "under": "nobody"}),
            404,
            "unknown_asset",
            "",
        ),
    ]
}

fn check(context: &str, answer: &Answer, status: u16, code: &str, field: &str) {
    assert_eq!(
        (answer.status, answer.code()),
        (status, code),
        "{context}: {}",
        answer.body
    );
    let error = &answer.body["error"];
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| message.len() > 10),
        "{context}: {error}"
    );
    if !field.is_empty() {
        assert_eq!(error["field"], field, "{context}: {error}");
        let message = error["message"].as_str().expect("a message");
        assert!(
            message.contains(field.trim_start_matches("body")),
            "{context}: the message names the field: {error}"
        );
    }
    assert!(answer.body["now"].is_u64(), "{context}: {}", answer.body);
}

fn state(cluster: &Cluster, node: u64) -> Value {
    cluster.ok(node, "cluster.status", &json!({}))["state"].clone()
}

#[test]
fn each_mistake_is_named_and_has_no_effect() {
    let cluster = Plan::nodes(1).start();
    let before = state(&cluster, 1);
    for (action, body, status, code, field) in invalid() {
        let answer = cluster.call(1, action, &body);
        let shown: String = body.to_string().chars().take(160).collect();
        check(&format!("{action} {shown}"), &answer, status, code, field);
    }
    assert_eq!(state(&cluster, 1), before, "something reached the ledger");
}

#[test]
fn each_refusal_of_the_ledger_has_its_code_and_books_nothing() {
    let cluster = Plan::nodes(1).start();
    for (action, body) in [
        (
            "asset.upsert",
            json!({"assetId": "a", "balancerule": {"to": "b"}}),
        ),
        (
            "asset.upsert",
            json!({"assetId": "b", "balancerule": {"to": "c"}}),
        ),
        (
            "contract.add",
            json!({"contractId": "k", "assetId": "a", "partnerId": "b", "direction": "to", "energy": 0}),
        ),
        (
            "balancing.addSettlement",
            json!({"meterId": "a", "epoch": 1, "consumption": 1, "label": "l"}),
        ),
        (
            "balancing.addSettlement",
            json!({"meterId": "b", "epoch": 3, "consumption": 1, "label": "l"}),
        ),
        ("balancing.seal", json!({"assetId": "a", "epoch": 1})),
    ] {
        cluster.ok(1, action, &body);
    }
    let everything = |cluster: &Cluster| -> Vec<Value> {
        let assets = cluster.ok(1, "asset.find", &json!({}));
        let ids: Vec<String> = assets
            .as_array()
            .expect("assets")
            .iter()
            .map(|asset| asset["assetId"].as_str().expect("an id").to_owned())
            .collect();
        let mut all = vec![assets, cluster.ok(1, "contract.list", &json!({}))];
        for id in ids {
            for epoch in 1..=3 {
                all.push(cluster.ok(1, "balancing.journal", &json!({"assetId": id, "epoch": epoch})));
            }
        }
        all
    };
    let before = everything(&cluster);
    for (action, body, status, code, field) in refused() {
        let answer = cluster.call(1, action, &body);
        let shown: String = body.to_string().chars().take(160).collect();
        check(&format!("{action} {shown}"), &answer, status, code, field);
    }
    assert_eq!(everything(&cluster), before, "a refusal changed something");
}

#[test]
fn broken_requests_get_a_4xx_that_says_what_is_broken() {
    let cluster = Plan::nodes(1)
        .options("[limits]\nbody_bytes = 10000\nbatch = 3\n")
        .start();
    let api = cluster.api(1);
    let post = |action: &str, body: &str, content_type: &'static str| {
        let request = Request {
            body: body.as_bytes().to_vec(),
            content_type,
            ..Request::post(&api, action, &json!({}))
        };
        request.send().expect("an answer")
    };
    let json_type = "application/json";
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let cases = [
        (post("balancing.seal", "{", json_type), 400, "malformed_json"),
        (
            post(
                "balancing.seal",
                "{\"assetId\": \"a\", \"assetId\": \"b\", \"epoch\": 1}",
                json_type,
            ),
            400,
            "malformed_json",
        ),
        (
            post("balancing.addSettlements", &deep, json_type),
            400,
            "malformed_json",
        ),
        (
            post("balancing.seal", "\u{0}\u{1}", "application/octet-stream"),
            415,
            "unsupported_media_type",
        ),
        (
            post(
                "balancing.seal",
                &format!("{{\"assetId\": \"{}\"}}", "x".repeat(20_000)),
                json_type,
            ),
            413,
            "body_too_large",
        ),
        (
            post(
                "balancing.addSettlements",
                &json!(vec![
                    json!({"meterId": "m", "epoch": 1, "consumption": 1, "label": "l"});
                    4
                ])
                .to_string(),
                json_type,
            ),
            413,
            "batch_too_large",
        ),
        (
            Request::get(&api, "/api/balancing/addSettlements")
                .send()
                .expect("an answer"),
            405,
            "method_not_allowed",
        ),
        (
            Request::get(&api, "/api/balancing/journal?assetId=a&epoch=%zz")
                .send()
                .expect("an answer"),
            400,
            "malformed_query",
        ),
        (
            Request::get(&api, "/nowhere").send().expect("an answer"),
            404,
            "unknown_action",
        ),
    ];
    for (answer, status, code) in cases {
        check(code, &answer, status, code, "");
    }
    // A key that is too long is refused before it is hashed.
    let long = Request::post(&api, "asset.upsert", &json!({"assetId": "a"}))
        .key("k".repeat(65))
        .send()
        .expect("an answer");
    assert_eq!(long.status, 422, "{}", long.body);
    // NDJSON is a batch like any other.
    let line = "{\"meterId\":\"m\",\"epoch\":1,\"consumption\":1,\"label\":\"l\"}\n";
    let answer = post(
        "balancing.addSettlements",
        &line.repeat(3),
        "application/x-ndjson",
    )
    .ok();
    assert_eq!(answer["accepted"], 3);
}

#[test]
fn numbers_may_stand_in_strings_and_the_edges_of_ranges_are_inside() {
    let cluster = Plan::nodes(1).start();
    let api = cluster.api(1);
    let accepted = [
        json!({"meterId": "m", "epoch": "7", "consumption": "12.5", "label": "l"}),
        json!({"meterId": "m", "epoch": (1u64 << 40) - 1, "consumption": 1u64 << 40, "label": "l"}),
        json!({"meterId": "x".repeat(128), "epoch": 0, "consumption": -(1i64 << 40), "label": "l", "co2eq": -(1i64 << 40)}),
    ];
    let energies: Vec<Value> = accepted
        .iter()
        .map(|body| cluster.ok(1, "balancing.addSettlement", body)["statement"]["energy"].clone())
        .collect();
    assert_eq!(energies, [json!(13), json!(1u64 << 40), json!(1u64 << 40)]);
    let read = Request::get(&api, "/api/balancing/journal?assetId=m&epoch=7")
        .send()
        .expect("an answer")
        .ok();
    assert_eq!(read["statements"][0]["energy"], 13);
    // One beyond the edge is the ledger's to refuse.
    let beyond = json!({"meterId": "m", "epoch": 1, "consumption": (1u64 << 40) + 1, "label": "l"});
    let answer = cluster.call(1, "balancing.addSettlement", &beyond);
    assert_eq!(answer.code(), "out_of_range", "{}", answer.body);
}
