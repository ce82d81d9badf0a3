//! Bad input: a 4xx that names the field, and nothing changed.

use serde_json::{Value, json};

use super::{Client, Got};
use crate::api::backend::Unanswered;
use crate::api::error::{CODES, Fault};
use crate::api::route::{self, Access, Body, Methods};

/// An input that each action takes, but for what the ledger says to it.
fn good(action: &str) -> Value {
    match action {
        "asset.query" => json!({ "q": { "type": "x" } }),
        "contract.add" => {
            json!({ "assetId": "a", "partnerId": "b", "direction": "to", "energy": 1, "contractId": "c9" })
        }
        "contract.get" | "contract.confirm" | "contract.suspend" | "contract.activate"
        | "contract.cancel" => {
            json!({ "contractId": "c" })
        }
        "meritorder.set" => json!({ "assetId": "a", "mol": ["c"] }),
        "balancing.addSettlement" => json!({ "meterId": "a", "epoch": 1, "consumption": 1, "label": "x" }),
        "balancing.addRoster" => json!({ "meters": ["a"] }),
        "balancing.sealEpoch" => json!({ "epoch": 1 }),
        "cluster.order" => json!({ "order": "e30.e30.e30" }),
        "balancing.decodeSeal" => json!({ "seal": "e30.e30.e30" }),
        "balancing.late"
        | "balancing.assets"
        | "asset.find"
        | "contract.list"
        | "audit.requestApproval"
        | "cluster.status"
        | "cluster.blocks"
        | "cluster.genesis"
        | "access.settings"
        | "access.publicKey" => json!({}),
        "asset.upsert"
        | "asset.get"
        | "meritorder.get"
        | "balancing.latestBalances"
        | "balancing.statements"
        | "balancing.peers"
        | "balancing.getUpstream" => json!({ "assetId": "a" }),
        "audit.setRule" => json!({ "assetId": "a", "approvals": 0 }),
        "demometer.populate24h" => json!({ "meterId": "d" }),
        "settlement.retrieve" => json!({ "consumption": 1000, "startTime": 0, "endTime": 1 }),
        _ => json!({ "assetId": "a", "epoch": 1 }),
    }
}

fn prepared() -> Client {
    let client = Client::new();
    client.done("asset.upsert", json!({ "assetId": "a" }));
    client.done(
        "contract.add",
        json!({ "assetId": "a", "partnerId": "b", "direction": "to", "energy": 1, "contractId": "c" }),
    );
    client
}

fn is_error(got: &Got, status: u16, code: &str, field: Option<&str>) {
    let error = &got.body["error"];
    assert_eq!(
        (got.status.as_u16(), error["code"].as_str()),
        (status, Some(code)),
        "{}",
        got.body
    );
    assert_eq!(error["field"].as_str(), field, "{}", got.body);
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    );
    assert!(got.body["now"].is_u64());
}

#[test]
fn each_action_refuses_each_bad_parameter_and_names_it() {
    let client = prepared();
    let state = client.solo.ledger.read().state();
    let mut tried = 0;
    for route in route::all().filter(|route| matches!(route.body, Body::Fields | Body::OpenFields)) {
        for param in route.params {
            let schema: Value = serde_json::from_str(param.schema).expect("JSON");
            let mut bad = vec![json!([[]]), json!({ "nonsense": 1 })];
            if schema["type"] != "boolean" {
                bad.push(json!(true));
            }
            match schema["type"].as_str() {
                Some("string") => bad.extend([json!(7), json!("a\u{0}b")]),
                Some("integer") => bad.extend([json!("x"), json!(1.5), json!(-1), json!("")]),
                Some("number") => bad.extend([json!("x"), json!("NaN"), json!(1e300), json!("1e999")]),
                Some("array") => bad.extend([json!("x"), json!([7])]),
                _ => bad.extend([json!("x"), json!(7)]),
            }
            if schema["maxLength"] == 128 {
                bad.extend([json!(""), json!("x".repeat(129))]);
            }
            for value in bad {
                // A query may be any object, and any text is a regular expression or a token to be looked at.
                let any = (param.name == "q" && (value.is_object() || value.is_string()))
                    || (param.name == "type" && value == json!("a\u{0}b") && route.name == "asset.query");
                if any {
                    continue;
                }
                let mut body = good(route.name);
                body[param.name] = value.clone();
                let got = client.post(route.name, &body);
                let error = &got.body["error"];
                assert_eq!(
                    got.status, 422,
                    "{} {}={value}: {}",
                    route.name, param.name, got.body
                );
                let field = error["field"].as_str().unwrap_or_default();
                assert!(
                    field.starts_with(param.name),
                    "{} {}={value}: {}",
                    route.name,
                    param.name,
                    got.body
                );
                assert!(
                    error["expected"]
                        .as_str()
                        .is_some_and(|expected| !expected.is_empty()),
                    "{error}"
                );
                tried += 1;
            }
            if param.required {
                for missing in [None, Some(Value::Null)] {
                    let mut body = good(route.name);
                    match missing {
                        None => drop(body.as_object_mut().and_then(|body| body.remove(param.name))),
                        Some(null) => body[param.name] = null,
                    }
                    is_error(
                        &client.post(route.name, &body),
                        422,
                        "missing_parameter",
                        Some(param.name),
                    );
                }
            }
        }
    }
    assert!(tried > 300, "{tried}");
    assert_eq!(client.solo.ledger.read().state(), state, "something was done");
}

