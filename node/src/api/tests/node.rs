//! What a node says of itself, and how it behaves when it isn't well.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde_json::json;

use super::lesson::taught;
use super::{Client, NODE, key};
use crate::api::backend::Unanswered;
use crate::order::Task;

#[test]
fn every_answer_carries_the_ledgers_time() {
    let (client, _) = taught();
    let now = client.solo.ledger.read().now().get();
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/openapi.json",
        "/api/cluster/status",
        "/api/asset/get?assetId=seller1",
        "/api/asset/get?assetId=nobody",
        "/api/asset/get",
        "/api/nothing",
        "/nothing",
    ] {
        let got = client.get(path);
        assert_eq!(
            got.headers["gridseal-now"].to_str().ok(),
            Some(now.to_string().as_str()),
            "{path}"
        );
        if got.body.get("error").is_some() {
            assert_eq!(got.body["now"], json!(now), "{path}");
        }
    }
    // A refusal by the ledger carries the time of its own entry.
    let got = client.post("balancing.seal", &json!({ "assetId": "seller1", "epoch": 1337 }));
    assert_eq!(got.body["now"], json!(client.solo.ledger.read().now().get()));
    assert!(got.body["now"].as_u64() > Some(now));
    assert_eq!(
        (got.status.as_u16(), &got.body["err"]),
        (409, &json!("balance already sealed"))
    );
    assert_eq!(got.body["error"]["seal"]["version"], json!(0));
}

#[test]
fn ready_says_what_is_missing() {
    let client = Client::new();
    assert_eq!(client.get("/readyz").status, 200);
    let check = |part: &str| {
        let got = client.get("/readyz");
        assert_eq!((got.status.as_u16(), &got.body["ready"]), (503, &json!(false)));
        let missing = got.body["missing"].to_string();
        assert!(missing.contains(part), "{missing}");
        assert_eq!(client.get("/healthz").status, 200);
    };
    client.solo.state.lock().status.leader = None;
    check("no leader");
    client.solo.state.lock().status.leader = Some(NODE);
    client.solo.state.lock().status.ready_at = Some(1000);
    check("1000");
    client.solo.state.lock().status.ready_at = None;
    check("isn't known yet");
    client.solo.state.lock().status.ready_at = Some(1);
    client.solo.state.lock().status.alarms = vec!["the block at 7 differs".to_owned()];
    check("the block at 7 differs");
}

#[test]
fn an_alarm_refuses_sealed_reads_and_nothing_else() {
    let (client, _) = taught();
    client.solo.state.lock().status.alarms = vec!["the block at 7 differs".to_owned()];
    for read in [
        "balance",
        "sealedBalance",
        "unsealedBalance",
        "isSealed",
        "journal",
        "proof",
        "statements",
    ] {
        for consistency in ["", "&consistency=local"] {
            let got = client.get(&format!(
                "/api/balancing/{read}?assetId=seller1&epoch=1337{consistency}"
            ));
            assert_eq!(
                (got.status.as_u16(), &got.body["error"]["code"]),
                (503, &json!("alarm")),
                "{read}"
            );
            assert!(got.headers.contains_key("retry-after"));
        }
    }
    for read in [
        "/api/cluster/status",
        "/api/cluster/blocks",
        "/api/asset/get?assetId=seller1",
    ] {
        assert_eq!(client.get(read).status, 200, "{read}");
    }
    assert_eq!(
        client.get("/api/cluster/status").body["alarms"],
        json!(["the block at 7 differs"])
    );
}

#[test]
fn reads_ask_for_a_read_point_unless_they_are_local() {
    let (client, _) = taught();
    let barriers = || client.solo.state.lock().barriers;
    let before = barriers();
    client.get("/api/asset/get?assetId=seller1");
    client.post(
        "balancing.isSealed",
        &json!({ "assetId": "seller1", "epoch": 1337 }),
    );
    client.get("/api/asset/get?assetId=seller1&consistency=linearizable");
    assert_eq!(barriers(), before + 3);
    client.get("/api/asset/get?assetId=seller1&consistency=local");
    client.get("/api/cluster/status");
    assert_eq!(barriers(), before + 3);
    let got = client.get("/api/asset/get?assetId=seller1&consistency=eventual");
    assert_eq!(
        (got.status.as_u16(), &got.body["error"]["field"]),
        (422, &json!("consistency"))
    );
}

