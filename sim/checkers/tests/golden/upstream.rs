//! A group and what it passes up: a roof and a home below a street, which trades with a neighbour and a stranger.

use checkers::oracle::book::Book;
use checkers::oracle::model::{Contract, Oracle, Rule, Statement};
use checkers::upstream::check;

fn rule(upstream: &str) -> Rule {
    Rule {
        from: Some(upstream.into()),
        to: Some(upstream.into()),
    }
}

fn sale(asset: &str, partner: &str, energy: i128) -> Contract {
    Contract {
        asset: asset.into(),
        partner: partner.into(),
        sells: true,
        delivery: "as_available".into(),
        status: "active".into(),
        priority: 1,
        energy,
        load_min: 0,
        load_max: None,
        energy_total: None,
        valid_from: None,
        valid_until: None,
        price: 0,
    }
}

/// The roof delivers 500, of which it sells 200 to home and 100 to a stranger; home uses 300, of which it buys 50 from that
/// stranger.
fn sealed() -> Oracle {
    let mut oracle = Oracle::default();
    for (asset, upstream) in [("roof", "street"), ("home", "street"), ("street", "town")] {
        oracle.upsert(asset, rule(upstream)).expect("a rule");
    }
    oracle
        .add_contract("1", sale("roof", "home", 200))
        .expect("added");
    oracle
        .add_contract("2", sale("roof", "stranger", 100))
        .expect("added");
    let bought = Contract {
        sells: false,
        ..sale("home", "stranger", 50)
    };
    oracle.add_contract("3", bought).expect("added");
    oracle.settle("roof", 7, 500, 0, "x");
    oracle.settle("home", 7, -300, 0, "x");
    let (seals, held) = oracle.seal_epoch(7, None).expect("an epoch");
    assert_eq!((seals.len(), held.len()), (5, 0));
    oracle
}

fn complaints(oracle: Oracle) -> usize {
    let mut book = Book::default();
    book.oracle = oracle;
    check(&book).len()
}

#[test]
fn what_a_group_passes_up_is_what_it_measured_and_traded_outside() {
    assert_eq!(complaints(sealed()), 0);
    let booked = sealed().statements;
    for kind in ["metered", "residual", "contract", "counter"] {
        let at = booked.iter().position(|s| s.kind == kind).expect("one of each");
        // (A trade within the group moves nothing that is passed up.)
        let inside = kind == "contract";
        let mut more = sealed();
        more.statements[at].energy += 1;
        assert_eq!(complaints(more) > 0, !inside, "{kind}: {:?}", booked[at]);
    }
    let sold = |s: &Statement| s.to == "stranger";
    let bought = |s: &Statement| s.from == "stranger";
    for outside in [sold as fn(&Statement) -> bool, bought] {
        let outside = booked.iter().position(|s| s.kind == "contract" && outside(s));
        let mut more = sealed();
        more.statements[outside.expect("traded")].energy += 1;
        assert_eq!(complaints(more), 2, "neither street's sum nor town's is right");
    }
}

#[test]
fn of_groups_that_are_open_nothing_is_asked() {
    let wrong = || {
        let mut oracle = sealed();
        let residual = oracle.statements.iter().position(|s| s.kind == "residual");
        oracle.statements[residual.expect("one")].energy += 1;
        oracle
    };
    assert!(complaints(wrong()) > 0);
    let mut late = wrong();
    late.settle("roof", 7, 1, 0, "late");
    late.settle("home", 7, 1, 0, "late");
    assert_eq!(complaints(late), 0, "something came late");
    let mut elsewhere = wrong();
    for asset in ["roof", "home", "street"] {
        let mut own = elsewhere.rules[asset].clone();
        own.to = None;
        elsewhere.rules.insert(asset.into(), own);
    }
    assert_eq!(complaints(elsewhere), 0, "its members deliver to the root");
}
