//! Every answer has the shape that the OpenAPI document promises.

use serde_json::{Value, json};

use super::lesson::taught;
use super::{Client, key};
use crate::api::{openapi, route};
use crate::order::Task;

/// Holds a value against a schema: the part of JSON Schema that the document uses.
fn holds(schema: &Value, value: &Value, document: &Value, at: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document
            .pointer(reference.trim_start_matches('#'))
            .ok_or_else(|| reference.to_owned())?;
        return holds(target, value, document, at);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let errors: Vec<String> = options
            .iter()
            .filter_map(|option| holds(option, value, document, at).err())
            .collect();
        return if errors.len() + 1 == options.len() {
            Ok(())
        } else {
            Err(format!("{at}: not exactly one: {errors:?}"))
        };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => vec![kind],
    };
    if !types.contains(&kind) {
        return Err(format!("{at} is {kind}, not {types:?}"));
    }
    if let Some(all) = schema["enum"].as_array()
        && !all.contains(value)
    {
        return Err(format!("{at} is {value}"));
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !object.contains_key(name) {
                return Err(format!("{at}.{name} is missing"));
            }
        }
        for (name, value) in object {
            let inner = match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => return Err(format!("{at}.{name} is not in the schema")),
                (Value::Null, additional) => additional,
                (property, _) => property,
            };
            if inner.is_object() {
                holds(inner, value, document, &format!("{at}.{name}"))?;
            }
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        holds(&schema["items"], item, document, &format!("{at}[{i}]"))?;
    }
    Ok(())
}

fn check(client: &Client, action: &str, body: Value) -> Value {
    let document = openapi::document();
    let route = route::all().find(|route| route.name == action).expect(action);
    let schema: Value = serde_json::from_str(route.answer).expect("JSON");
    let answer = client.done(action, body);
    holds(&schema, &answer, &document, action).expect("the promised shape");
    answer
}