#[test]
fn what_the_cluster_does_not_say_is_said_as_it_is() {
    let client = Client::new();
    let settle = json!({ "meterId": "m", "epoch": 1, "consumption": 5, "label": "x" });
    for (fault, status, code, retry) in [
        (Unanswered::NoLeader, 503, "no_leader", Some("1")),
        (Unanswered::Stopping, 503, "stopping", Some("1")),
        (
            Unanswered::Alarmed {
                reason: "x".to_owned(),
            },
            503,
            "alarm",
            Some("1"),
        ),
        (
            Unanswered::Busy {
                retry_after: Duration::from_millis(2500),
            },
            429,
            "busy",
            Some("3"),
        ),
        (Unanswered::Unknown, 504, "outcome_unknown", None),
        (Unanswered::UnsignedRefused, 403, "unsigned_refused", None),
        (Unanswered::TooLarge, 413, "action_too_large", None),
        (
            Unanswered::TooManyArchived { needed: 65, most: 64 },
            413,
            "too_many_archived",
            None,
        ),
        (
            Unanswered::ArchiveBusy {
                retry_after: Duration::from_secs(5),
            },
            429,
            "archive_busy",
            Some("5"),
        ),
    ] {
        client.solo.state.lock().faults.push_back(fault);
        let got = client.post("balancing.addSettlement", &settle);
        assert_eq!(
            (got.status.as_u16(), &got.body["error"]["code"]),
            (status, &json!(code))
        );
        assert_eq!(
            got.headers
                .get("retry-after")
                .and_then(|value| value.to_str().ok()),
            retry,
            "{code}"
        );
    }
    // A read that finds no leader says so, and a local one answers.
    client.solo.state.lock().faults.push_back(Unanswered::NoLeader);
    assert_eq!(client.get("/api/contract/list").status, 503);
    assert_eq!(client.get("/api/contract/list?consistency=local").status, 200);
}

#[test]
fn metrics_count_requests_and_show_the_node() {
    let (client, _) = taught();
    client.get("/api/nothing/here");
    let text = client.get("/metrics").body;
    let text = text.as_str().expect("text");
    for line in [
        r#"gridseal_requests_total{action="balancing.seal",status="200"} 2"#,
        r#"gridseal_requests_total{action="unknown",status="404"} 1"#,
        r#"gridseal_latency_seconds_count{action="balancing.seal"} 2"#,
        "gridseal_seals 2",
        "gridseal_blocks 2",
        "gridseal_uncertified_blocks 0",
        "gridseal_is_leader 1",
        "gridseal_alarms 0",
        "gridseal_ready 1",
    ] {
        assert!(
            text.lines().any(|there| there == line),
            "{line} is not in\n{text}"
        );
    }
    // Twice: seals aren't counted twice.
    assert!(
        client
            .get("/metrics")
            .body
            .as_str()
            .is_some_and(|text| text.contains("gridseal_seals 2\n"))
    );
}

#[test]
fn the_genesis_reads_back_as_the_file_it_is() {
    let client = Client::new();
    let got = client.get("/api/cluster/genesis").body;
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("genesis.json");
    std::fs::write(&path, got.to_string()).expect("writable");
    let genesis = crate::identity::read_genesis(&path).expect("a genesis");
    assert_eq!(genesis.cluster(), client.solo.ledger.read().cluster());
}

#[test]
fn the_page_and_the_document_are_served() {
    let client = Client::new();
    let page = client.get("/");
    assert!(
        page.headers["content-type"]
            .to_str()
            .is_ok_and(|kind| kind.starts_with("text/html"))
    );
    assert!(
        page.body
            .as_str()
            .is_some_and(|page| page.contains("/api/openapi.json"))
    );
    let document = client.get("/api/openapi.json").body;
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/api/balancing/seal"]["get"].is_object());
}

#[test]
fn an_admins_order_is_carried_out_once_and_no_one_elses() {
    let client = Client::new();
    let signed = |task: Task, by: &SigningKey| client.solo.signed_order(task, by);
    let give = |token: &str| {
        let got = client.post("cluster.order", &json!({ "order": token }));
        (got.status.as_u16(), got.body)
    };
    let snapshot = signed(Task::Snapshot {}, &key(2));
    assert_eq!(give(&snapshot), (200, json!({ "snapshot": 7 })));
    let refused = |token: &str| {
        let (status, body) = give(token);
        (status, body["error"]["code"].as_str().map(str::to_owned))
    };
    let says = |status, code: &str| (status, Some(code.to_owned()));
    assert_eq!(refused(&snapshot), says(409, "order_repeated"));
    assert_eq!(
        refused(&signed(Task::Snapshot {}, &key(4))),
        says(403, "unknown_signer")
    );
    assert_eq!(refused("no order"), says(422, "invalid_parameter"));

    let transfer = Task::Transfer { to: 2 };
    client.solo.state.lock().status.leader = Some(2);
    assert_eq!(refused(&signed(transfer, &key(2))), says(409, "not_leader"));
}
