//! Clients: a seeded community that settles, trades, seals and corrects through whichever node it finds.
//!
//! Several clients work at once, on the same assets and epochs, so that they seal what others seal and report what is
//! late by the time it arrives. Each operation carries an idempotency key; without an answer it is tried again
//! through other nodes, a few times, and then its outcome stays unknown. Some answered ones are sent again on
//! purpose: the answer must be the same.
//!
//! When the faults are over, [`run`] asks of the cluster what SPEC promises of a healthy one: that every node takes
//! writes, that everything can be sealed, that every block is certified; and notes what each node then shows.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use checkers::history::{History, Operation, Outcome, Read, Repeat, Reported, SealSeen, Shown};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clock::Time;
use crate::host::{Machine, Program};
use crate::http::{Answer, Http, Silence};
use crate::rng::{PerMillion, Rng};
use crate::timeline::{self, Attempt, Heard, What};
use crate::trace;

/// The first epoch that is settled.
const FIRST_EPOCH: u64 = 1_000;
/// Virtual milliseconds after which clients go on to the next epoch.
const EPOCH_EVERY_MS: u64 = 2_000;
/// Takes part in no settlement.
const ROOT: &str = "eaf_generic_balancegroup";
/// Epochs back that clients still report for.
const LATE_EPOCHS: u64 = 3;
/// Attempts at an operation.
const ATTEMPTS: usize = 6;
/// `timing.request_ms` of the simulated cluster (the default), and a little for what is on its way.
const PATIENCE: Duration = Duration::from_secs(12);
/// What a healthy cluster may take for one of the final questions.
const HEALTHY: Duration = Duration::from_secs(10);

/// How the clients behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// How many nodes there are to talk to.
    pub nodes: u64,
    /// How many clients work at once.
    pub clients: u64,
    /// Virtual milliseconds until they end their work.
    pub until_ms: u64,
    /// How often they do what.
    pub mix: Mix,
    /// Operations, by their key, that are left out: what a smaller run with the same failure does without.
    pub mute: BTreeSet<String>,
    /// Nodes that may be beyond repair when the faults are over, so that nothing is asked of them then.
    pub excused: BTreeSet<u64>,
    /// A node that is to join while they work.
    pub joiner: Option<crate::admin::Joiner>,
}

/// How often clients do what, as weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Settlements, alone and in batches.
    pub settle: u64,
    /// Seals of one asset.
    pub seal: u64,
    /// Seals of a whole epoch.
    pub seal_epoch: u64,
    /// Corrections.
    pub correct: u64,
    /// Changes of contracts.
    pub trade: u64,
    /// Reads of journals.
    pub read: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Mix {
            settle: 50,
            seal: 10,
            seal_epoch: 15,
            correct: 7,
            trade: 6,
            read: 12,
        }
    }
}

impl Mix {
    /// Draws what is done next: the place of it among the fields.
    fn draw(&self, rng: &mut Rng) -> usize {
        let weights = [
            self.settle,
            self.seal,
            self.seal_epoch,
            self.correct,
            self.trade,
            self.read,
        ];
        let mut n = rng.below(weights.iter().sum());
        let place = weights.iter().position(|weight| {
            let here = n < *weight;
            n = n.saturating_sub(*weight);
            here
        });
        place.unwrap_or(0)
    }
}

/// The clients' machine: all of them in one process.
pub fn program(options: Options, history: Arc<Mutex<History>>) -> Program {
    Rc::new(move |machine: Machine| {
        let gateway = crate::cluster::key(options.seed, "gateway", 0);
        Box::pin(run(
            options.clone(),
            gateway,
            Arc::new(machine.network),
            machine.time,
            Arc::clone(&history),
        ))
    })
}

