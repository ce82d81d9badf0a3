//! What was acknowledged as sealed is proven, with the digest that was acknowledged, and both verifiers say so.

use checkers::certificates;
use checkers::history::History;
use serde_json::json;

use super::common::public;
use super::log::{Fixture, key};
use super::product::Product;

/// The keys of the three nodes that sign in the fixture.
fn nodes() -> Vec<(u64, [u8; 32])> {
    (1..=3).map(|node| (node.into(), public(&key(node)).0)).collect()
}

fn complaints(history: &History) -> Vec<String> {
    let found = certificates::check::<Product>(history, &nodes());
    found.into_iter().map(|(_, what)| what).collect()
}

#[test]
fn a_proof_of_what_was_acknowledged_is_accepted() {
    let mut history = Fixture::new().history();
    assert_eq!(complaints(&history), [""; 0]);
    // Without the end of a run there is nothing to prove anything with.
    history.shown.clear();
    assert_eq!(complaints(&history), [""; 0]);
}

#[test]
fn a_proof_of_another_digest_or_of_nothing_is_told() {
    let mut history = Fixture::new().history();
    history.seals[0].digest = "00".repeat(32);
    let [differs, few] = &complaints(&history)[..] else {
        panic!("two complaints");
    };
    assert!(differs.contains("acknowledged was"), "{differs}");
    assert_eq!(few, "0 of 1 acknowledged seals are proven");

    let mut nobody_was_told = Fixture::new().history();
    nobody_was_told.seals.clear();
    let told = complaints(&nobody_was_told);
    assert!(
        told.len() == 1 && told[0].contains("acknowledged was None"),
        "{told:?}"
    );
}

#[test]
fn a_proof_that_fails_is_told() {
    let mut history = Fixture::new().history();
    for shown in history.shown.values_mut() {
        for proof in shown.proofs.values_mut() {
            proof["header"]["state"] = json!("00".repeat(32));
        }
    }
    let [fails, few] = &complaints(&history)[..] else {
        panic!("two complaints");
    };
    assert!(fails.contains("proof of") && fails.contains("fails"), "{fails}");
    assert_eq!(few, "0 of 1 acknowledged seals are proven");
}
