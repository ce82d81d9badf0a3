//! What a node answers is held against the oracle's books: an answer as it should be is accepted, and one that differs from it
//! in any one value is not.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use checkers::answers::{self, audit_id};
use checkers::history::{Asked, History, Shown};
use checkers::oracle::book::Book;
use checkers::oracle::digest::hex;
use checkers::oracle::judge::Payload;
use ledger::{Action, ROOT};
use serde_json::{Map, Value, json};

use super::common::{Cluster, script};
use super::log::Judged;

/// EAF's reference lesson with a price, a late value that is corrected, an audit rule, and a contract that is out of the way.
const LINES: [&str; 18] = [
    "rule production1 to=seller1",
    "rule seller1 from=bigbalancer to=bigbalancer",
    "contract ppa1 seller1->buyer1 200 max=20000 price=250000",
    "contract ppa0 seller1<-buyer1 7 firm min=1 total=70 from=1338 until=1400 prio=2 status=suspended price=-3",
    "settle production1 1337 500 co2=70",
    "seal production1 1337",
    "seal seller1 1337",
    "settle production1 1337 30",
    "correct production1 1337",
    "correct seller1 1337",
    "audit buyer1 2 a1 a2",
    "settle buyer1 1338 -9 co2=4",
    "settle tardy1 1339 5",
    "seal tardy1 1339",
    "settle tardy1 1339 6 co2=2",
    "settle later1 1340 5",
    "seal later1 1340",
    "settle later1 1340 6 co2=2",
];

fn book() -> Book {
    book_of(&cluster())
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    for line in LINES {
        let outcome = cluster.act(script::parse(line).expect("an action"));
        assert_eq!(outcome.refusal(), None, "{line}");
    }
    let metadata = [("size", "9"), ("owner", "nobody's JSON")];
    let metadata = metadata.map(|(name, text)| (name.to_owned(), text.to_owned()));
    cluster.act(Action::UpsertAsset {
        asset: "seller1".try_into().expect("a name"),
        kind: None,
        rule: None,
        metadata: metadata.into(),
    });
    cluster
}

fn book_of(cluster: &Cluster) -> Book {
    let log: BTreeMap<u64, Payload> = cluster
        .log
        .iter()
        .map(|(index, bytes)| (*index, Payload::App(Bytes::from(bytes.clone()))))
        .collect();
    Judged::of(&log).book
}

fn statement(id: u64, sides: (&str, &str), figures: (i64, i64), kind: &str) -> Value {
    let label = match kind {
        "metered" => "virtual_1",
        "residual" => ".end",
        _ => ".ppa",
    };
    let mut statement = json!({
        "id": format!("{id}.0"), "from": sides.0, "to": sides.1, "epoch": 1337, "energy": figures.0, "co2eq": figures.1,
        "kind": kind, "label": label,
    });
    if kind == "metered" {
        statement["meter"] = json!(sides.0);
    }
    if label == ".ppa" {
        statement["contractId"] = json!("ppa1");
        statement["value"] = json!(if kind == "contract" { 50_000 } else { 0 });
    }
    statement
}

/// The seller's journal: four statements of the lesson, then a late value and what its correction booked.
fn journal() -> Vec<Value> {
    vec![
        statement(1, ("production1", "seller1"), (500, 70), "metered"),
        statement(2, ("seller1", "bigbalancer"), (500, 70), "residual"),
        statement(3, ("seller1", "buyer1"), (200, 28), "contract"),
        statement(4, ("bigbalancer", "seller1"), (200, 28), "counter"),
        statement(5, ("production1", "seller1"), (30, 0), "metered"),
        statement(6, ("seller1", "bigbalancer"), (30, 0), "residual"),
    ]
}

/// The buyer's balance with the time at which its epoch begins.
fn timed(epoch: u64) -> Value {
    let mut balance = open(epoch);
    balance["time"] = json!(epoch * 900_000);
    balance
}

