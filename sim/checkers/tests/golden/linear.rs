//! One journal, a few clients, and orders that exist or don't.

use serde_json::{Value, json};

use checkers::history::{History, Moment, Operation, Outcome, Read, Reported, Shown};
use checkers::linear::check;

fn write(label: &str, asked_ms: u64, ended_ms: u64, outcome: Outcome) -> Operation {
    let settles = label.split(' ').map(|label| Reported {
        meter: "m".into(),
        epoch: 7,
        consumption: 1,
        label: label.into(),
    });
    Operation {
        key: label.into(),
        keyed: true,
        action: "balancing.addSettlement".into(),
        body: Value::Null,
        settles: settles.collect(),
        asked: Moment::at(asked_ms),
        ended: Moment::at(ended_ms),
        outcome,
        told: None,
    }
}

fn done(label: &str, asked_ms: u64, ended_ms: u64) -> Operation {
    write(label, asked_ms, ended_ms, Outcome::Done)
}

fn read(labels: &str, asked_ms: u64, answered_ms: u64) -> Read {
    Read {
        node: 1,
        local: false,
        asset: "m".into(),
        epoch: 7,
        asked: Moment::at(asked_ms),
        answered: Moment::at(answered_ms),
        labels: labels.split_whitespace().map(str::to_owned).collect(),
        watermark: 0,
        sealed: Vec::new(),
    }
}

/// Whether there is an order, if the journal is this in the end.
fn ordered(content: &str, operations: Vec<Operation>, reads: Vec<Read>) -> bool {
    let statements: Vec<Value> = content
        .split_whitespace()
        .map(|label| json!({"kind": "metered", "meter": "m", "label": label}))
        .collect();
    let mut shown = Shown::default();
    shown
        .journals
        .insert(("m".into(), 7), json!({"statements": statements}));
    let history = History {
        operations,
        reads,
        shown: [(1, shown)].into(),
        ..History::default()
    };
    check(&history).is_empty()
}

#[test]
fn one_after_the_other() {
    assert!(ordered(
        "a b",
        vec![done("a", 0, 10), done("b", 20, 30)],
        vec![read("a", 12, 18), read("a b", 40, 50)]
    ));
    assert!(
        !ordered("b a", vec![done("a", 0, 10), done("b", 20, 30)], vec![]),
        "the journal has another order"
    );
}

#[test]
fn side_by_side_either_comes_first() {
    let both = || vec![done("a", 0, 100), done("b", 0, 100)];
    assert!(ordered(
        "b a",
        both(),
        vec![read("", 0, 100), read("b", 10, 90), read("b a", 50, 99)]
    ));
    assert!(
        !ordered("b a", both(), vec![read("a", 10, 90)]),
        "no order of the journal shows a alone"
    );
}

#[test]
fn within_a_millisecond_it_counts_what_came_first() {
    let moment = |place| Moment { ms: 20, place };
    let history = |ended: u64, asked: u64| {
        let mut operation = done("a", 10, 20);
        operation.ended = moment(ended);
        let mut old = read("", 20, 30);
        old.asked = moment(asked);
        ordered("a", vec![operation], vec![old])
    };
    assert!(!history(1, 2), "asked behind the acknowledgement");
    assert!(history(2, 1), "asked before it");
}

#[test]
fn reads_go_neither_back_nor_ahead() {
    let a = || vec![done("a", 10, 20)];
    assert!(!ordered("a", a(), vec![read("", 21, 30)]), "stale");
    assert!(
        ordered("a", a(), vec![read("", 20, 30)]),
        "what touches is concurrent"
    );
    assert!(
        !ordered("a", a(), vec![read("a", 0, 9)]),
        "before it was asked for"
    );
    let long = || vec![done("a", 0, 100)];
    assert!(
        !ordered("a", long(), vec![read("a", 10, 20), read("", 30, 40)]),
        "seen, and gone again"
    );
    assert!(ordered("a", long(), vec![read("", 10, 20), read("a", 30, 40)]));
    assert!(!ordered("a", long(), vec![read("x", 10, 20)]), "never written");
}

#[test]
fn a_write_without_an_answer_stays_open() {
    let unknown = || vec![write("a", 0, 10, Outcome::Unknown)];
    assert!(
        ordered("a", unknown(), vec![read("", 500, 510), read("a", 520, 530)]),
        "it may happen late"
    );
    assert!(ordered("", unknown(), vec![read("", 500, 510)]), "or never");
    assert!(
        !ordered("a", unknown(), vec![read("a", 500, 510), read("", 520, 530)]),
        "but not go again"
    );
    assert!(
        !ordered("", vec![done("a", 0, 10)], vec![]),
        "one with an answer must be there"
    );
    let refused = vec![write("a", 0, 10, Outcome::Refused(409, "no".into()))];
    assert!(ordered("", refused, vec![read("", 20, 30)]));
}

#[test]
fn a_batch_stands_together() {
    let batch = || vec![done("a b", 0, 10), done("c", 0, 10)];
    assert!(ordered("c a b", batch(), vec![]));
    assert!(!ordered("a c b", batch(), vec![]));
    assert!(
        !ordered("a b c", batch(), vec![read("a", 0, 10)]),
        "half of it was seen"
    );
}

#[test]
fn the_story_names_the_answer_that_does_not_fit() {
    let mut shown = Shown::default();
    shown.journals.insert(
        ("m".into(), 7),
        json!({"statements": [{"kind": "metered", "meter": "m", "label": "a"}]}),
    );
    let history = History {
        operations: vec![done("a", 0, 10)],
        reads: vec![read("a", 20, 30), read("", 40, 50), read("a", 60, 70)],
        shown: [(1, shown)].into(),
        ..History::default()
    };
    let found = check(&history);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, 50);
}

#[test]
fn a_value_of_a_meter_below_has_no_place_in_the_order() {
    let metered = |meter: &str, label: &str| json!({"kind": "metered", "meter": meter, "label": label});
    let mut shown = Shown::default();
    shown.journals.insert(
        ("m".into(), 7),
        json!({"statements": [metered("m", "a"), metered("heater", "x"), metered("m", "b")]}),
    );
    let history = History {
        operations: vec![done("a", 0, 10), done("b", 20, 30)],
        reads: vec![read("a b", 40, 50)],
        shown: [(1, shown)].into(),
        ..History::default()
    };
    assert_eq!(check(&history), []);
}
