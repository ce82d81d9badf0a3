//! Nodes die; what was acknowledged stays, and is there once.

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::http::Request;
use common::{Cluster, Plan, eventually};
use serde_json::{Value, json};

const METER: &str = "meter";

fn settlement(epoch: u64, wh: u64) -> Value {
    json!({"meterId": METER, "epoch": epoch, "consumption": wh, "label": "virtual_1"})
}

/// Energies of the meter's statements in an epoch, as one node has them now.
fn energies(cluster: &Cluster, node: u64, epoch: u64) -> Vec<u64> {
    let journal = cluster.ok(
        node,
        "balancing.journal",
        &json!({"assetId": METER, "epoch": epoch}),
    );
    let statements = journal["statements"].as_array().expect("statements");
    statements
        .iter()
        .map(|statement| statement["energy"].as_u64().expect("energy"))
        .collect()
}

/// Clients that book 1, 2, 3, … each into an epoch of their own until they are stopped; a write is tried, with one
/// key, on all nodes in turn until it is answered.
struct Load {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    last: Mutex<BTreeMap<u64, u64>>,
}

impl Load {
    fn run_while(
        cluster: &mut Cluster,
        clients: u64,
        disturb: impl FnOnce(&mut Cluster, &Load),
    ) -> BTreeMap<u64, u64> {
        let load = Load {
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            last: Mutex::default(),
        };
        let apis: Vec<String> = cluster.ids().into_iter().map(|id| cluster.api(id)).collect();
        std::thread::scope(|scope| {
            for client in 0..clients {
                let (load, apis) = (&load, &apis);
                scope.spawn(move || load.client(client, apis));
            }
            // Also when the disturbance panics, the clients must end.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(cluster, &load)));
            load.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        });
        load.last.into_inner().expect("no client panicked")
    }

    fn client(&self, client: u64, apis: &[String]) {
        let mut turn = usize::try_from(client).expect("few clients");
        for number in 1.. {
            let body = settlement(client, number);
            let acknowledged = std::iter::from_fn(|| {
                turn += 1;
                Some(
                    Request::post(&apis[turn % apis.len()], "balancing.addSettlement", &body)
                        .key(format!("load-{client}-{number}"))
                        .within(Duration::from_secs(3))
                        .send(),
                )
            })
            .take_while(|_| !self.stop.load(Ordering::Relaxed))
            .flatten()
            .find(|answer| !matches!(answer.status, 429 | 503 | 504));
            let Some(answer) = acknowledged else { return };
            assert!(answer.is_ok(), "{} {}", answer.status, answer.body);
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            self.last
                .lock()
                .expect("no client panicked")
                .insert(client, number);
        }
    }

    /// Waits for so many more acknowledged writes.
    fn wait_for(&self, more: u64) {
        let target = self.acknowledged.load(Ordering::Relaxed) + more;
        eventually(
            &format!("{more} more writes are acknowledged"),
            common::cluster::SOON,
            || (self.acknowledged.load(Ordering::Relaxed) >= target).then_some(()),
        );
    }
}

/// Everything acknowledged is on every node, once, in order; at most one more write per client, whose answer never
/// came, may be there too.
fn assert_complete(cluster: &Cluster, last: &BTreeMap<u64, u64>) {
    assert!(!last.is_empty(), "nothing was acknowledged");
    for node in cluster.ids() {
        for (&client, &last) in last {
            let found = energies(cluster, node, client);
            let acknowledged: Vec<u64> = (1..=last).collect();
            let one_more: Vec<u64> = (1..=last + 1).collect();
            assert!(
                found == acknowledged || found == one_more,
                "node {node}, client {client}, {last}: {found:?}"
            );
        }
    }
}