/// The seller's balance, version 0 and 1.
fn sealed(book: &Book) -> [Value; 2] {
    let digests: Vec<String> = book.versions("seller1", 1337).iter().map(|d| hex(d)).collect();
    let blocks: Vec<u64> = digests
        .iter()
        .map(|digest| {
            let holds = |(_, block): &(&u64, &checkers::oracle::book::Block)| {
                block.seals.iter().any(|seal| hex(seal) == *digest)
            };
            *book.blocks.iter().find(holds).expect("a block").0
        })
        .collect();
    let first = json!({
        "assetId": "seller1", "epoch": 1337, "version": 0, "auditId": audit_id("seller1", 1337, 0), "digest": digests[0], "previous": "00".repeat(32),
        "watermark": 4, "residual": 500, "position": 500, "contracts": [{"contractId": "ppa1", "energy": 200}],
        "in": 700, "out": 700, "in_co2eq": 98, "out_co2eq": 98, "energy": -300, "co2eq": -42,
        "upstreamenergy": -300, "upstreamco2eq": -42, "upstream": "bigbalancer",
        "upstream_from": "bigbalancer", "upstream_to": "bigbalancer", "balancesum": 500,
        "clearing": {"from": "seller1", "to": "bigbalancer", "epoch": 1337, "energy": -500, "co2eq": -70},
        "peers": {
            "from": {
                "production1": {"energy": 500, "tx": {"buyer1": 500}},
                "bigbalancer": {"energy": 200, "tx": {"buyer1": 200}},
            },
            "to": {"buyer1": {"energy": 200, "tx": {"production1": 143, "bigbalancer": 57}}},
        },
        "transactions": journal()[..4], "block": blocks[0],
    });
    let second = json!({
        "assetId": "seller1", "epoch": 1337, "version": 1, "auditId": audit_id("seller1", 1337, 1), "digest": digests[1], "previous": digests[0],
        "watermark": 6, "residual": 30, "position": 30,
        "contracts": [{"contractId": "ppa1", "energy": 0, "reason": "fulfilled"}],
        "in": 730, "out": 730, "in_co2eq": 98, "out_co2eq": 98, "energy": -330, "co2eq": -42,
        "upstreamenergy": -330, "upstreamco2eq": -42, "upstream": "bigbalancer",
        "upstream_from": "bigbalancer", "upstream_to": "bigbalancer", "balancesum": 730,
        "clearing": {"from": "seller1", "to": "bigbalancer", "epoch": 1337, "energy": -30, "co2eq": 0},
        "peers": {
            "from": {
                "production1": {"energy": 530, "tx": {"buyer1": 530}},
                "bigbalancer": {"energy": 200, "tx": {"buyer1": 200}},
            },
            "to": {"buyer1": {"energy": 200, "tx": {"production1": 145, "bigbalancer": 55}}},
        },
        "transactions": journal(), "block": blocks[1],
    });
    [first, second]
}

/// The buyer's open balance: what it bought, and, in the next epoch, what it delivers to the root by itself.
fn open(epoch: u64) -> Value {
    let root = ROOT.as_str();
    let mut own = statement(7, ("buyer1", root), (9, 4), "metered");
    own["epoch"] = json!(1338);
    let (inward, outward, co2, statements, peers) = match epoch {
        1337 => (
            200,
            0,
            [28, 0],
            vec![journal()[2].clone()],
            json!({"from": {"seller1": {"energy": 200, "tx": {}}}, "to": {}}),
        ),
        _ => (
            0,
            9,
            [0, 4],
            vec![own],
            json!({"from": {}, "to": {root: {"energy": 9, "tx": {}}}}),
        ),
    };
    // What went to the upstream counts against what is left.
    let (upstream, upstream_co2) = (-outward, -co2[1]);
    let (left, left_co2) = (outward - inward + upstream, co2[1] - co2[0] + upstream_co2);
    json!({
        "assetId": "buyer1", "epoch": epoch, "in": inward, "out": outward, "energy": outward - inward,
        "in_co2eq": co2[0], "out_co2eq": co2[1], "co2eq": co2[1] - co2[0],
        "upstream": root, "upstream_from": root, "upstream_to": root,
        "upstreamenergy": upstream, "upstreamco2eq": upstream_co2,
        "balancesum": if outward > inward { -outward } else { inward },
        "clearing": {"from": "buyer1", "to": root, "epoch": epoch, "energy": left, "co2eq": left_co2},
        "peers": peers, "transactions": statements,
    })
}

