//! What the nodes say of themselves, again and again: who leads, how far they are, whether they agree.
//!
//! The checks here are those that need no client: at one log index all nodes have one state, terms only grow, and
//! nobody raises an alarm.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use checkers::Violation;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::nodes::Nodes;
use crate::clock::Time;
use crate::http::Http;

/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(100);
/// A node that says nothing for so long is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// States that are remembered; nodes are never further apart, snapshots aside.
const REMEMBERED: usize = 100_000;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The ledger's running digest at each log index at which a node was seen, and by whom.
    states: BTreeMap<u64, (u64, String)>,
    /// The newest term, and who leads in it.
    leader: Option<(u64, Option<u64>)>,
    /// Each node's newest term.
    terms: BTreeMap<u64, u64>,
    /// Terms in which somebody was seen to lead.
    pub(super) reigns: u64,
    /// Answers.
    pub(super) looks: u64,
    /// What broke a promise.
    pub(super) violations: Vec<Violation>,
}

impl Seen {
    /// Who leads, as far as anyone says.
    pub(super) fn leader(&self) -> Option<u64> {
        self.leader.and_then(|(_, leader)| leader)
    }

    /// Takes in what a node answers to `cluster.status`.
    fn look(&mut self, at_ms: u64, node: u64, status: &Value) {
        let mut violate = |checker, what| {
            // The first few say it all.
            if self.violations.len() < 20 {
                self.violations.push(Violation { at_ms, checker, what });
            }
        };
        self.looks += 1;
        if let (Some(applied), Some(state)) = (status["applied"].as_u64(), status["state"].as_str()) {
            let (first, known) = self
                .states
                .entry(applied)
                .or_insert_with(|| (node, state.to_owned()));
            if known != state {
                violate(
                    "agreement",
                    format!("at {applied} the state of n{node} is {state}, that of n{first} {known}"),
                );
            }
            if self.states.len() > REMEMBERED {
                self.states.pop_first();
            }
        }
        if let Some(alarms) = status["alarms"].as_array().filter(|alarms| !alarms.is_empty()) {
            violate("alarm", format!("n{node} raises {alarms:?}"));
        }
        let Some(term) = status["term"].as_u64() else {
            return;
        };
        if self.terms.insert(node, term).is_some_and(|before| before > term) {
            violate("monotonic", format!("n{node} went back to term {term}"));
        }
        let leader = status["leader"].as_u64();
        match self.leader {
            Some((newest, known)) if newest > term || (newest == term && known.is_some()) => {
                if newest == term && leader.is_some() && leader != known {
                    violate(
                        "election safety",
                        format!("term {term} has two leaders: {known:?}, and n{node} says {leader:?}"),
                    );
                }
            }
            _ => {
                self.reigns += u64::from(leader.is_some());
                self.leader = Some((term, leader));
            }
        }
    }
}

/// Looks at all nodes.
pub(super) struct Watch {
    network: Arc<dyn raft::Network>,
    time: Time,
    nodes: u64,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    pub(super) fn new(network: Arc<dyn raft::Network>, time: Time, nodes: u64) -> Self {
        Watch {
            network,
            time,
            nodes,
            seen: Arc::default(),
        }
    }

    pub(super) fn seen(&self) -> Arc<Mutex<Seen>> {
        Arc::clone(&self.seen)
    }

    /// Waits until every node knows a leader.
    ///
    /// # Errors
    /// One ends, or it takes longer than `patience`.
    pub(super) async fn ready(&self, nodes: &mut Nodes, patience: Duration) -> io::Result<()> {
        let mut http = Http::new(Arc::clone(&self.network));
        let give_up = tokio::time::Instant::now() + patience;
        for id in nodes.ids() {
            loop {
                if let Some(how) = nodes.ended(id) {
                    return Err(io::Error::other(format!(
                        "n{id} ended ({how}): {}",
                        nodes.last_words(id)
                    )));
                }
                let status = http.call(id, "cluster.status", None, &json!({}), PATIENCE).await;
                if status
                    .as_ref()
                    .is_ok_and(|answer| answer.status == 200 && answer.body["leader"].is_u64())
                {
                    break;
                }
                if tokio::time::Instant::now() > give_up {
                    let what = format!("n{id} is not ready after {} s: {status:?}", patience.as_secs());
                    return Err(io::Error::other(what));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Looks, for ever.
    pub(super) async fn look(&self) {
        futures::future::join_all((1..=self.nodes).map(|node| self.look_at(node))).await;
    }

    async fn look_at(&self, node: u64) {
        let mut http = Http::new(Arc::clone(&self.network));
        loop {
            if let Ok(answer) = http
                .call(node, "cluster.status", None, &json!({}), PATIENCE)
                .await
                && answer.status == 200
            {
                self.seen.lock().look(self.time.now_ms(), node, &answer.body);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(term: u64, leader: u64, applied: u64, state: &str) -> Value {
        json!({"term": term, "leader": leader, "applied": applied, "state": state, "alarms": []})
    }

    fn broken(looks: &[(u64, Value)]) -> Vec<&'static str> {
        let mut seen = Seen::default();
        for (node, status) in looks {
            seen.look(0, *node, status);
        }
        seen.violations
            .iter()
            .map(|violation| violation.checker)
            .collect()
    }

    #[test]
    fn nodes_that_agree_break_nothing_and_the_newest_term_says_who_leads() {
        let mut seen = Seen::default();
        seen.look(1, 1, &status(1, 1, 5, "a"));
        seen.look(2, 2, &status(1, 1, 5, "a"));
        seen.look(3, 3, &status(2, 3, 6, "b"));
        seen.look(4, 2, &status(1, 1, 6, "b"));
        assert!(seen.violations.is_empty(), "{:?}", seen.violations);
        assert_eq!((seen.leader(), seen.reigns), (Some(3), 2));
    }

    #[test]
    fn what_breaks_a_promise_is_named() {
        assert_eq!(
            broken(&[(1, status(1, 1, 5, "a")), (2, status(1, 1, 5, "b"))]),
            ["agreement"]
        );
        assert_eq!(
            broken(&[(1, status(1, 1, 5, "a")), (2, status(1, 2, 5, "a"))]),
            ["election safety"]
        );
        assert_eq!(
            broken(&[(1, status(2, 1, 5, "a")), (1, status(1, 1, 6, "b"))]),
            ["monotonic"]
        );
        let mut alarmed = status(1, 1, 5, "a");
        alarmed["alarms"] = json!(["digest differs"]);
        assert_eq!(broken(&[(1, alarmed)]), ["alarm"]);
    }
}
