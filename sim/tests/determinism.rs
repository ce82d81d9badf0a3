//! One seed, one run: byte-identical traces in one process and in two. Without this nothing that the simulator finds
//! could be found again.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use sim::run::{Around, run};
use sim::{bare, scenario};

fn replicas(seed: u64) -> bare::Options {
    bare::Options {
        seed,
        nodes: 5,
        faults_ms: 12_000,
        lying_disks: false,
        calm: false,
    }
}

/// What `sim` prints for this seed, as JSON.
fn child(command: &str, seed: u64) -> serde_json::Value {
    let seed = seed.to_string();
    let args = [command, "--seed", &seed, "--virtual-s", "4", "--json"];
    let out = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(args)
        .output()
        .expect("sim runs");
    serde_json::from_slice(&out.stdout).expect("one JSON object")
}

// One test function: runs in one process are equal only if they begin with equal remainders of tokio's task ids,
// which other tests at the same time would shift (see `sim::world`).
#[test]
fn one_seed_is_one_run_in_one_process() {
    let around = Around::default();
    for seed in [1, 2] {
        let first = run(&around, || bare::run(&replicas(seed))).expect("a run");
        let second = run(&around, || bare::run(&replicas(seed))).expect("a run");
        assert!(first.events > 1_000, "only {} events", first.events);
        assert_eq!(first.trace, second.trace, "replicas, seed {seed}");
    }
    let mut options = scenario::Options::new(3);
    options.faults_ms = 6_000;
    let first = run(&around, || scenario::run(&options)).expect("a run");
    let second = run(&around, || scenario::run(&options)).expect("a run");
    assert!(first.events > 1_000, "only {} events", first.events);
    assert_eq!(
        (first.events, first.trace),
        (second.events, second.trace),
        "the product"
    );
}

#[test]
fn one_seed_is_one_run_in_two_processes_and_two_seeds_are_two() {
    let seeds: Vec<(&str, u64)> = (0..24)
        .map(|seed| ("raft", seed))
        .chain((0..12).map(|seed| ("run", seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let traces = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((command, seed)) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let [first, second] = [(); 2].map(|()| child(command, *seed)["trace"].clone());
                    assert!(first.is_string(), "{command} --seed {seed} has no trace");
                    assert_eq!(first, second, "{command} --seed {seed}");
                    traces.lock().insert(first.to_string());
                }
            });
        }
    });
    assert_eq!(traces.into_inner().len(), seeds.len(), "two seeds are one run");
}
