//! Recovery, progress and coverage: checkers of a few lines, and histories of a few lines.

use std::collections::BTreeMap;

use serde_json::Value;

use checkers::coverage;
use checkers::history::{History, Moment, Operation, Outcome, Reported};
use checkers::oracle::digest::hex;
use checkers::progress::{self, SETTLED_MS, Stability, TRIED_MS};
use checkers::recovery::{CERTIFIED_MS, EQUAL_MS, LEADER_MS, Recovery, View};
use checkers::states::States;

fn well() -> BTreeMap<u64, View> {
    let view = View {
        term: 2,
        leader: Some(1),
        applied: Some(9),
        state: [1; 32],
        newest_block: Some(8),
        certified: Some(8),
    };
    (1..=3).map(|node| (node, view.clone())).collect()
}

/// Shows one state from 100 ms on; when was what complained about?
fn complaints(nodes: &BTreeMap<u64, View>) -> Vec<(u64, String)> {
    let mut recovery = Recovery::default();
    let mut found = Vec::new();
    for at in (100..=30_100).step_by(100) {
        found.extend(recovery.look(at, Some(nodes)).into_iter().map(|(checker, what)| {
            assert_eq!(checker, "recovery");
            (at - 100, what)
        }));
    }
    found
}

/// The bound that was missed, if it was one.
fn missed(change: impl FnOnce(&mut View)) -> Vec<u64> {
    let mut nodes = well();
    change(nodes.get_mut(&2).unwrap());
    complaints(&nodes).into_iter().map(|(at, _)| at - 100).collect()
}

#[test]
fn a_cluster_gets_well_in_time_or_is_told() {
    assert_eq!(complaints(&well()), []);
    assert_eq!(missed(|view| view.leader = None), [LEADER_MS]);
    assert_eq!(missed(|view| view.leader = Some(2)), [LEADER_MS]);
    assert_eq!(missed(|view| view.term = 3), [LEADER_MS]);
    assert_eq!(missed(|view| view.applied = Some(8)), [EQUAL_MS]);
    assert_eq!(missed(|view| view.state = [2; 32]), [EQUAL_MS]);
    assert_eq!(missed(|view| view.certified = Some(7)), [CERTIFIED_MS]);
    assert_eq!(missed(|view| view.certified = None), [CERTIFIED_MS]);
    let nobody: BTreeMap<u64, View> = well().into_keys().map(|node| (node, View::default())).collect();
    let bounds: Vec<u64> = complaints(&nobody).into_iter().map(|(at, _)| at - 100).collect();
    assert_eq!(
        bounds,
        [LEADER_MS, EQUAL_MS],
        "without blocks there is nothing to certify"
    );
}

#[test]
fn once_well_is_enough_and_a_relapse_begins_anew() {
    let mut ill = well();
    ill.get_mut(&1).unwrap().leader = None;
    let mut recovery = Recovery::default();
    assert_eq!(recovery.look(0, Some(&well())), []);
    assert_eq!(recovery.look(10_000, Some(&ill)), []);
    recovery.look(10_001, None);
    assert_eq!(recovery.look(11_000, Some(&ill)), []);
    assert_eq!(
        recovery.look(11_000 + LEADER_MS, Some(&ill)),
        [],
        "in time to the millisecond"
    );
    assert_eq!(recovery.look(11_001 + LEADER_MS, Some(&ill)).len(), 1);
    assert_eq!(recovery.look(11_002 + LEADER_MS, Some(&ill)), [], "told once");
}

#[test]
fn only_blocks_of_before_must_be_certified() {
    let mut busy = well();
    busy.values_mut().for_each(|view| view.newest_block = Some(50));
    let mut recovery = Recovery::default();
    recovery.look(0, Some(&well()));
    assert_eq!(recovery.look(CERTIFIED_MS + 1, Some(&busy)), []);
}

fn write(asked_ms: u64, ended_ms: u64, outcome: Outcome) -> Operation {
    Operation {
        key: String::new(),
        keyed: true,
        action: String::new(),
        body: Value::Null,
        settles: vec![Reported {
            meter: "m".into(),
            epoch: 1,
            consumption: 1,
            label: "x".into(),
        }],
        asked: Moment::at(asked_ms),
        ended: Moment::at(ended_ms),
        outcome,
        told: None,
    }
}

fn stuck(stability: &Stability, operations: Vec<Operation>) -> usize {
    progress::check(
        &History {
            operations,
            ..History::default()
        },
        stability,
    )
    .len()
}

