//! The oracle where drawn logs seldom go: figures as large as they may be, and one more.

use checkers::oracle::model::{Contract, Oracle, Rule};

/// The largest figure of a statement or a seal.
const LARGEST: i128 = (1 << 53) - 1;

/// A roof and a home below a street, both sealed; they delivered so much with so much CO2.
fn street(roof: (i128, i128), home: (i128, i128)) -> Oracle {
    let mut oracle = Oracle::default();
    for (asset, upstream) in [("roof", "street"), ("home", "street"), ("street", "town")] {
        let upstream = Some(upstream.to_owned());
        let rule = Rule {
            from: upstream.clone(),
            to: upstream,
        };
        oracle.upsert(asset, rule).expect("a rule");
    }
    for (asset, (energy, co2)) in [("roof", roof), ("home", home)] {
        oracle.settle(asset, 7, energy, co2, "x");
        oracle.seal(asset, 7).expect("a seal");
    }
    oracle
}

#[test]
fn a_group_may_pass_up_the_largest_figure_and_no_larger_one() {
    for (most, more) in [((LARGEST, 0), (1, 0)), ((1, LARGEST), (1, 1))] {
        let mut good = street(most, (0, 0));
        good.seal("street", 7).expect("as much as there may be");
        let residual = good.statements.last().expect("booked");
        assert_eq!((residual.energy, residual.co2), most);

        let mut refused = street(most, more);
        let before = (refused.statements.len(), refused.journal("street", 7));
        let why = refused.seal("street", 7).expect_err("too much");
        assert_eq!(format!("{why:?}"), "\"out_of_range\"");
        let after = (refused.statements.len(), refused.journal("street", 7));
        assert_eq!(before, after, "nothing is half done");
    }
}

#[test]
fn a_contract_books_its_total_and_no_more_and_in_an_epoch_no_more_than_its_cap() {
    let mut oracle = Oracle::default();
    let sale = Contract {
        asset: "roof".into(),
        partner: "home".into(),
        sells: true,
        delivery: "as_available".into(),
        status: "active".into(),
        priority: 1,
        energy: 200,
        load_min: 100,
        load_max: None,
        energy_total: Some(350),
        valid_from: None,
        valid_until: None,
        price: 0,
    };
    let upstream = Some("street".to_owned());
    let rule = Rule {
        from: upstream.clone(),
        to: upstream,
    };
    oracle.upsert("roof", rule).expect("a rule");
    oracle.add_contract("1", sale).expect("added");
    let taken = |oracle: &mut Oracle, epoch, energy, late: bool| {
        oracle.settle("roof", epoch, energy, 0, "x");
        let before = oracle.balanced("1");
        match late {
            false => oracle.seal("roof", epoch),
            true => oracle.correct("roof", epoch),
        }
        .expect("a seal");
        oracle.balanced("1") - before
    };
    assert_eq!(taken(&mut oracle, 7, 120, false), 120);
    assert_eq!(
        taken(&mut oracle, 7, 100, true),
        0,
        "80 are left, less than it takes"
    );
    assert_eq!(taken(&mut oracle, 8, 100, false), 100, "just as much as it takes");
    assert_eq!(
        taken(&mut oracle, 9, 500, false),
        130,
        "what is left of its total"
    );
    assert_eq!(taken(&mut oracle, 10, 500, false), 0, "it is fulfilled");
}