/// The clients' work and the final questions, over any network: a simulated one, or TCP. `gateway` is the key of the
/// cluster's gateways, which a rogue client has got hold of.
///
/// # Errors
/// One of the final questions got no answer, or the wrong one.
pub async fn run(
    options: Options,
    gateway: ed25519_dalek::SigningKey,
    network: Arc<dyn raft::Network>,
    time: Time,
    history: Arc<Mutex<History>>,
) -> Result<(), String> {
    let community = Arc::new(Community::draw(&mut Rng::fork(options.seed, "community")));
    let client = |name: &str| Client {
        name: name.to_owned(),
        rng: Rng::fork(options.seed, &format!("client {name}")),
        http: Http::new(Arc::clone(&network)),
        time: time.clone(),
        nodes: options.nodes,
        mix: options.mix,
        mute: options.mute.clone(),
        excused: options.excused.clone(),
        community: Arc::clone(&community),
        history: Arc::clone(&history),
        made: 0,
    };
    let phase = |what: &str| history.lock().phase = what.to_owned();

    phase("found the community");
    client("founder").found().await;
    phase("work");
    let working = (1..=options.clients).map(|n| client(&format!("c{n}")).work(options.until_ms));
    let rogue = crate::rogue::Rogue {
        rng: Rng::fork(options.seed, "rogue"),
        http: Http::new(Arc::clone(&network)),
        time: time.clone(),
        nodes: options.nodes,
        gateway: gateway.clone(),
        history: Arc::clone(&history),
    };
    let administrating = async {
        if let Some(joiner) = options.joiner.clone() {
            let admin = crate::admin::Admin {
                rng: Rng::fork(options.seed, "admin"),
                http: Http::new(Arc::clone(&network)),
                time: time.clone(),
                nodes: options.nodes,
                key: gateway,
                joiner,
            };
            admin.work().await;
        }
    };
    futures::join!(
        futures::future::join_all(working),
        rogue.work(options.until_ms),
        administrating
    );

    let mut judge = client("judge");
    phase("every node takes a write");
    judge.write_everywhere().await?;
    phase("everything can be sealed");
    judge.seal_everything().await?;
    phase("every block is certified on every node");
    judge.await_certificates().await;
    // What a client gave up is offered on by the node that has it, for as long as a request may take: only then
    // does nothing change any more, and nodes that are looked at one after the other can be compared.
    tokio::time::sleep(PATIENCE).await;
    phase("every node shows the same");
    judge.look_everywhere().await?;
    phase("done");
    Ok(())
}

/// Who there is and who trades with whom.
struct Community {
    meters: Vec<Member>,
    /// Balancing groups and meters: all that can be sealed, downstream first.
    assets: Vec<String>,
    /// Parameters of `asset.upsert`, upstreams first.
    upserts: Vec<Value>,
    /// Parameters of `contract.add`.
    contracts: Vec<Value>,
}

struct Member {
    id: String,
    /// It mostly produces.
    produces: bool,
}

impl Community {
    /// Two streets below one district; in each some producers and consumers, who trade with each other.
    fn draw(rng: &mut Rng) -> Self {
        let mut community = Community {
            meters: Vec::new(),
            assets: Vec::new(),
            upserts: vec![json!({"assetId": "district", "type": "balance"})],
            contracts: Vec::new(),
        };
        for street in ["east", "west"] {
            community.upserts.push(json!({
                "assetId": street, "type": "balance", "balancerule": {"from": "district", "to": "district"},
            }));
            for n in 0..rng.within(3..=5) {
                let produces = n == 0 || rng.chance(PerMillion::percent(30));
                let id = format!("{street}-{}{n}", if produces { "pv" } else { "home" });
                // A rule of one side only leaves the other to the root.
                let rule = match rng.below(4) {
                    0 if produces => json!({"to": street}),
                    0 => json!({"from": street}),
                    _ => json!({"from": street, "to": street}),
                };
                community
                    .upserts
                    .push(json!({"assetId": id, "type": "meter", "balancerule": rule}));
                community.meters.push(Member { id, produces });
            }
        }
        community
            .assets
            .extend(community.meters.iter().map(|meter| meter.id.clone()));
        community
            .assets
            .extend(["east", "west", "district"].map(str::to_owned));
        for n in 0..rng.within(4..=8) {
            // The order of their names is not that in which they come.
            let contract = community.draw_contract(rng, (7 * n + 3) % 10);
            community.contracts.extend(contract);
        }
        community
    }

