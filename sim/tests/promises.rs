//! A few seeds hold every promise, and a disk that lies is noticed: the first by the second would prove nothing.

use sim::bare;
use sim::faults::Plan;
use sim::report::Report;
use sim::run::{Around, run};
use sim::scenario;

fn replicas(seed: u64, lying_disks: bool) -> Report {
    let options = bare::Options {
        seed,
        nodes: 5,
        faults_ms: 15_000,
        lying_disks,
        calm: false,
    };
    run(&Around::default(), || bare::run(&options)).expect("a run")
}

/// The product through a blackout of all machines.
fn blackout(seed: u64, lying_disks: bool) -> Report {
    let mut options = scenario::Options::new(seed);
    options.nodes = 3;
    options.lying_disks = lying_disks;
    options.plan = Some(Plan::blackout(3, 5_000, 8_000));
    options.faults_ms = 8_000;
    run(&Around::default(), || scenario::run(&options)).expect("a run")
}

fn noticed_by(report: &Report) -> Vec<&'static str> {
    report
        .violations
        .iter()
        .map(|violation| violation.checker)
        .collect()
}

#[test]
fn replicas_keep_their_promises() {
    for seed in 1..=4 {
        let report = replicas(seed, false);
        assert!(report.ok, "{}", report.tell());
        assert!(report.counts["acknowledged"] > 500, "{:?}", report.counts);
    }
}

#[test]
fn replicas_on_lying_disks_are_noticed() {
    for seed in 1..=4 {
        let report = replicas(seed, true);
        let by = noticed_by(&report);
        assert!(
            by.contains(&"durability") || by.contains(&"agreement"),
            "seed {seed}: {by:?}"
        );
    }
}

#[test]
fn the_product_survives_a_blackout_and_lying_disks_are_noticed() {
    let honest = blackout(1, false);
    assert!(honest.ok, "{}", honest.tell());
    assert!(honest.counts["done"] > 100, "{:?}", honest.counts);
    let lied = blackout(1, true);
    assert!(!lied.ok, "nobody noticed that all disks lied");
}