#[test]
fn a_stable_majority_acknowledges_writes() {
    let period = |until| {
        let mut stability = Stability::default();
        stability.look(1_000, Some(&[1, 2, 3]));
        stability.look(until, None);
        stability
    };
    let settled = 1_000 + SETTLED_MS;
    let until = settled + TRIED_MS;
    let unknown = |asked| write(asked, until, Outcome::Unknown);
    assert_eq!(stuck(&period(until), vec![unknown(settled)]), 1);
    assert_eq!(
        stuck(
            &period(until - 1),
            vec![write(settled, settled + 1, Outcome::Unknown)]
        ),
        0,
        "too short a time"
    );
    assert_eq!(
        stuck(&period(until), vec![unknown(settled - 1)]),
        0,
        "nobody asked then"
    );
    assert_eq!(
        stuck(&period(until), vec![write(settled, until + 1, Outcome::Unknown)]),
        0,
        "or still asks"
    );
    assert_eq!(stuck(&period(until), vec![]), 0);
    let done = |at| write(0, at, Outcome::Done);
    assert_eq!(stuck(&period(until), vec![unknown(settled), done(settled)]), 0);
    assert_eq!(stuck(&period(until), vec![unknown(settled), done(until)]), 0);
    assert_eq!(
        stuck(&period(until), vec![unknown(settled), done(settled - 1)]),
        1,
        "that was before"
    );
    assert_eq!(
        stuck(&period(until), vec![unknown(settled), done(until + 1)]),
        1,
        "that was after"
    );
    let refused = write(0, until, Outcome::Refused(409, "x".into()));
    assert_eq!(
        stuck(&period(until), vec![unknown(settled), refused]),
        1,
        "a refusal acknowledges nothing"
    );
    let mut reading = unknown(settled);
    reading.settles.clear();
    assert_eq!(stuck(&period(until), vec![reading]), 0, "only writes count");
}

#[test]
fn stable_is_who_stays_the_same() {
    let mut stability = Stability::default();
    stability.look(0, None);
    stability.look(10, Some(&[1, 2]));
    stability.look(20, Some(&[1, 2]));
    stability.look(30, Some(&[1, 3]));
    stability.look(40, None);
    stability.look(50, Some(&[1, 3]));
    stability.end(60);
    stability.end(70);
    assert_eq!(stability.periods(), [(10, 30), (30, 40), (50, 60)]);
}

#[test]
fn coverage_knows_what_there_is_to_reach() {
    assert!(coverage::STATES.is_sorted());
    assert_eq!(
        coverage::missing(coverage::STATES.iter().copied()),
        Default::default()
    );
    let missing = coverage::missing(
        coverage::STATES
            .iter()
            .copied()
            .skip(1)
            .chain(["a word of no list"]),
    );
    assert_eq!(missing.into_iter().collect::<Vec<_>>(), [coverage::STATES[0]]);
    let seen = BTreeMap::from([("a seal", 2), ("a late value", 0), ("a word of no list", 1)]);
    assert_eq!(coverage::of(&seen), BTreeMap::from([("a seal", 2)]));
}

#[test]
fn at_one_index_there_is_one_state() {
    let mut states = States::default();
    let who = |found: Vec<(&'static str, String)>| -> Vec<&'static str> {
        found.into_iter().map(|(checker, _)| checker).collect()
    };
    assert_eq!(states.look(1, 1, 5, Some([5; 32])), []);
    assert_eq!(states.look(2, 1, 5, Some([5; 32])), []);
    assert_eq!(states.look(2, 1, 6, None), [], "it shows none");
    assert_eq!(who(states.look(3, 1, 5, Some([6; 32]))), ["state machine safety"]);
    assert_eq!(
        who(states.look(2, 1, 5, Some([5; 32]))),
        ["monotonic"],
        "from 6 to 5"
    );
    assert_eq!(states.look(2, 2, 4, Some([4; 32])), [], "a new life begins anew");
    assert_eq!(states.look(2, 2, 4, Some([4; 32])), []);
    let replayed = |four: u8| [(4, hex(&[four; 32])), (5, hex(&[5; 32]))].into();
    assert_eq!(states.check(&replayed(4)), []);
    assert_eq!(who(states.check(&replayed(9))), ["replay"]);
    assert_eq!(
        states.check(&BTreeMap::new()),
        [],
        "of what nobody replayed nothing is known"
    );
}

#[test]
fn time_runs_at_most_at_double_speed() {
    assert_eq!(progress::too_fast(1, 0, 0), None);
    assert_eq!(progress::too_fast(1, 20, 10), None);
    let told = progress::too_fast(3, 21, 10).expect("too fast");
    assert!(told.contains("n3") && told.contains("21 ms"), "{told}");
}