fn contracts() -> [Value; 2] {
    [
        json!({
            "contractId": "ppa0", "assetId": "seller1", "partnerId": "buyer1", "direction": "from", "delivery": "firm",
            "status": "suspended", "priority": 2, "energy": 7, "load_min": 1, "load_max": null, "energy_total": 70,
            "valid_from": 1338, "valid_until": 1400, "price": -3, "balanced": 0,
        }),
        json!({
            "contractId": "ppa1", "assetId": "seller1", "partnerId": "buyer1", "direction": "to", "delivery": "as_available",
            "status": "active", "priority": 1, "energy": 200, "load_min": 0, "load_max": 20_000, "energy_total": null,
            "valid_from": null, "valid_until": null, "price": 250_000, "balanced": 200,
        }),
    ]
}

/// Every question there is, and what should be answered.
fn asked(book: &Book) -> Vec<Asked> {
    let [first, second] = sealed(book);
    let marked: Vec<Value> = journal()
        .into_iter()
        .map(|mut statement| {
            let upstream = statement["to"] == "bigbalancer" || statement["from"] == "bigbalancer";
            (statement["sealed"], statement["isUpstream"]) = (json!(true), json!(upstream));
            statement
        })
        .collect();
    let mut loose = open(1337)["transactions"].clone();
    (loose[0]["sealed"], loose[0]["isUpstream"]) = (json!(false), json!(false));
    // Without an upstream it is the root's.
    let mut late = statement(8, (ROOT.as_str(), "tardy1"), (6, 2), "metered");
    late["epoch"] = json!(1339);
    late["meter"] = json!("tardy1");
    late["assetId"] = json!("tardy1");
    let mut later = late.clone();
    (later["to"], later["meter"], later["assetId"]) = (json!("later1"), json!("later1"), json!("later1"));
    later["epoch"] = json!(1340);
    let mut newest = open(1338)["transactions"][0].clone();
    (newest["sealed"], newest["isUpstream"]) = (json!(false), json!(true));
    let auditors: BTreeSet<String> = ["a1", "a2"]
        .iter()
        .map(|name| hex(&script::auditor(name).verifying_key().to_bytes()))
        .collect();
    let at = |asset: &str, epoch: u64| json!({"assetId": asset, "epoch": epoch});
    let of = |asset: &str| json!({"assetId": asset});
    let [ppa0, ppa1] = contracts();
    let wants = json!({"want": 2, "auditors": auditors, "version": 0});
    [
        ("balancing.balance", at("seller1", 1337), second.clone()),
        ("balancing.balance", at("buyer1", 1337), open(1337)),
        ("balancing.unsealedBalance", at("buyer1", 1338), open(1338)),
        (
            "balancing.unsealedBalance",
            at("seller1", 1337),
            json!({"error": {"code": "already_sealed"}}),
        ),
        (
            "balancing.sealedBalance",
            at("seller1", 1337),
            json!([second, first]),
        ),
        ("balancing.sealedBalance", at("buyer1", 1337), json!([])),
        (
            "balancing.isSealed",
            at("nobody", 1337),
            json!({"error": {"code": "unknown_asset"}}),
        ),
        ("balancing.isSealed", at("seller1", 1337), json!(true)),
        ("balancing.isSealed", at("buyer1", 1337), json!(false)),
        (
            "balancing.latestBalances",
            json!({"assetId": "buyer1", "n": 2}),
            json!([timed(1338), timed(1337)]),
        ),
        ("balancing.latestBalances", of("buyer1"), json!([timed(1338)])),
        (
            "balancing.latestBalances",
            json!({"assetId": "buyer1", "n": 2, "before": 1338}),
            json!([timed(1337)]),
        ),
        (
            "balancing.journal",
            json!({"assetId": "seller1", "epoch": 1337, "offset": 1, "limit": 2}),
            json!({"statements": journal()[1..3], "watermark": 6, "version": 1}),
        ),
        (
            "balancing.journal",
            json!({"assetId": "seller1", "epoch": 1337, "offset": 9}),
            json!({"statements": [], "watermark": 6, "version": 1}),
        ),
        ("balancing.late", at("seller1", 1337), json!([])),
        ("balancing.late", at("buyer1", 1337), json!([])),
        ("balancing.late", at("tardy1", 1339), json!([late])),
        ("balancing.late", json!({}), json!([late, later])),
        ("balancing.late", of("tardy1"), json!([late])),
        ("balancing.late", json!({"epoch": 1339, "limit": 1}), json!([late])),
        ("balancing.late", json!({"limit": 1}), json!([late])),
        ("balancing.late", json!({"epoch": 1337}), json!([])),
        ("contract.list", json!({}), json!([ppa0, ppa1])),
        ("contract.list", json!({"status": "active"}), json!([ppa1])),
        (
            "contract.list",
            json!({"partnerId": "buyer1", "assetId": "seller1"}),
            json!([ppa0, ppa1]),
        ),
        ("contract.list", json!({"partnerId": "seller1"}), json!([])),
        ("contract.list", json!({"assetId": "buyer1"}), json!([])),
        ("balancing.statements", at("seller1", 1337), json!(marked)),
        ("balancing.statements", at("buyer1", 1337), loose.clone()),
        (
            "balancing.statements",
            of("seller1"),
            marked.iter().rev().cloned().collect(),
        ),
        (
            "balancing.statements",
            of("buyer1"),
            json!([newest, loose[0]]),
        ),
        (
            "balancing.proof",
            at("buyer1", 1337),
            json!({"error": {"code": "not_sealed"}}),
        ),
        (
            "balancing.peers",
            of("seller1"),
            json!([{"assetId": "production1"}]),
        ),
        ("balancing.getUpstream", of("production1"), json!(ROOT.as_str())),
        (
            "balancing.getUpstream",
            json!({"assetId": "production1", "energy": 5}),
            json!("seller1"),
        ),
        ("meritorder.get", of("seller1"), json!([ppa1, ppa0])),
        ("meritorder.get", of("buyer1"), json!([])),
        (
            "asset.get",
            of("seller1"),
            json!({
                "assetId": "seller1", "balancerule": {"from": "bigbalancer", "to": "bigbalancer"},
                "size": 9, "owner": "nobody's JSON",
            }),
        ),
        (
            "asset.get",
            of("buyer1"),
            json!({"assetId": "buyer1", "balancerule": {}}),
        ),
        (
            "audit.requestApproval",
            at("buyer1", 1338),
            json!({"success": false, "payload": wants, "auditId": audit_id("buyer1", 1338, 0)}),
        ),
        (
            "audit.requestApproval",
            at("seller1", 1337),
            json!({"success": true, "payload": {"want": 0, "auditors": [], "version": 2}, "auditId": audit_id("seller1", 1337, 2)}),
        ),
    ]
    .into_iter()
    .map(|(action, params, body)| Asked {
        action: action.to_owned(),
        params,
        body,
    })
    .collect()
}

