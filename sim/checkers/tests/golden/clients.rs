//! Golden histories: a good one that every checker accepts, and for each checker bad ones that differ from it in
//! one thing, which that checker must notice and no other.

use serde_json::{Value, json};

use checkers::check;
use checkers::history::{History, Moment, Operation, Outcome, Read, Repeat, Reported, SealSeen, Shown};

use crate::product::Product;

fn statement(id: u64, from: &str, to: &str, energy: u64, kind: &str, label: &str) -> Value {
    let mut statement = json!({
        "id": format!("{id}.0"), "from": from, "to": to, "epoch": 7, "energy": energy, "co2eq": 0, "kind": kind, "label": label,
    });
    if kind == "metered" {
        statement["meter"] = json!("pv");
    }
    statement
}

fn contract(energy: u64) -> Value {
    let mut contract = statement(3, "street", "home", energy, "contract", ".ppa");
    contract["contractId"] = json!("ppa");
    contract
}

/// What a node shows: the meter pv delivers to the street, which trades with home and passes the rest on.
fn shown() -> Shown {
    let settled = statement(1, "pv", "street", 500, "metered", "c1-1-0");
    let street = json!({
        "statements": [
            settled,
            statement(2, "street", "district", 500, "residual", ".end"),
            contract(200),
            statement(4, "district", "street", 200, "counter", ".ppa"),
        ],
        "watermark": 4, "version": 0,
    });
    let home = json!({"statements": [contract(200)], "watermark": 0, "version": null});
    let district = json!({
        "statements": [
            statement(2, "street", "district", 500, "residual", ".end"),
            statement(4, "district", "street", 200, "counter", ".ppa"),
        ],
        "watermark": 0, "version": null,
    });
    let pv = json!({"statements": [settled], "watermark": 1, "version": 0});
    let journals = [
        ("pv", pv),
        ("street", street),
        ("home", home),
        ("district", district),
    ];
    Shown {
        status: json!({"applied": 9, "state": "aa"}),
        blocks: vec![json!({"index": 5, "digest": "b5", "root": "r5"})],
        journals: journals
            .into_iter()
            .map(|(asset, journal)| ((asset.to_owned(), 7), journal))
            .collect(),
        contracts: vec![json!({"contractId": "ppa", "energy": 200, "energy_total": 200, "balanced": 200})],
        ..Shown::default()
    }
}

fn settle(n: u64, asked_ms: u64, outcome: Outcome) -> Operation {
    Operation {
        key: format!("c1-{n}"),
        keyed: true,
        action: "balancing.addSettlement".into(),
        body: Value::Null,
        settles: vec![Reported {
            meter: "pv".into(),
            epoch: 7,
            consumption: 500,
            label: format!("c1-{n}-0"),
        }],
        asked: Moment::at(asked_ms),
        ended: Moment::at(asked_ms + 10),
        outcome,
        told: None,
    }
}

fn read(asked_ms: u64, labels: &[&str]) -> Read {
    Read {
        node: 2,
        local: false,
        asset: "pv".into(),
        epoch: 7,
        asked: Moment::at(asked_ms),
        answered: Moment::at(asked_ms + 5),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        watermark: 0,
        sealed: Vec::new(),
    }
}

fn good() -> History {
    History {
        operations: vec![
            settle(1, 100, Outcome::Done),
            settle(2, 200, Outcome::Refused(409, "rule_cycle".into())),
            settle(3, 300, Outcome::Unknown),
        ],
        // The first runs beside the write, and may or may not show it.
        reads: vec![read(103, &[]), read(120, &["c1-1-0"])],
        shown: [(1, shown()), (2, shown())].into(),
        ..History::default()
    }
}

/// The checkers that complain.
fn complaints(history: &History) -> Vec<&'static str> {
    let mut who: Vec<_> = check::<Product>(history, &[])
        .into_iter()
        .map(|violation| violation.checker)
        .collect();
    who.dedup();
    who
}

/// Whether this checker complains, and no other but the one for linearizable histories, which sees losses too.
fn noticed_by(history: &History, checker: &str) -> bool {
    let who = complaints(history);
    who.contains(&checker)
        && who
            .iter()
            .all(|other| *other == checker || *other == "linearizability")
}

fn journal<'a>(history: &'a mut History, asset: &str) -> Vec<&'a mut Value> {
    history
        .shown
        .values_mut()
        .filter_map(|shown| shown.journals.get_mut(&(asset.to_owned(), 7)))
        .collect()
}

#[test]
fn the_good_history_is_good() {
    assert_eq!(check::<Product>(&good(), &[]), []);
}