#[test]
fn every_answer_is_as_promised() {
    let (client, seal) = taught();
    let check = |action: &str, body: Value| check(&client, action, body);
    let of = |asset: &str| json!({ "assetId": asset, "epoch": 1337 });
    let mut seen = Vec::new();
    for (action, body) in [
        (
            "asset.upsert",
            json!({ "assetId": "z", "type": "meter", "note": { "deep": [1, null] } }),
        ),
        ("asset.get", json!({ "assetId": "z" })),
        ("asset.find", json!({ "type": "balance" })),
        ("asset.query", json!({ "q": { "balancerule.to": "seller1" } })),
        (
            "contract.add",
            json!({ "assetId": "z", "partnerId": "y", "direction": "from", "energy": 9, "delivery": "firm", "status": "proposed" }),
        ),
        ("contract.get", json!({ "contractId": "ppa1" })),
        ("contract.list", json!({ "assetId": "seller1" })),
        ("contract.suspend", json!({ "contractId": "ppa1" })),
        ("contract.activate", json!({ "contractId": "ppa1" })),
        ("meritorder.set", json!({ "assetId": "seller1", "mol": ["ppa1"] })),
        ("meritorder.get", json!({ "assetId": "seller1" })),
        (
            "balancing.addSettlement",
            json!({ "meterId": "z", "epoch": 3, "consumption": 7, "label": "x", "autoseal": 0 }),
        ),
        (
            "balancing.addSettlement",
            json!({ "meterId": "z", "epoch": 4, "consumption": 7, "label": "x", "autoseal": 3 }),
        ),
        (
            "balancing.addSettlements",
            json!([{ "meterId": "w", "epoch": 5, "consumption": 7, "label": "x", "autoseal": 0 }]),
        ),
        (
            "balancing.addSettlements",
            json!([{ "meterId": "production1", "epoch": 5, "consumption": 900, "label": "x" }]),
        ),
        ("balancing.addRoster", json!({ "meters": ["w", "z"] })),
        ("balancing.sealEpoch", json!({ "epoch": 5 })),
        ("balancing.sealEpoch", json!({ "epoch": 99 })),
        (
            "balancing.addSettlements",
            json!([{ "meterId": "w", "epoch": 6, "consumption": 7, "label": "x" }]),
        ),
        ("balancing.sealEpoch", json!({ "epoch": 6, "brief": true })),
        ("balancing.seal", of("buyer1")),
        (
            "balancing.addSettlement",
            json!({ "meterId": "buyer1", "epoch": 1337, "consumption": 7, "label": "x" }),
        ),
        ("balancing.late", json!({})),
        ("balancing.correct", of("buyer1")),
        ("balancing.journal", of("seller1")),
        ("balancing.balance", of("seller1")),
        ("balancing.balance", of("bigbalancer")),
        ("balancing.unsealedBalance", of("bigbalancer")),
        ("balancing.sealedBalance", of("buyer1")),
        ("balancing.isSealed", of("seller1")),
        (
            "balancing.latestBalances",
            json!({ "assetId": "seller1", "n": 5 }),
        ),
        ("balancing.statements", of("seller1")),
        ("balancing.statements", json!({ "assetId": "seller1" })),
        ("balancing.assets", json!({})),
        ("balancing.assets", json!({ "q": "^big" })),
        ("balancing.peers", json!({ "assetId": "seller1" })),
        ("balancing.getUpstream", json!({ "assetId": "seller1" })),
        ("balancing.proof", of("seller1")),
        ("balancing.decodeSeal", json!({ "seal": seal["seal"] })),
        ("contract.confirm", json!({ "contractId": "ppa1" })),
        ("contract.cancel", json!({ "contractId": "ppa1" })),
        ("audit.requestApproval", json!({})),
        ("audit.setRule", json!({ "assetId": "w", "approvals": 1 })),
        ("audit.approve", json!({ "assetId": "w", "epoch": 1 })),
        ("audit.requestApproval", json!({ "assetId": "w", "epoch": 1 })),
        (
            "demometer.populate24h",
            json!({ "meterId": "demo", "kwha": 2500 }),
        ),
        (
            "settlement.retrieve",
            json!({ "consumption": 1000, "startTime": 0, "endTime": 86_400_000 }),
        ),
        ("access.settings", json!({})),
        ("access.publicKey", json!({})),
        ("cluster.status", json!({})),
        ("cluster.blocks", json!({})),
        ("cluster.genesis", json!({})),
        (
            "cluster.order",
            json!({ "order": client.solo.signed_order(Task::Snapshot {}, &key(2)) }),
        ),
    ] {
        check(action, body);
        seen.push(action);
    }
    for route in route::all() {
        // envelope.submit is held against the actions' own answers elsewhere.
        assert!(
            seen.contains(&route.name) || route.name == "envelope.submit",
            "{} is not checked",
            route.name
        );
    }
}

#[test]
fn a_journal_that_was_never_sealed_has_watermark_0_and_no_version() {
    let client = Client::new();
    client.done("asset.upsert", json!({ "assetId": "a" }));
    assert_eq!(
        check(
            &client,
            "balancing.journal",
            json!({ "assetId": "a", "epoch": 1 })
        ),
        json!({ "statements": [], "watermark": 0, "version": null })
    );
}

#[test]
fn statements_carry_what_belongs_to_their_kind() {
    let (client, _) = taught();
    let journal = client
        .get("/api/balancing/journal?assetId=seller1&epoch=1337")
        .body;
    let metered = &journal["statements"][0];
    let id = metered["id"].as_str().expect("an id");
    assert_eq!(
        metered,
        &json!({
            "id": id, "from": "production1", "to": "seller1", "epoch": 1337, "energy": 500, "co2eq": 0,
            "kind": "metered", "label": "virtual_1", "meter": "production1",
        })
    );
    let contract = &journal["statements"][2];
    assert_eq!(
        (&contract["contractId"], &contract["value"], contract.get("meter")),
        (&json!("ppa1"), &json!(0), None)
    );
    assert_eq!(journal["statements"][1].get("contractId"), None);
}