fn complaints(book: &Book, shown: Shown) -> Vec<String> {
    let history = History {
        shown: [(1, shown)].into(),
        ..History::default()
    };
    answers::check(&history, book)
}

/// The same with any one value in it another; ids of statements may be any, as long as they differ.
fn altered(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => {
            let with = |name: &String, value: Value| -> Value {
                let mut fields: Map<String, Value> = fields.clone();
                fields.insert(name.clone(), value);
                fields.into()
            };
            fields
                .iter()
                .filter(|(name, _)| *name != "id")
                .flat_map(|(name, value)| {
                    altered(value)
                        .into_iter()
                        .map(|value| with(name, value))
                        .collect::<Vec<_>>()
                })
                .collect()
        }
        Value::Array(items) => {
            let mut all = Vec::new();
            for (place, item) in items.iter().enumerate() {
                let with = |value: Option<Value>| {
                    let mut items = items.clone();
                    items.splice(place..=place, value);
                    Value::Array(items)
                };
                all.extend(altered(item).into_iter().map(|value| with(Some(value))));
                all.push(with(None));
            }
            if items.is_empty() {
                all.push(json!([{}]));
            }
            all
        }
        Value::Number(n) => vec![json!(n.as_i64().expect("small") + 1)],
        Value::String(text) => vec![json!(format!("{text}x"))],
        Value::Bool(flag) => vec![json!(!flag)],
        Value::Null => vec![json!(1)],
    }
}