#[test]
fn agreement_sees_nodes_that_differ() {
    let mut history = good();
    history.shown.get_mut(&2).unwrap().status["state"] = json!("bb");
    assert_eq!(complaints(&history), ["agreement"]);

    let mut history = good();
    history.shown.get_mut(&2).unwrap().blocks[0]["digest"] = json!("other");
    assert_eq!(complaints(&history), ["agreement"]);

    // The block that differs is named, not one that doesn't.
    let mut history = good();
    for (node, digest) in [(1, "b6"), (2, "other")] {
        let block = json!({"index": 6, "digest": digest, "root": "r6"});
        history.shown.get_mut(&node).unwrap().blocks.push(block);
    }
    let found = check::<Product>(&history, &[]);
    assert!(
        found[0].what.contains("b6") && found[0].what.contains("other"),
        "{found:?}"
    );

    let mut history = good();
    history.shown.get_mut(&2).unwrap().blocks.clear();
    assert_eq!(complaints(&history), ["agreement"]);

    let mut history = good();
    history.shown.get_mut(&2).unwrap().contracts[0]["status"] = json!("suspended");
    assert_eq!(complaints(&history), ["agreement"]);

    // States at different log indexes say nothing.
    let mut history = good();
    let status = &mut history.shown.get_mut(&2).unwrap().status;
    *status = json!({"applied": 10, "state": "bb"});
    assert_eq!(complaints(&history), Vec::<&str>::new());
}

#[test]
fn agreement_sees_two_digests_of_one_seal() {
    let seen = |digest: &str, version| SealSeen {
        at_ms: 1,
        node: 1,
        asset: "pv".into(),
        epoch: 7,
        version,
        digest: digest.into(),
    };
    let mut history = good();
    history.shown.clear();
    history.seals = vec![seen("a", 0), seen("a", 0), seen("b", 1)];
    assert_eq!(complaints(&history), Vec::<&str>::new());
    history.seals.push(seen("b", 0));
    assert_eq!(complaints(&history), ["agreement"]);
}

#[test]
fn durability_sees_what_was_lost_doubled_or_made_up() {
    let mut lost = good();
    lost.operations.push(settle(9, 400, Outcome::Done));
    assert!(noticed_by(&lost, "durability"));

    let mut refused = good();
    refused.operations[0].outcome = Outcome::Refused(409, "expired".into());
    refused.reads.clear();
    assert!(noticed_by(&refused, "durability"));

    // Doubled: in the journals of both sides, so that nothing but the count is wrong.
    let mut doubled = good();
    let again = statement(8, "pv", "street", 500, "metered", "c1-1-0");
    for asset in ["pv", "street"] {
        for journal in journal(&mut doubled, asset) {
            journal["statements"].as_array_mut().unwrap().push(again.clone());
        }
    }
    assert!(noticed_by(&doubled, "durability"));
    let told = check::<Product>(&doubled, &[]);
    assert!(
        told[0].what.contains("[\"c1-1-0\"] are booked 2 times"),
        "{told:?}"
    );

    let mut unknown = good();
    unknown.operations[0].outcome = Outcome::Unknown;
    assert_eq!(
        complaints(&unknown),
        Vec::<&str>::new(),
        "an unknown outcome may be either"
    );

    let mut half = good();
    half.operations[0].outcome = Outcome::Unknown;
    let second = settle(10, 0, Outcome::Unknown).settles;
    half.operations[0].settles.extend(second);
    assert!(noticed_by(&half, "durability"), "half of a batch");

    let mut changed = good();
    changed.operations[0].settles[0].consumption = 501;
    assert!(noticed_by(&changed, "durability"));

    let mut made_up = good();
    made_up.operations.remove(0);
    made_up.reads.clear();
    assert!(noticed_by(&made_up, "durability"));
}

#[test]
fn reads_must_show_what_was_acknowledged_and_nothing_else() {
    let mut stale = good();
    stale.reads.push(read(500, &[]));
    assert!(noticed_by(&stale, "linearizable reads"));

    // Nobody had seen it before.
    let mut first = good();
    first.reads = vec![read(500, &[])];
    assert!(noticed_by(&first, "linearizable reads"));

    // At the very moment of the acknowledgement, or of the answer to another, a read runs beside it.
    let mut beside = good();
    beside.reads = vec![read(110, &[])];
    assert_eq!(complaints(&beside), Vec::<&str>::new());
    let mut handed_on = good();
    handed_on.operations[0].ended = Moment::at(200);
    handed_on.reads = vec![read(120, &["c1-1-0"]), read(125, &[])];
    assert_eq!(complaints(&handed_on), Vec::<&str>::new());
    handed_on.reads[1].asked = Moment::at(126);
    assert!(noticed_by(&handed_on, "linearizable reads"));

    let mut invented = good();
    invented.reads.push(read(130, &["c1-1-0", "nobody-1"]));
    assert!(noticed_by(&invented, "linearizable reads"));

    let mut early = good();
    early.reads.insert(0, read(50, &["c1-1-0"]));
    assert!(noticed_by(&early, "linearizable reads"));

    // A write without an outcome may appear, but not disappear again.
    let mut back = good();
    back.operations[0].outcome = Outcome::Unknown;
    back.reads.push(read(140, &[]));
    assert!(noticed_by(&back, "linearizable reads"));
}