    fn draw_contract(&self, rng: &mut Rng, n: u64) -> Option<Value> {
        // Some owners have several, which compete.
        let several = rng.chance(PerMillion::percent(50));
        let owner = if several {
            &self.meters[0]
        } else {
            rng.pick(&self.meters)
        };
        let partner = rng.pick(&self.meters);
        if owner.id == partner.id {
            return None;
        }
        let mut contract = json!({
            "contractId": format!("ppa-{n}"),
            "assetId": owner.id,
            "partnerId": partner.id,
            "direction": if owner.produces { "to" } else { "from" },
            "energy": rng.within(50..=2_000),
            "priority": rng.within(1..=3),
            "delivery": rng.pick(&["as_available", "matched", "firm"]),
            "price": rng.within(0..=300_000),
        });
        if rng.chance(PerMillion::percent(25)) {
            contract["load_min"] = json!(rng.within(0..=200));
        }
        if rng.chance(PerMillion::percent(25)) {
            contract["energy_total"] = json!(rng.within(100..=5_000));
        }
        if rng.chance(PerMillion::percent(25)) {
            contract["valid_until"] = json!(FIRST_EPOCH + rng.within(2..=10));
        }
        Some(contract)
    }
}

struct Client {
    name: String,
    rng: Rng,
    http: Http,
    time: Time,
    nodes: u64,
    mix: Mix,
    mute: BTreeSet<String>,
    excused: BTreeSet<u64>,
    community: Arc<Community>,
    history: Arc<Mutex<History>>,
    made: u64,
}

impl Client {
    fn epoch(&self) -> u64 {
        FIRST_EPOCH + self.time.now_ms() / EPOCH_EVERY_MS
    }

    /// The nodes of which everything may be asked when the faults are over.
    fn healthy(&self) -> Vec<u64> {
        (1..=self.nodes)
            .filter(|node| !self.excused.contains(node))
            .collect()
    }

    fn any_node(&mut self) -> u64 {
        self.rng.within(1..=self.nodes)
    }

