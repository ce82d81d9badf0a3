//! An administrator, who carries out the plan's orders while clients work: one after the other, each when its time has
//! come and the one before is answered.
//!
//! What changes the membership or a key is an action in the log, asked for through any node until it is answered. What
//! concerns one node only, a transfer or a snapshot, is an order to that node and is given up after a few attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use gridseal::gateway::sign_envelope;
use gridseal::order::{self, Order, Task};
use ledger::canonical::Canonical as _;
use ledger::{Action, Digest, Signature, Timestamp, jws};
use serde_json::{Value, json};

use crate::clock::{EPOCH_MS, Time};
use crate::cluster::{node_key, peer, public};
use crate::faults::Fault;
use crate::http::{Answer, Http};
use crate::rng::{PerMillion, Rng};
use crate::timeline::{self, What};
use crate::trace;
use crate::workload::roster;
use checkers::history::History;

/// An envelope's life, in milliseconds.
const LIFE_MS: u64 = 600_000;
/// A node that is none.
const STRANGER: u64 = 99;
/// Which of a node's keys nobody has ever used.
const OTHER_KEY: u64 = 1_000;
/// Attempts at an order to one node.
const ATTEMPTS: usize = 3;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What an administrator is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The cluster.
    pub cluster: Digest,
    /// Whose keys the cluster has.
    pub seed: u64,
    /// What to do, and when in virtual milliseconds.
    pub orders: Vec<(u64, Fault)>,
}

/// The administrator.
pub struct Admin {
    /// Decides whom it asks.
    pub rng: Rng,
    /// How it asks.
    pub http: Http,
    /// True time.
    pub time: Time,
    /// Signs what it asks.
    pub key: SigningKey,
    /// What it does.
    pub told: Told,
    /// Whom it can ask.
    pub roster: roster::Shared,
    /// Where it counts.
    pub history: std::sync::Arc<parking_lot::Mutex<History>>,
}

impl Admin {
    /// Carries out all orders.
    pub async fn work(&mut self) {
        let mut renewed = BTreeMap::new();
        for (at, order) in self.told.orders.clone() {
            let wait = at.saturating_sub(self.time.now_ms());
            tokio::time::sleep(Duration::from_millis(wait)).await;
            match order {
                Fault::Join(node) => {
                    let action = Action::RegisterNode {
                        node,
                        key: public(&node_key(self.told.seed, node, 0)),
                        peer: Some(peer(node)),
                    };
                    if self.say(action, "a node joined").await {
                        self.roster.lock().members.insert(node);
                    }
                }
                Fault::Promote(node) => {
                    let action = Action::PromoteNode { node };
                    self.say(action, "a learner was promoted").await;
                }
                Fault::Remove(node) => self.remove(node, "a node was removed").await,
                Fault::RemoveLeader => {
                    let leader = self.leader().await;
                    timeline::note(What::Removes(leader));
                    self.remove(leader, "the leader was removed").await;
                }
                Fault::RotateKey(node) => {
                    let times = renewed.entry(node).or_insert(0);
                    *times += 1;
                    let key = public(&node_key(self.told.seed, node, *times));
                    let action = Action::RegisterNode {
                        node,
                        key,
                        peer: None,
                    };
                    self.say(action, "a key was replaced").await;
                }
                Fault::Transfer(to) => self.transfer(to).await,
                Fault::Snapshot(node) => {
                    self.order(node, Task::Snapshot {}, "a snapshot was ordered")
                        .await;
                }
                // All else is no order.
                _ => {}
            }
            self.roster.lock().open -= 1;
        }
        for (action, what) in self.wrong_orders(&renewed) {
            if self.say(action, "an order that had to be refused").await {
                self.history.lock().oddities.push((self.time.now_ms(), what));
            }
        }
    }

    /// Has each of these nodes, which are well, take a snapshot and drop the log that it covers, once all else is over.
    ///
    /// # Errors
    /// One does not.
    pub async fn tidy(&mut self, nodes: Vec<u64>) -> Result<(), String> {
        for node in nodes {
            if !self
                .order(node, Task::Snapshot {}, "a snapshot was ordered")
                .await
            {
                return Err(format!("n{node} takes none"));
            }
        }
        // Answered is what is durable; what is dropped goes behind it.
        tokio::time::sleep(PATIENCE).await;
        Ok(())
    }

    /// Orders that must be refused, and what it means if one is not. `renewed` says how often nodes got another key.
    fn wrong_orders(&mut self, renewed: &BTreeMap<u64, u64>) -> Vec<(Action, String)> {
        let (first_keys, left) = {
            let roster = self.roster.lock();
            let members = roster.members.iter().copied();
            let first_keys: Vec<u64> = members.filter(|node| !renewed.contains_key(node)).collect();
            (first_keys, roster.left.first().copied())
        };
        let seed = self.told.seed;
        let registers = |node, key| Action::RegisterNode {
            node,
            key: public(&key),
            peer: None,
        };
        let mut wrong = Vec::new();
        for (&node, &times) in renewed {
            // However long ago it was taken away.
            let old = node_key(seed, node, self.rng.below(times));
            let what = format!("a key of n{node} that was taken away came back");
            wrong.push((registers(node, old), what));
        }
        if let Some(node) = left {
            let what = format!("n{node}, which was removed for good, came back");
            wrong.push((registers(node, node_key(seed, node, OTHER_KEY)), what));
        }
        if let [node, .., other] = first_keys[..] {
            let what = format!("n{node} got the key of n{other}");
            wrong.push((registers(node, node_key(seed, other, 0)), what));
        }
        let what = "a node that nobody registered got a vote".to_owned();
        wrong.push((Action::PromoteNode { node: STRANGER }, what));
        let what = "a node that nobody registered was removed".to_owned();
        wrong.push((Action::RevokeNode { node: STRANGER }, what));
        wrong
    }