#[test]
fn sealed_epochs_name_what_they_hold() {
    let client = Client::new();
    client.done("asset.upsert", json!({ "assetId": "m" }));
    client.done("audit.setRule", json!({ "assetId": "m", "approvals": 1 }));
    client.done(
        "balancing.addSettlement",
        json!({ "meterId": "m", "epoch": 1, "consumption": 5, "label": "x" }),
    );
    let sealed = client.done("balancing.sealEpoch", json!({ "epoch": 1 }));
    assert_eq!(
        sealed["held"],
        json!([{ "assetId": "m", "code": "approval_missing" }])
    );
    assert_eq!((&sealed["seals"], &sealed["block"]), (&json!([]), &Value::Null));
    let asked = client.get("/api/audit/requestApproval?assetId=m&epoch=1").body;
    assert_eq!(
        (&asked["success"], &asked["payload"]["want"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(asked["payload"]["auditors"].as_array().map(Vec::len), Some(1));
    client.done("audit.approve", json!({ "assetId": "m", "epoch": 1 }));
    let sealed = client.done("balancing.sealEpoch", json!({ "epoch": 1 }));
    assert_eq!(
        (&sealed["seals"][0]["assetId"], &sealed["held"]),
        (&json!("m"), &json!([]))
    );
    assert_eq!(sealed["seals"][0]["auditId"], asked["auditId"]);
    assert_eq!(sealed["block"], sealed["index"]);
}

#[test]
fn a_demo_meter_reports_a_day_once() {
    let client = Client::new();
    let first = client.get("/api/demometer/populate24h?meterId=d&kwha=3500").body;
    assert_eq!(first.as_array().map(Vec::len), Some(96));
    assert!(
        first
            .as_array()
            .is_some_and(|all| all.iter().all(|reading| reading["processed"] == true))
    );
    let booked = client.solo.ledger.read().epochs().count();
    assert_eq!(booked, 96);
    let second = client.get("/api/demometer/populate24h?meterId=d&kwha=3500").body;
    assert!(
        second
            .as_array()
            .is_some_and(|all| all.iter().all(|reading| reading["processed"] == false))
    );
    assert_eq!(first[95]["reading"], second[95]["reading"]);
    assert_eq!(client.solo.ledger.read().epochs().count(), 96);
}

#[test]
fn find_takes_ids_expressions_and_types() {
    let client = Client::new();
    for (id, kind) in [("m1", "balance"), ("m2", "balance"), ("g", "group"), ("m.", "x")] {
        client.done("asset.upsert", json!({ "assetId": id, "type": kind }));
    }
    let ids = |query: &str| -> Vec<String> {
        let found = client.get(&format!("/api/asset/find?{query}")).body;
        found
            .as_array()
            .expect("a list")
            .iter()
            .map(|asset| asset["assetId"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(ids("type=balance"), ["m1", "m2"]);
    assert_eq!(ids("q=m1"), ["m1"]);
    assert_eq!(ids("q=m."), ["m."], "an exact id comes before an expression");
    assert_eq!(ids("q=%5Em%5B12%5D%24"), ["m1", "m2"]);
    assert_eq!(ids("q=%5Em&type=x"), ["m."]);
    assert_eq!(ids("q=%5Em&limit=1"), ["m."]);
}

#[test]
fn what_is_open_is_found_behind_newer_epochs_that_are_sealed() {
    let client = Client::new();
    for (epoch, label) in [(5, "older"), (6, "newer"), (7, "newest")] {
        let settle = json!({ "meterId": "m", "epoch": epoch, "consumption": 9, "label": label });
        client.done("balancing.addSettlement", settle);
    }
    client.done("balancing.seal", json!({ "assetId": "m", "epoch": 7 }));
    let shown = |query: Value| -> Vec<String> {
        let statements = client.post("balancing.assets", &query).body;
        let labels = statements.as_array().expect("a list").iter();
        labels
            .map(|statement| statement["label"].as_str().expect("a label").to_owned())
            .collect()
    };
    assert_eq!(shown(json!({ "q": "m" })), ["newer", "older"]);
}