    async fn pause(&mut self, ms: std::ops::RangeInclusive<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.within(ms))).await;
    }

    /// Sets the community up, however long it takes.
    async fn found(&mut self) {
        let community = Arc::clone(&self.community);
        let upserts = community.upserts.iter().map(|body| ("asset.upsert", body));
        let contracts = community.contracts.iter().map(|body| ("contract.add", body));
        for (action, body) in upserts.chain(contracts) {
            while self.operate(action, body.clone(), Vec::new()).await == Outcome::Unknown {}
        }
    }

    /// Works until the time has come.
    async fn work(mut self, until_ms: u64) {
        while self.time.now_ms() < until_ms {
            self.pause(1..=60).await;
            match self.mix.draw(&mut self.rng) {
                0 => self.settle().await,
                1 => self.seal("balancing.seal").await,
                2 => self.seal_epoch().await,
                3 => self.seal("balancing.correct").await,
                4 => self.trade().await,
                _ => self.read().await,
            }
        }
    }

    /// One or more settlements, for now or for earlier.
    async fn settle(&mut self) {
        let count = if self.rng.chance(PerMillion::percent(40)) {
            1
        } else {
            self.rng.within(2..=12)
        };
        let mut settles = Vec::new();
        for n in 0..count {
            let community = Arc::clone(&self.community);
            let meter = self.rng.pick(&community.meters);
            // Little amounts divide badly, so that rounding shows.
            let most = *self.rng.pick(&[40, 300, 3_000]);
            let amount = i64::try_from(self.rng.within(0..=most)).unwrap_or(0);
            let usual = !self.rng.chance(PerMillion::percent(10));
            let back = self.rng.below(LATE_EPOCHS + 1);
            settles.push(Reported {
                meter: meter.id.clone(),
                epoch: self.epoch().saturating_sub(back),
                consumption: if meter.produces == usual { amount } else { -amount },
                label: format!("{}-{}-{n}", self.name, self.made),
            });
        }
        self.report(settles).await;
    }

    async fn report(&mut self, settles: Vec<Reported>) -> Outcome {
        let mut body: Vec<Value> = Vec::new();
        for s in &settles {
            // What a watt-hour carries differs from hour to hour, and is negative where some is stored.
            let co2 = i64::try_from(self.rng.below(500)).unwrap_or(0) - 50;
            body.push(json!({
                "meterId": s.meter, "epoch": s.epoch, "consumption": s.consumption, "label": s.label, "co2eq": co2,
            }));
        }
        if body.len() > 1 && self.rng.chance(PerMillion::percent(5)) {
            // The whole batch must be refused for this one.
            body.push(json!({"meterId": ROOT, "epoch": self.epoch(), "consumption": 1, "label": "no-meter"}));
        }
        match <[Value; 1]>::try_from(body) {
            Ok([one]) => self.operate("balancing.addSettlement", one, settles).await,
            Err(many) => {
                self.operate("balancing.addSettlements", Value::Array(many), settles)
                    .await
            }
        }
    }

    async fn seal(&mut self, action: &str) {
        let community = Arc::clone(&self.community);
        let asset = self.rng.pick(&community.assets);
        let back = self.rng.within(1..=LATE_EPOCHS + 1);
        let body = json!({"assetId": asset, "epoch": self.epoch().saturating_sub(back)});
        self.operate(action, body, Vec::new()).await;
    }

    async fn seal_epoch(&mut self) {
        let back = self.rng.within(2..=LATE_EPOCHS + 1);
        let mut body = json!({"epoch": self.epoch().saturating_sub(back)});
        if self.rng.chance(PerMillion::percent(30)) {
            body["under"] = json!(self.rng.pick(&["east", "west", "district"]));
        }
        self.operate("balancing.sealEpoch", body, Vec::new()).await;
    }

    /// Contracts come, pause, go on and go, and change places.
    async fn trade(&mut self) {
        let community = Arc::clone(&self.community);
        let any = |client: &mut Client| match community.contracts.is_empty() {
            true => Value::Null,
            false => client.rng.pick(&community.contracts)["contractId"].clone(),
        };
        match self.rng.below(5) {
            0 => {
                let n = 1_000 + self.rng.below(1_000_000);
                if let Some(body) = community.draw_contract(&mut self.rng, n) {
                    self.operate("contract.add", body, Vec::new()).await;
                }
            }
            1 => {
                let contract = any(self);
                self.operate("contract.suspend", json!({"contractId": contract}), Vec::new())
                    .await;
            }
            2 | 3 => {
                let contract = any(self);
                self.operate("contract.activate", json!({"contractId": contract}), Vec::new())
                    .await;
            }
            _ => {
                let contract = any(self);
                self.operate("contract.cancel", json!({"contractId": contract}), Vec::new())
                    .await;
            }
        }
    }

    /// A read of a journal, mostly a linearizable one.
    async fn read(&mut self) {
        let community = Arc::clone(&self.community);
        let asset = self.rng.pick(&community.meters).id.clone();
        let back = self.rng.below(LATE_EPOCHS + 1);
        let epoch = self.epoch().saturating_sub(back);
        let node = self.any_node();
        let asked_ms = self.time.now_ms();
        let local = self.rng.chance(PerMillion::percent(15));
        let mut body = json!({"assetId": asset, "epoch": epoch});
        if local {
            body["consistency"] = json!("local");
        }
        let answer = self
            .http
            .call(node, "balancing.journal", None, &body, Duration::from_secs(3))
            .await;
        let Ok(answer) = answer else { return };
        self.note_odd("balancing.journal", node, &answer);
        if answer.status != 200 {
            return;
        }
        let read = Read {
            local,
            ..read_journal(node, asset, epoch, asked_ms, self.time.now_ms(), &answer.body)
        };
        trace::record(format_args!(
            "reads {} of {epoch} at n{node}: {} statements",
            read.asset,
            read.labels.len()
        ));
        self.history.lock().reads.push(read);
    }

    /// An operation, tried until it is answered or patience ends.
    async fn operate(&mut self, action: &str, body: Value, settles: Vec<Reported>) -> Outcome {
        self.made += 1;
        let key = format!("{}-{}", self.name, self.made);
        let asked_ms = self.time.now_ms();
        if self.mute.contains(&key) {
            return Outcome::Unknown;
        }
        let mut outcome = Outcome::Unknown;
        let mut node = self.any_node();
        for attempt in 0..ATTEMPTS {
            let patience = Duration::from_millis(*self.rng.pick(&[50, 300, 1_000, 5_000]));
            trace::record(format_args!("{key} asks n{node} {action} {body}"));
            let sent_ms = self.time.now_ms();
            let answer = self.http.call(node, action, Some(&key), &body, patience).await;
            draw_attempt(&key, node, action, sent_ms, &answer);
            match answer {
                Ok(answer) => {
                    trace::record(format_args!(
                        "{key} hears {} {}",
                        answer.status,
                        stable(&answer.body)
                    ));
                    self.note_odd(action, node, &answer);
                    outcome = judge(&answer);
                    if outcome != Outcome::Unknown {
                        self.note_seals(node, &answer.body);
                        if attempt > 0 {
                            self.history.lock().count("answered by a retry");
                        }
                        if self.rng.chance(PerMillion::percent(10)) {
                            self.repeat(action, &key, &body, &answer).await;
                        }
                        break;
                    }
                }
                Err(silence) => {
                    trace::record(format_args!("{key} hears nothing: {silence:?}"));
                    if silence == Silence::Deadline {
                        self.history.lock().count("requests without an answer");
                    }
                }
            }
            self.pause(10..=400).await;
            node = self.any_node();
        }
        let mut history = self.history.lock();
        history.count(match &outcome {
            Outcome::Done(_) => "done",
            Outcome::Refused(..) => "refused",
            Outcome::Unknown => "unknown",
        });
        history.operations.push(Operation {
            key,
            action: action.to_owned(),
            body,
            settles,
            asked_ms,
            ended_ms: self.time.now_ms(),
            outcome: outcome.clone(),
        });
        outcome
    }

    /// Sends an answered operation again, elsewhere: nothing may happen, and the answer must be the same.
    async fn repeat(&mut self, action: &str, key: &str, body: &Value, first: &Answer) {
        let node = self.any_node();
        let Ok(again) = self
            .http
            .call(node, action, Some(key), body, Duration::from_secs(2))
            .await
        else {
            return;
        };
        self.note_odd(action, node, &again);
        if judge(&again) == Outcome::Unknown {
            return;
        }
        let mut history = self.history.lock();
        history.count("repeated");
        history.repeats.push(Repeat {
            key: key.to_owned(),
            at_ms: self.time.now_ms(),
            node,
            first: (first.status, stable(&first.body)),
            again: (again.status, stable(&again.body)),
        });
    }

    /// Notes answers that no node should give.
    fn note_odd(&self, action: &str, node: u64, answer: &Answer) {
        let allowed = match answer.status {
            200 => true,
            503 | 504 => !answer.body["error"]["code"].is_null(),
            400..500 => !answer.body["error"]["code"].is_null() && !answer.body["error"]["message"].is_null(),
            _ => false,
        };
        if !allowed {
            let what = format!("n{node} answers {action} with {} {}", answer.status, answer.body);
            self.history.lock().oddities.push((self.time.now_ms(), what));
        }
    }

    /// Notes every seal that an answer speaks of.
    fn note_seals(&self, node: u64, body: &Value) {
        let one = |seal: &Value| {
            Some(SealSeen {
                at_ms: self.time.now_ms(),
                node,
                asset: seal["assetId"].as_str()?.to_owned(),
                epoch: seal["epoch"].as_u64()?,
                version: seal["version"].as_u64()?,
                digest: seal["digest"].as_str()?.to_owned(),
            })
        };
        let all = body["seals"].as_array().into_iter().flatten();
        let seals: Vec<SealSeen> = one(body).into_iter().chain(all.filter_map(one)).collect();
        for seal in &seals {
            timeline::note(What::Sealed(seal.asset.clone(), seal.epoch, seal.version));
        }
        self.history.lock().seals.extend(seals);
    }

    /// Asks a healthy node, again if it is not quite healthy yet.
    async fn insist(
        &mut self,
        node: u64,
        action: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Result<Answer, String> {
        let give_up = tokio::time::Instant::now() + 2 * HEALTHY;
        loop {
            let answer = self.http.call(node, action, key, body, HEALTHY).await;
            match answer {
                Ok(answer) if judge(&answer) != Outcome::Unknown => {
                    self.note_odd(action, node, &answer);
                    return Ok(answer);
                }
                _ if tokio::time::Instant::now() < give_up => self.pause(50..=200).await,
                other => return Err(format!("n{node} has no answer to {action} {body}: {other:?}")),
            }
        }
    }

    async fn write_everywhere(&mut self) -> Result<(), String> {
        for node in self.healthy() {
            self.made += 1;
            let meter = self.community.meters[0].id.clone();
            let settled = Reported {
                meter,
                epoch: self.epoch(),
                consumption: 1,
                label: format!("judge-{node}"),
            };
            let body = json!({
                "meterId": settled.meter, "epoch": settled.epoch, "consumption": 1, "label": settled.label,
            });
            let asked_ms = self.time.now_ms();
            let key = format!("judge-{}", self.made);
            let answer = self
                .insist(node, "balancing.addSettlement", &body, Some(&key))
                .await?;
            self.history.lock().operations.push(Operation {
                key,
                action: "balancing.addSettlement".into(),
                body,
                settles: vec![settled],
                asked_ms,
                ended_ms: self.time.now_ms(),
                outcome: judge(&answer),
            });
        }
        Ok(())
    }

    async fn seal_everything(&mut self) -> Result<(), String> {
        for epoch in FIRST_EPOCH - LATE_EPOCHS..=self.epoch() {
            self.made += 1;
            let key = format!("judge-{}", self.made);
            let healthy = self.healthy();
            let node = *self.rng.pick(&healthy);
            let answer = self
                .insist(node, "balancing.sealEpoch", &json!({"epoch": epoch}), Some(&key))
                .await?;
            self.note_seals(node, &answer.body);
            let held = answer.body["held"].as_array().map_or(0, Vec::len);
            if answer.status != 200 || held != 0 {
                return Err(format!(
                    "epoch {epoch} can't be sealed: {} {}",
                    answer.status, answer.body
                ));
            }
        }
        Ok(())
    }

    /// Waits, without a bound of its own, until every node shows every block certified.
    async fn await_certificates(&mut self) {
        for node in self.healthy() {
            while !matches!(self.blocks(node).await, Ok(blocks) if blocks.iter().all(|block| block["certified"] == true))
            {
                self.pause(50..=100).await;
            }
        }
    }

    async fn blocks(&mut self, node: u64) -> Result<Vec<Value>, String> {
        let mut blocks = Vec::new();
        let mut from = 0;
        loop {
            let body = json!({"from": from, "limit": 500});
            let page = self.insist(node, "cluster.blocks", &body, None).await?;
            let Value::Array(page) = page.body else {
                return Err(format!("n{node} shows no blocks"));
            };
            let Some(last) = page.last().and_then(|block| block["index"].as_u64()) else {
                return Ok(blocks);
            };
            blocks.extend(page);
            from = last + 1;
        }
    }

    /// Notes all that every node shows.
    async fn look_everywhere(&mut self) -> Result<(), String> {
        let community = Arc::clone(&self.community);
        let sealed: BTreeSet<(String, u64, u64)> = self
            .history
            .lock()
            .seals
            .iter()
            .map(|seal| (seal.asset.clone(), seal.epoch, seal.version))
            .collect();
        let healthy = self.healthy();
        for node in healthy {
            let mut shown = Shown {
                status: self.insist(node, "cluster.status", &json!({}), None).await?.body,
                blocks: self.blocks(node).await?,
                ..Shown::default()
            };
            if let Value::Array(all) = self.insist(node, "contract.list", &json!({}), None).await?.body {
                shown.contracts = all;
            }
            for epoch in FIRST_EPOCH - LATE_EPOCHS..=self.epoch() {
                for asset in &community.assets {
                    let body = json!({"assetId": asset, "epoch": epoch});
                    let journal = self.insist(node, "balancing.journal", &body, None).await?;
                    shown.journals.insert((asset.clone(), epoch), journal.body);
                }
            }
            // Every node has proofs of some of the seals to show; all of them would take most of the run.
            let healthy = self.healthy();
            let place = healthy.iter().position(|other| *other == node).unwrap_or(0) as u64;
            let nodes = healthy.len() as u64;
            for (asset, epoch, version) in sealed.iter().filter(|(_, epoch, _)| epoch % nodes == place) {
                let body = json!({"assetId": asset, "epoch": epoch, "version": version});
                let proof = self.insist(node, "balancing.proof", &body, None).await?;
                shown.proofs.insert((asset.clone(), *epoch, *version), proof.body);
            }
            self.history.lock().shown.insert(node, shown);
        }
        Ok(())
    }
}