#[test]
fn answers_that_are_right_are_accepted_and_all_others_told() {
    let book = book();
    let right = asked(&book);
    let shown = Shown {
        asked: right.clone(),
        ..Shown::default()
    };
    assert_eq!(complaints(&book, with_contracts(shown)), [""; 0]);
    let mut tried = 0;
    for asked in &right {
        for body in altered(&asked.body) {
            let wrong = Asked {
                body: body.clone(),
                ..asked.clone()
            };
            let shown = Shown {
                asked: vec![wrong],
                ..Shown::default()
            };
            let told = complaints(&book, with_contracts(shown));
            assert_eq!(
                told.len(),
                1,
                "{} {}: {body} is not told",
                asked.action,
                asked.params
            );
            tried += 1;
        }
    }
    assert!(tried > 300, "{tried}");
}

fn with_contracts(shown: Shown) -> Shown {
    Shown {
        contracts: contracts().to_vec(),
        ..shown
    }
}

#[test]
fn journals_and_contracts_are_the_books() {
    let book = book();
    let journal = json!({"statements": journal(), "watermark": 6, "version": 1});
    let open = json!({"statements": open(1337)["transactions"], "watermark": 0, "version": null});
    let shown = |journal: &Value, open: &Value, contracts: Vec<Value>| Shown {
        journals: [
            (("seller1".to_owned(), 1337), journal.clone()),
            (("buyer1".to_owned(), 1337), open.clone()),
        ]
        .into(),
        contracts,
        ..Shown::default()
    };
    let all = contracts().to_vec();
    assert_eq!(complaints(&book, shown(&journal, &open, all.clone())), [""; 0]);
    for wrong in altered(&journal) {
        let told = complaints(&book, shown(&wrong, &open, all.clone()));
        assert_eq!(told.len(), 1, "{wrong} is not told");
    }
    for wrong in altered(&open) {
        let told = complaints(&book, shown(&journal, &wrong, all.clone()));
        assert_eq!(told.len(), 1, "{wrong} is not told");
    }
    for wrong in altered(&json!(all)) {
        let wrong = wrong.as_array().expect("a list").clone();
        let told = complaints(&book, shown(&journal, &open, wrong.clone()));
        assert_eq!(told.len(), 1, "{wrong:?} is not told");
    }
    // Two statements that have one id are one too many.
    let mut twice = journal.clone();
    twice["statements"][4]["id"] = journal["statements"][0]["id"].clone();
    assert_eq!(complaints(&book, shown(&twice, &open, all)).len(), 1);
}

#[test]
fn without_a_version_the_newest_is_proved() {
    let cluster = cluster();
    let book = book_of(&cluster);
    let complaints = |version| {
        let epoch = ledger::Epoch::new(1337).expect("an epoch");
        let proof = cluster
            .ledger
            .proof(&"seller1".try_into().expect("a name"), epoch, version);
        let asked = Asked {
            action: "balancing.proof".to_owned(),
            params: json!({"assetId": "seller1", "epoch": 1337}),
            body: serde_json::to_value(proof.expect("a proof")).expect("JSON"),
        };
        let shown = Shown {
            asked: vec![asked],
            ..Shown::default()
        };
        complaints(&book, with_contracts(shown)).len()
    };
    assert_eq!(complaints(None), 0);
    assert_eq!(complaints(Some(1)), 0);
    assert_eq!(complaints(Some(0)), 1);
}

#[test]
fn a_question_that_nobody_knows_is_told() {
    let asked = Asked {
        action: "weather.forecast".to_owned(),
        params: json!({"assetId": "seller1"}),
        body: json!("sunny"),
    };
    let shown = Shown {
        asked: vec![asked],
        ..Shown::default()
    };
    let told = complaints(&book(), with_contracts(shown));
    assert!(
        told[0].contains("nobody knows what weather.forecast should say"),
        "{told:?}"
    );
}