#[test]
fn values_of_a_meter_below_are_not_the_meters_own() {
    let mut below = good();
    for journal in journal(&mut below, "pv") {
        let mut theirs = statement(5, "heater", "pv", 20, "metered", "nobody-1");
        theirs["meter"] = json!("heater");
        journal["statements"].as_array_mut().unwrap().push(theirs);
    }
    let told = complaints(&below);
    assert!(
        !told.contains(&"linearizability") && !told.contains(&"durability"),
        "{told:?}"
    );
    for journal in journal(&mut below, "pv") {
        journal["statements"][1]["meter"] = json!("pv");
    }
    assert!(
        complaints(&below).contains(&"durability"),
        "nobody reported it for pv"
    );
}

#[test]
fn immutability_sees_a_sealed_prefix_that_changes() {
    let sealed = |history: &mut History, statement: Value| {
        history.reads[1].sealed = vec![statement];
        history.reads[1].watermark = 1;
    };
    let mut same = good();
    sealed(&mut same, statement(1, "pv", "street", 500, "metered", "c1-1-0"));
    assert_eq!(complaints(&same), Vec::<&str>::new());

    let mut changed = good();
    sealed(
        &mut changed,
        statement(1, "pv", "street", 499, "metered", "c1-1-0"),
    );
    assert_eq!(complaints(&changed), ["immutability"]);

    let mut shrunk = good();
    sealed(
        &mut shrunk,
        statement(1, "pv", "street", 500, "metered", "c1-1-0"),
    );
    for journal in journal(&mut shrunk, "pv") {
        journal["watermark"] = json!(0);
    }
    assert_eq!(complaints(&shrunk), ["immutability"]);

    let mut short = good();
    for journal in journal(&mut short, "home") {
        journal["watermark"] = json!(2);
    }
    assert!(complaints(&short).contains(&"immutability"));
}

#[test]
fn conservation_sees_energy_that_is_lost_and_statements_with_one_side() {
    let mut kept = good();
    for asset in ["street", "district"] {
        for journal in journal(&mut kept, asset) {
            let all = journal["statements"].as_array_mut().unwrap();
            all.iter_mut()
                .filter(|s| s["kind"] == "residual")
                .for_each(|s| s["energy"] = json!(499));
        }
    }
    assert_eq!(complaints(&kept), ["conservation"]);

    let mut one_sided = good();
    for journal in journal(&mut one_sided, "home") {
        journal["statements"] = json!([]);
    }
    assert_eq!(complaints(&one_sided), ["conservation"]);

    // Whoever is no side of a statement has none of it in its journal.
    let mut strayed = good();
    for journal in journal(&mut strayed, "home") {
        let all = journal["statements"].as_array_mut().unwrap();
        all.push(statement(2, "street", "district", 500, "residual", ".end"));
    }
    assert_eq!(complaints(&strayed), ["conservation"]);
}

#[test]
fn caps_sees_a_contract_that_books_too_much() {
    for (name, limit) in [
        ("energy", 199),
        ("load_max", 199),
        ("energy_total", 199),
        ("balanced", 201),
    ] {
        let mut history = good();
        for shown in history.shown.values_mut() {
            shown.contracts[0][name] = json!(limit);
        }
        assert_eq!(complaints(&history), ["contract caps"], "{name}");
    }
}

#[test]
fn certificates_must_exist_for_what_was_acknowledged() {
    let mut history = good();
    history.seals.push(SealSeen {
        at_ms: 1,
        node: 1,
        asset: "pv".into(),
        epoch: 7,
        version: 0,
        digest: "00".into(),
    });
    assert_eq!(complaints(&history), ["certificates"], "no proof at all");
    history
        .shown
        .get_mut(&1)
        .unwrap()
        .proofs
        .insert(("pv".into(), 7, 0), json!({"seal": 1}));
    assert_eq!(complaints(&history), ["certificates"], "a proof that isn't one");
}

#[test]
fn a_local_read_may_be_old_but_not_made_up() {
    let local = |asked_ms, labels: &[&str]| {
        let mut history = good();
        let mut seen = read(asked_ms, labels);
        seen.local = true;
        history.reads.push(seen);
        complaints(&history)
    };
    assert_eq!(local(500, &[]), [""; 0], "of long before the write");
    assert_eq!(local(500, &["c1-1-0"]), [""; 0]);
    assert_eq!(
        local(500, &["c1-3-0"]),
        ["linearizability"],
        "reported, but never committed"
    );
    assert_eq!(
        local(90, &["c1-1-0"]),
        ["linearizable reads"],
        "before anybody had reported it"
    );
}

#[test]
fn whoever_asks_again_is_told_the_same() {
    let repeated = |again: (u16, Value)| {
        let mut history = good();
        history.repeats.push(Repeat {
            key: "c1-1".into(),
            at_ms: 400,
            node: 2,
            first: (200, json!({"index": 5})),
            again,
        });
        complaints(&history)
    };
    assert_eq!(repeated((200, json!({"index": 5}))), [""; 0]);
    assert_eq!(repeated((200, json!({"index": 6}))), ["exactly once"]);
    assert_eq!(repeated((409, json!({"index": 5}))), ["exactly once"]);
}

#[test]
fn odd_answers_are_told() {
    let mut history = good();
    history.oddities.push((1, "a 500".into()));
    assert_eq!(complaints(&history), ["honest answers"]);
}