#[test]
fn unknown_parameters_are_named_except_where_they_are_kept() {
    let client = prepared();
    for route in route::all().filter(|route| matches!(route.body, Body::Fields | Body::OpenFields)) {
        let mut body = good(route.name);
        body["nonsense"] = json!(1);
        let got = client.post(route.name, &body);
        match route.body {
            Body::OpenFields => assert_eq!(got.status, 200, "{}", got.body),
            _ => {
                is_error(&got, 422, "unknown_parameter", Some("nonsense"));
                let declared: Vec<_> = route.params.iter().map(|param| param.name).collect();
                assert_eq!(got.body["error"]["known"], json!(declared));
            }
        }
    }
    assert_eq!(client.get("/api/asset/get?assetId=a").body["nonsense"], json!(1));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let client = prepared();
    for route in route::all() {
        let path = format!("/api/{}/{}", route.service(), route.action());
        let got = client.raw(
            "POST",
            &path,
            &[("content-type", "application/json")],
            "{\"a\":\n!}",
        );
        is_error(&got, 400, "malformed_json", None);
        assert!(
            got.body["error"]["message"]
                .as_str()
                .is_some_and(|text| text.contains("line 2 column 1"))
        );
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        is_error(&client.raw("POST", &path, &[], deep), 400, "malformed_json", None);
        let wrong = if route.body == Body::Batch { "{}" } else { "[]" };
        let got = client.raw("POST", &path, &[("content-type", "application/json")], wrong);
        is_error(&got, 422, "invalid_parameter", Some("body"));
    }
}

#[test]
fn bodies_of_other_kinds_are_refused() {
    let client = prepared();
    for route in route::all() {
        let path = format!("/api/{}/{}", route.service(), route.action());
        for kind in ["text/xml", "multipart/form-data; boundary=x", "nonsense"] {
            let got = client.raw("POST", &path, &[("content-type", kind)], "<a/>");
            is_error(&got, 415, "unsupported_media_type", None);
        }
        if route.body != Body::Bytes {
            let got = client.raw(
                "POST",
                &path,
                &[("content-type", "application/octet-stream")],
                "x",
            );
            is_error(&got, 415, "unsupported_media_type", None);
        }
        if route.body != Body::Batch {
            let got = client.raw("POST", &path, &[("content-type", "application/x-ndjson")], "{}");
            is_error(&got, 415, "unsupported_media_type", None);
        }
    }
}

#[test]
fn methods_that_are_not_served_say_which_are() {
    let client = prepared();
    for route in route::all() {
        let path = format!("/api/{}/{}", route.service(), route.action());
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let allowed = match route.methods {
                Methods::Any => method != "OPTIONS",
                Methods::GetPost => method == "GET",
                Methods::Post => false,
            };
            if !allowed {
                let got = client.raw(method, &path, &[], "");
                is_error(&got, 405, "method_not_allowed", None);
                assert!(
                    got.headers["allow"]
                        .to_str()
                        .is_ok_and(|allow| allow.contains("POST"))
                );
            }
        }
    }
    // What isn't an action isn't one with any method.
    is_error(
        &client.raw("POST", "/healthz", &[], ""),
        404,
        "unknown_action",
        None,
    );
}

#[test]
fn actions_that_are_not_there_have_a_hint() {
    let client = Client::new();
    for (path, hint) in [
        ("/api/balancing/addsettlement", json!("balancing.addSettlement")),
        ("/api/asset/gett", json!("asset.get")),
        ("/api/what/ever", Value::Null),
        ("/api/asset/get/more", json!("asset.get")),
        ("/api/", Value::Null),
        ("/api", Value::Null),
        ("/somewhere", Value::Null),
        ("/api/%ff/%00", Value::Null),
    ] {
        let got = client.get(path);
        is_error(&got, 404, "unknown_action", None);
        assert_eq!(got.body["error"]["hint"], hint, "{path}");
    }
}