#[test]
fn the_leader_is_killed_under_load_and_nothing_is_lost_or_doubled() {
    let mut cluster = Plan::nodes(3).start();
    let last = Load::run_while(&mut cluster, 4, |cluster, load| {
        for _ in 0..3 {
            load.wait_for(40);
            let leader = cluster.leader(&cluster.ids());
            cluster.kill9(leader);
            load.wait_for(40);
            cluster.restart(leader);
        }
    });
    assert_complete(&cluster, &last);
    // And the seals over it agree.
    for &client in last.keys() {
        cluster.persist(
            &[1, 2, 3],
            "balancing.sealEpoch",
            &json!({"epoch": client}),
            &format!("seal-{client}"),
        );
    }
    cluster.certified(&[1, 2, 3], last.len());
}

#[test]
fn a_leader_whose_process_is_gone_is_not_waited_for() {
    // For want of heartbeats nobody would stand for election within 10 s.
    let mut cluster = Plan::nodes(3)
        .options("[timing]\nelection_min_ms = 10000\nelection_max_ms = 20000\n")
        .start();
    let last = Load::run_while(&mut cluster, 4, |cluster, load| {
        for _ in 0..3 {
            load.wait_for(40);
            let leader = cluster.leader(&cluster.ids());
            cluster.kill9(leader);
            let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
            eventually("another leads", Duration::from_secs(30), || {
                let status = cluster.status(others[0])?;
                status["leader"].as_u64().filter(|leader| others.contains(leader))
            });
            load.wait_for(40);
            cluster.restart(leader);
        }
    });
    assert_complete(&cluster, &last);
}

#[test]
fn all_nodes_are_killed_at_once_and_everything_acknowledged_is_there() {
    let mut cluster = Plan::nodes(3).start();
    let last = Load::run_while(&mut cluster, 4, |cluster, load| {
        for _ in 0..2 {
            load.wait_for(60);
            for id in cluster.ids() {
                cluster.kill9(id);
            }
            for id in cluster.ids() {
                cluster.spawn(id);
            }
            for id in cluster.ids() {
                cluster.wait_ready(id);
            }
        }
        load.wait_for(20);
    });
    assert_complete(&cluster, &last);
}

#[test]
fn a_retry_on_another_node_gets_the_first_outcome() {
    let mut cluster = Plan::nodes(3).start();
    let body = settlement(7, 70);
    let ask = |cluster: &Cluster, node: u64, body: &Value| {
        Request::post(&cluster.api(node), "balancing.addSettlement", body)
            .key("the same key")
            .send()
            .expect("an answer")
    };
    let first = ask(&cluster, 1, &body).ok();
    for node in [2, 3, 1] {
        assert_eq!(
            ask(&cluster, node, &body).ok()["statement"],
            first["statement"],
            "node {node}"
        );
    }
    let leader = cluster.leader(&[1, 2, 3]);
    cluster.kill9(leader);
    let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
    let again = cluster
        .persist(&others, "balancing.addSettlement", &body, "the same key")
        .ok();
    assert_eq!(again["statement"], first["statement"], "after the leader's death");
    cluster.restart(leader);
    assert_eq!(energies(&cluster, leader, 7), [70]);

    // The same key for something else is refused, wherever it arrives.
    let other = ask(&cluster, others[0], &settlement(7, 71));
    assert_eq!(
        (other.status, other.code()),
        (409, "nonce_reused"),
        "{}",
        other.body
    );
}

#[test]
fn a_graceful_shutdown_hands_leadership_over_before_it_ends() {
    let mut cluster = Plan::nodes(3)
        .options("[timing]\nelection_min_ms = 20000\nelection_max_ms = 30000\n")
        .start();
    let leader = cluster.leader(&[1, 2, 3]);
    let term = cluster.status(leader).expect("a status")["term"]
        .as_u64()
        .expect("a term");
    assert!(
        cluster.terminate(leader).success(),
        "a graceful end is exit code 0"
    );
    // No election could have come by itself within 20 s: leadership was handed over.
    let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
    let next = eventually("another leads", Duration::from_secs(10), || {
        let status = cluster.status(others[0])?;
        status["leader"].as_u64().filter(|leader| others.contains(leader))
    });
    assert!(cluster.status(next).expect("a status")["term"].as_u64() > Some(term));
    cluster.ok(next, "balancing.addSettlement", &settlement(1, 1));
}