/// Notes a request for the timeline.
fn draw_attempt(key: &str, node: u64, action: &str, asked_ms: u64, answer: &Result<Answer, Silence>) {
    let heard = match answer {
        Err(_) => Heard::Silence,
        Ok(answer) => match judge(answer) {
            Outcome::Done(_) => Heard::Done,
            Outcome::Refused(status, code) => Heard::Refused(status, code),
            Outcome::Unknown => Heard::Unsure(answer.status),
        },
    };
    timeline::note(What::Attempt(Attempt {
        key: key.to_owned(),
        node,
        action: action.to_owned(),
        asked_ms,
        heard,
    }));
}

/// What an answer says of the outcome. Silence and its likes say nothing.
fn judge(answer: &Answer) -> Outcome {
    match answer.status {
        200 => Outcome::Done(answer.body.clone()),
        // Too much under way: this attempt did nothing, but an earlier one may have.
        429 => Outcome::Unknown,
        400..500 => {
            let code = answer.body["error"]["code"].as_str().unwrap_or("none");
            Outcome::Refused(answer.status, code.to_owned())
        }
        _ => Outcome::Unknown,
    }
}

/// An answer without what may differ between two nodes that say the same: who signed the convenience token, and
/// what time it is.
fn stable(body: &Value) -> Value {
    match body {
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "seal" | "now"));
            kept.map(|(name, value)| (name.clone(), stable(value))).collect()
        }
        Value::Array(items) => items.iter().map(stable).collect(),
        other => other.clone(),
    }
}

fn read_journal(node: u64, asset: String, epoch: u64, asked_ms: u64, answered_ms: u64, body: &Value) -> Read {
    let statements = body["statements"].as_array().cloned().unwrap_or_default();
    let watermark = body["watermark"].as_u64().unwrap_or(0);
    let metered = statements.iter().filter(|s| s["kind"] == "metered");
    Read {
        node,
        local: false,
        asset,
        epoch,
        asked_ms,
        answered_ms,
        labels: metered
            .filter_map(|s| s["label"].as_str().map(str::to_owned))
            .collect(),
        watermark,
        sealed: statements
            .iter()
            .take(usize::try_from(watermark).unwrap_or(usize::MAX))
            .cloned()
            .collect(),
    }
}