#[test]
fn sizes_are_bounded() {
    let client = prepared();
    let large = format!("[{}]", " ".repeat(70_000));
    let got = client.raw("POST", "/api/balancing/addSettlements", &[], large);
    is_error(&got, 413, "body_too_large", None);
    assert_eq!(got.body["error"]["limit"], json!(64 << 10));
    // Without a Content-Length, too.
    let chunks = futures::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1000])));
    let got = client.raw(
        "POST",
        "/api/asset/get",
        &[],
        axum::body::Body::from_stream(chunks),
    );
    is_error(&got, 413, "body_too_large", None);
    let item = json!({ "meterId": "m", "epoch": 1, "consumption": 1, "label": "x" });
    let got = client.post("balancing.addSettlements", &Value::from(vec![item; 101]));
    is_error(&got, 413, "batch_too_large", None);
    assert_eq!(got.body["error"]["limit"], json!(100));
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    let client = prepared();
    let stream = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let got = client.raw(
        "POST",
        "/api/asset/get",
        &[],
        axum::body::Body::from_stream(stream),
    );
    is_error(&got, 408, "body_lost", None);
}

#[test]
fn batches_are_taken_whole_or_not_at_all() {
    let client = Client::new();
    let item =
        |consumption: Value| json!({ "meterId": "m", "epoch": 1, "consumption": consumption, "label": "x" });
    for (body, status, code, field) in [
        (json!([]), 422, "missing_parameter", Some("body")),
        (json!([item(json!(1)), 7]), 422, "invalid_parameter", Some("[1]")),
        (
            json!([item(json!(1)), item(json!("x"))]),
            422,
            "invalid_parameter",
            Some("[1].consumption"),
        ),
        (
            json!([item(json!(1)), { "meterId": "m" }]),
            422,
            "missing_parameter",
            Some("[1].epoch"),
        ),
        (
            json!([{ "meterId": "m", "epoch": 1, "consumption": 1, "label": "x", "y": 1 }]),
            422,
            "unknown_parameter",
            Some("[0].y"),
        ),
        (
            json!([item(json!(1)), item(json!((1i64 << 40) + 1))]),
            409,
            "out_of_range",
            None,
        ),
        (
            json!([item(json!(1)), { "meterId": "eaf_generic_balancegroup", "epoch": 1, "consumption": 1, "label": "x" }]),
            409,
            "root_is_no_meter",
            None,
        ),
    ] {
        is_error(
            &client.post("balancing.addSettlements", &body),
            status,
            code,
            field,
        );
    }
    assert_eq!(client.solo.ledger.read().epochs().count(), 0);
    let lines = "\n{\"meterId\":\"m\",\"epoch\":1,\"consumption\":1,\"label\":\"x\"}\r\n\n{\"meterId\":\"m\",\"epoch\":\"1\",\"consumption\":\"-2.5\",\"label\":\"x\"}";
    let ndjson = [("content-type", "application/x-ndjson")];
    let got = client.raw("POST", "/api/balancing/addSettlements", &ndjson, lines);
    assert_eq!((got.status.as_u16(), &got.body["accepted"]), (200, &json!(2)));
    let got = client.raw(
        "POST",
        "/api/balancing/addSettlements",
        &ndjson,
        format!("{lines}\n{{\"meterId\""),
    );
    is_error(&got, 400, "malformed_json", None);
    assert!(
        got.body["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("line 5")),
        "{}",
        got.body
    );
    let got = client.raw("POST", "/api/balancing/addSettlements?meterId=x", &ndjson, lines);
    is_error(&got, 422, "unknown_parameter", Some("meterId"));
}

#[test]
fn queries_and_forms_are_parameters_and_the_body_wins() {
    let client = Client::new();
    let got = client.get("/api/asset/upsert?assetId=q1&type=balance&balancerule[to]=g&place=here");
    assert_eq!(got.status, 200, "{}", got.body);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let got = client.raw(
        "POST",
        "/api/asset/upsert?assetId=nobody",
        &form,
        "assetId=q2&balancerule[from]=g",
    );
    assert_eq!(got.status, 200, "{}", got.body);
    let asset = client.get("/api/asset/get?assetId=q1").body;
    assert_eq!(
        asset,
        json!({ "assetId": "q1", "type": "balance", "balancerule": { "to": "g" }, "place": "here" })
    );
    assert_eq!(client.get("/api/asset/get?assetId=nobody").status, 404);
    let found = client
        .get("/api/asset/query?q[$or][0][balancerule.to]=g&q[$or][1][balancerule.from]=g")
        .body;
    assert_eq!(found.as_array().map(Vec::len), Some(2));
    for (query, field) in [
        ("assetId=%zz", "assetId"),
        ("assetId=a&assetId=b", "assetId"),
        ("a[=1", "a["),
    ] {
        is_error(
            &client.get(&format!("/api/asset/get?{query}")),
            400,
            "malformed_query",
            Some(field),
        );
    }
    let got = client.get("/api/balancing/addSettlement?meterId=m&epoch=13.37&consumption=1&label=x");
    is_error(&got, 422, "invalid_parameter", Some("epoch"));
    let got = client.get("/api/balancing/addSettlement?meterId=m&epoch=1&consumption=2.5&label=x&co2eq=-1");
    assert_eq!(got.body["statement"]["energy"], json!(3));
}

#[test]
fn what_the_ledger_refuses_says_why() {
    let client = prepared();
    client.done(
        "asset.upsert",
        json!({ "assetId": "x", "balancerule": { "to": "y" } }),
    );
    let long = "m".repeat(5000);
    for (action, body, status, code, field) in [
        (
            "asset.upsert",
            json!({ "assetId": "y", "balancerule": { "to": "x" } }),
            409,
            "rule_cycle",
            None,
        ),
        (
            "asset.upsert",
            json!({ "assetId": "eaf_generic_balancegroup", "balancerule": { "to": "x" } }),
            409,
            "root_has_no_rule",
            None,
        ),
        (
            "asset.upsert",
            json!({ "assetId": "x", "note": long }),
            409,
            "metadata_too_large",
            None,
        ),
        (
            "asset.upsert",
            json!({ "assetId": "x", "balancerule": { "to": "y", "via": "z" } }),
            422,
            "invalid_parameter",
            Some("balancerule.via"),
        ),
        (
            "contract.add",
            json!({ "assetId": "a", "partnerId": "b", "direction": "to", "energy": 1, "contractId": "c" }),
            409,
            "contract_exists",
            None,
        ),
        (
            "contract.add",
            json!({ "assetId": "a", "partnerId": "a", "direction": "to", "energy": 1 }),
            409,
            "same_party",
            None,
        ),
        (
            "contract.add",
            json!({ "assetId": "a", "partnerId": "b", "direction": "to", "energy": -5 }),
            422,
            "out_of_range",
            Some("energy"),
        ),
        (
            "contract.add",
            json!({ "assetId": "a", "partnerId": "b", "direction": "to", "energy": 5, "valid_from": 2, "valid_until": 1 }),
            422,
            "invalid_parameter",
            Some("valid_until"),
        ),
        (
            "contract.add",
            json!({ "assetId": "a", "partnerId": "b", "direction": "up", "energy": 5 }),
            422,
            "invalid_parameter",
            Some("direction"),
        ),
        (
            "contract.activate",
            json!({ "contractId": "zz" }),
            404,
            "unknown_contract",
            None,
        ),
        (
            "contract.get",
            json!({ "contractId": "zz" }),
            404,
            "unknown_contract",
            None,
        ),
        (
            "meritorder.set",
            json!({ "assetId": "a", "mol": ["c", "c"] }),
            409,
            "repeated_contract",
            None,
        ),
        (
            "meritorder.set",
            json!({ "assetId": "b", "mol": [{ "contractId": "c", "energy": 1 }] }),
            409,
            "foreign_contract",
            None,
        ),
        (
            "meritorder.set",
            json!({ "assetId": "a", "mol": ["c", { "energy": 1 }] }),
            422,
            "invalid_parameter",
            Some("mol[1]"),
        ),
        (
            "balancing.addSettlement",
            json!({ "meterId": "m", "epoch": 1, "consumption": 1, "label": ".end" }),
            422,
            "invalid_parameter",
            Some("label"),
        ),
        (
            "balancing.seal",
            json!({ "assetId": "nobody", "epoch": 1 }),
            404,
            "unknown_asset",
            None,
        ),
        (
            "balancing.seal",
            json!({ "assetId": "a", "epoch": 1 }),
            409,
            "nothing_to_seal",
            None,
        ),
        (
            "balancing.correct",
            json!({ "assetId": "a", "epoch": 1 }),
            409,
            "not_sealed",
            None,
        ),
        (
            "balancing.sealEpoch",
            json!({ "epoch": 1, "under": "nobody" }),
            404,
            "unknown_asset",
            None,
        ),
        (
            "balancing.proof",
            json!({ "assetId": "a", "epoch": 1 }),
            409,
            "not_sealed",
            None,
        ),
        (
            "balancing.journal",
            json!({ "assetId": "nobody", "epoch": 1 }),
            404,
            "unknown_asset",
            None,
        ),
        (
            "balancing.decodeSeal",
            json!({ "seal": "no" }),
            422,
            "invalid_parameter",
            Some("seal"),
        ),
        (
            "asset.find",
            json!({ "q": "(" }),
            422,
            "invalid_parameter",
            Some("q"),
        ),
        (
            "asset.query",
            json!({ "q": { "$where": "1" } }),
            422,
            "invalid_parameter",
            Some("q"),
        ),
        (
            "audit.setRule",
            json!({ "assetId": "a", "approvals": 2, "auditors": [] }),
            409,
            "audit_rule_unsatisfiable",
            Some("approvals"),
        ),
        (
            "audit.setRule",
            json!({ "assetId": "a", "approvals": 1, "auditors": ["x"] }),
            422,
            "invalid_parameter",
            Some("auditors[0]"),
        ),
        (
            "audit.approve",
            json!({ "assetId": "a", "epoch": 1 }),
            403,
            "not_auditor",
            None,
        ),
        (
            "audit.requestApproval",
            json!({ "assetId": "a" }),
            422,
            "missing_parameter",
            Some("epoch"),
        ),
        (
            "settlement.retrieve",
            json!({ "consumption": 1, "startTime": 5, "endTime": 5 }),
            422,
            "invalid_parameter",
            Some("endTime"),
        ),
    ] {
        is_error(&client.post(action, &body), status, code, field);
    }
}

#[test]
fn codes_that_are_documented_are_those_that_are_answered() {
    let refused = |refusal: ledger::Refusal| Fault::from(refusal);
    let name = || "x".to_owned();
    let route = route::find("asset", "get").expect("a route");
    let expected = name();
    let faults = [
        Fault::Json(crate::api::json::Malformed { message: name() }),
        Fault::Query(crate::api::query::Malformed {
            name: name(),
            message: "x",
        }),
        Fault::NoSuchAction {
            name: name(),
            hint: None,
        },
        Fault::Method {
            route,
            method: name(),
        },
        Fault::BodyLost,
        Fault::BodyTooLarge { limit: 1 },
        Fault::BatchTooLarge { count: 2, limit: 1 },
        Fault::MediaType {
            got: name(),
            expected: "y",
        },
        Fault::Missing {
            field: name(),
            expected: expected.clone(),
        },
        Fault::Invalid {
            field: name(),
            got: name(),
            expected: expected.clone(),
        },
        Fault::OutOfRange {
            field: name(),
            got: name(),
            expected,
        },
        Fault::Unknown {
            field: name(),
            known: vec![],
        },
        Fault::Alarm { reason: name() },
        Unanswered::UnsignedRefused.into(),
        Unanswered::TooLarge.into(),
        Unanswered::TooManyArchived { needed: 2, most: 1 }.into(),
        Unanswered::ArchiveBusy {
            retry_after: std::time::Duration::ZERO,
        }
        .into(),
        Unanswered::Busy {
            retry_after: std::time::Duration::ZERO,
        }
        .into(),
        Unanswered::NoLeader.into(),
        Unanswered::Stopping.into(),
        Unanswered::Unknown.into(),
        refused(ledger::Refusal::NonceReused {}),
        refused(ledger::Refusal::BadSignature {}),
        refused(ledger::Refusal::UnknownSigner {}),
        refused(ledger::Refusal::NotAdmin {}),
        refused(ledger::Refusal::OutOfRange { figure: name() }),
    ];
    for fault in faults {
        let (status, code) = fault.status();
        let known = CODES
            .iter()
            .any(|(known, name, _)| (*known, *name) == (status.as_u16(), code));
        assert!(known, "{status} {code} is not in the table");
        assert!(status.is_client_error() || [503, 504].contains(&status.as_u16()));
        assert!(
            !fault.body(ledger::Timestamp::ZERO)["error"]["message"]
                .as_str()
                .unwrap_or_default()
                .is_empty()
        );
    }
    assert!(route::all().filter(|route| route.access == Access::Write).count() > 15);
}