    fn count(&self, what: &'static str) {
        self.history.lock().count(what);
    }

    async fn remove(&mut self, node: u64, counted: &'static str) {
        if self.say(Action::RevokeNode { node }, counted).await {
            let mut roster = self.roster.lock();
            roster.members.remove(&node);
            roster.left.insert(node);
        }
    }

    async fn transfer(&mut self, to: u64) {
        for _ in 0..ATTEMPTS {
            let leader = self.leader().await;
            if leader == to {
                return;
            }
            let counted = "leadership was handed over by order";
            if self.order(leader, Task::Transfer { to }, counted).await {
                return;
            }
        }
    }

    async fn pause(&mut self, ms: std::ops::RangeInclusive<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.within(ms))).await;
    }

    fn any_member(&mut self) -> u64 {
        let members: Vec<u64> = self.roster.lock().members.iter().copied().collect();
        *self.rng.pick(&members)
    }

    /// Whoever leads, by what the first member says that knows.
    async fn leader(&mut self) -> u64 {
        loop {
            let node = self.any_member();
            let answer = self
                .http
                .call(node, "cluster.status", None, &json!({}), PATIENCE)
                .await;
            if let Some(leader) = answer.ok().and_then(|answer| answer.body["leader"].as_u64()) {
                return leader;
            }
            self.pause(50..=500).await;
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO.plus(EPOCH_MS + self.time.now_ms())
    }

    /// Has an action done through the log, however long it takes; says whether it was not refused, and counts it then.
    async fn say(&mut self, action: Action, counted: &'static str) -> bool {
        trace::record(format_args!("the admin says {action:?}"));
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let envelope = sign_envelope(
            &self.key,
            self.told.cluster,
            nonce,
            self.now().plus(LIFE_MS),
            action,
        );
        let body = json!({"envelope": jws::base64url(&envelope.to_bytes())});
        loop {
            let node = self.any_member();
            // A refusal is an answer too; the checkers know whether it is the right one.
            match self.ask(node, "envelope.submit", &body).await {
                Some(Answer { status: 200, .. }) => {
                    self.count(counted);
                    return true;
                }
                // A node that lost its disk knows of no cluster; another one does.
                Some(Answer {
                    status: 403..=409,
                    body,
                    ..
                }) if body["error"]["code"] != "no_genesis" => return false,
                _ => self.pause(50..=500).await,
            }
        }
    }

    /// Gives an order to one node; says whether it is known to be carried out, and counts it then.
    async fn order(&mut self, node: u64, task: Task, counted: &'static str) -> bool {
        trace::record(format_args!("the admin orders n{node} {task:?}"));
        for _ in 0..ATTEMPTS {
            // The ledger's time, which runs as the leader's clock does; a minute ahead of it is too far.
            let status = self.ask(node, "cluster.status", &json!({})).await;
            let Some(now) = status.and_then(|answer| answer.now) else {
                self.pause(50..=500).await;
                continue;
            };
            let order = Order {
                cluster: self.told.cluster,
                node,
                order: task,
                not_after: Timestamp::ZERO.plus(now + order::LIFETIME_MS / 2),
                nonce: self.rng.next().to_string(),
            };
            let sign = |message: &[u8]| Signature(self.key.sign(message).to_bytes());
            let body = json!({ "order": order::issue(&order, &public(&self.key), sign) });
            if self.rng.chance(PerMillion::percent(20)) {
                self.misdirect(node, &body).await;
            }
            let starts = timeline::starts(node);
            match self.ask(node, "cluster.order", &body).await {
                Some(Answer { status: 200, .. }) => {
                    self.count(counted);
                    if self.rng.chance(PerMillion::percent(50)) {
                        self.repeat(node, &body, starts).await;
                    }
                    return true;
                }
                Some(Answer {
                    status: 403..=422, ..
                }) => return false,
                _ => self.pause(50..=500).await,
            }
        }
        false
    }

    /// Gives an order to a node that it is not meant for.
    async fn misdirect(&mut self, node: u64, body: &Value) {
        let other = self.any_member();
        if other == node {
            return;
        }
        let answer = self.ask(other, "cluster.order", body).await;
        if answer.is_some_and(|answer| answer.status == 200) {
            let what = format!("n{other} carried out an order to n{node}");
            self.history.lock().oddities.push((self.time.now_ms(), what));
        }
    }

    /// Gives an order again that was carried out. A process carries out none twice; the next one knows nothing of it.
    async fn repeat(&mut self, node: u64, body: &Value, starts: usize) {
        let answer = self.ask(node, "cluster.order", body).await;
        let carried_out = answer.is_some_and(|answer| answer.status == 200);
        if carried_out && timeline::starts(node) == starts {
            let what = format!("n{node} carried out an order twice");
            self.history.lock().oddities.push((self.time.now_ms(), what));
        }
    }

    async fn ask(&mut self, node: u64, action: &str, body: &Value) -> Option<Answer> {
        let answer = self.http.call(node, action, None, body, PATIENCE).await.ok();
        trace::record(format_args!("the admin hears {answer:?}"));
        answer
    }
}
