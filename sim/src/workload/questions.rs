//! The final questions: what the specification promises of a healthy cluster, asked when the faults are over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, judge};
use super::{FIRST_EPOCH, IDLE, LATE_EPOCHS, ROOT};
use crate::cluster::EPOCH_LENGTH_MS;
use crate::http::Answer;
use crate::rng::PerMillion;
use checkers::history::{Asked, History, Operation, Outcome, Reported, Shown};

/// What a healthy cluster may take for one of the final questions.
const HEALTHY: Duration = Duration::from_secs(10);
/// What a healthy cluster may take until its membership is what admins said.
const MEMBERSHIP: Duration = Duration::from_secs(20);

/// What the leader of a healthy cluster may take to seal what is due: it looks every two seconds.
const OWN_SEAL: Duration = Duration::from_secs(10);
/// And to try again what was held: it does after half a minute.
const OWN_HELD: Duration = Duration::from_secs(40);
/// An epoch that is long over by the ledger's time, like all of a run, and that nobody else has anything to do with.
const OWN_EPOCH: u64 = 500;

/// Values that come late when all is sealed, and stay.
const LATE: u64 = 5;

/// Blocks that are asked for at once.
const PAGE: usize = 50;

/// How often an epoch's seals may need approval anew: once for what each of few audited assets passes on to others.
const AUDITS: usize = 6;

impl Client {
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
                _ if tokio::time::Instant::now() < give_up && !self.roster.lock().halted.contains(&node) => {
                    self.pause(50..=200).await;
                }
                other => return Err(format!("n{node} has no answer to {action} {body}: {other:?}")),
            }
        }
    }

    /// Asks a healthy node for many things, some at a time: there may be tens of thousands.
    async fn insist_on_all(
        &mut self,
        node: u64,
        action: &str,
        bodies: Vec<Value>,
    ) -> Result<Vec<Value>, String> {
        let mut shown = Vec::with_capacity(bodies.len());
        for bodies in bodies.chunks(self.crowd.len()) {
            let calls = self.crowd.iter_mut().zip(bodies);
            let calls = calls.map(|(http, body)| http.call(node, action, None, body, HEALTHY));
            for (answer, body) in futures::future::join_all(calls).await.into_iter().zip(bodies) {
                let answer = match answer {
                    Ok(answer) if judge(&answer) != Outcome::Unknown => {
                        self.note_odd(action, node, &answer);
                        answer
                    }
                    _ => self.insist(node, action, body, None).await?,
                };
                shown.push(answer.body);
            }
        }
        Ok(shown)
    }

    /// Waits until whoever leads shows exactly the members that there should be.
    pub(super) async fn await_members(&mut self) -> Result<(), String> {
        let give_up = tokio::time::Instant::now() + MEMBERSHIP;
        let mut shown = Value::Null;
        while tokio::time::Instant::now() < give_up {
            let wanted = self.roster.lock().members.clone();
            let away = self.roster.lock().away;
            // One whose ledger is yet to compute wrongly may lead.
            for node in wanted.iter().copied().filter(|node| away != Some(*node)) {
                let status = self
                    .http
                    .call(node, "cluster.status", None, &json!({}), HEALTHY)
                    .await;
                let Ok(status) = status else { continue };
                let listed = |list: &str| status.body[list].as_array().cloned().unwrap_or_default();
                let members = [listed("voters"), listed("learners")].concat();
                let members: BTreeSet<u64> = members.iter().filter_map(Value::as_u64).collect();
                if status.body["leader"] == status.body["node"] && members == wanted {
                    return Ok(());
                }
                shown = status.body;
            }
            self.pause(50..=200).await;
        }
        let wanted = self.roster.lock().members.clone();
        Err(format!(
            "admins made {wanted:?} the members, and shown is {shown}"
        ))
    }

    pub(super) async fn write_everywhere(&mut self) -> Result<(), String> {
        let meter = self.community.meters[0].id.clone();
        for node in self.healthy() {
            let done = self.settle_once(node, &meter, self.epoch()).await;
            // It may have found out just now that it can't go on.
            if !self.roster.lock().halted.contains(&node) {
                done?;
            }
        }
        Ok(())
    }

    /// A settlement of the judge's own.
    async fn settle_once(&mut self, node: u64, meter: &str, epoch: u64) -> Result<(), String> {
        const ACTION: &str = "balancing.addSettlement";
        self.made += 1;
        let key = format!("judge-{}", self.made);
        let settled = Reported {
            meter: meter.to_owned(),
            epoch,
            consumption: 1,
            label: key.clone(),
        };
        let body = json!({"meterId": meter, "epoch": epoch, "consumption": 1, "label": key});
        let asked = self.moment();
        let answer = self.insist(node, ACTION, &body, Some(&key)).await?;
        let ended = self.moment();
        self.history.lock().operations.push(Operation {
            key,
            keyed: true,
            action: ACTION.into(),
            body,
            settles: vec![settled],
            asked,
            ended,
            outcome: judge(&answer),
            told: None,
        });
        Ok(())
    }

    pub(super) async fn seal_everything(&mut self) -> Result<(), String> {
        let community = Arc::clone(&self.community);
        for asset in &community.audited {
            // Whoever was to approve meanwhile: from here on it is the judge.
            let body = json!({"assetId": asset, "approvals": 1});
            self.insist_once("audit.setRule", &body).await?;
        }
        for epoch in FIRST_EPOCH - LATE_EPOCHS..=self.epoch() {
            let mut rounds = 0..AUDITS;
            loop {
                for asset in &community.audited {
                    let body = json!({"assetId": asset, "epoch": epoch});
                    self.insist_once("audit.approve", &body).await?;
                }
                let answer = self
                    .insist_once("balancing.sealEpoch", &json!({"epoch": epoch}))
                    .await?;
                let held = answer.body["held"].as_array().map_or(0, Vec::len);
                if answer.status == 200 && held == 0 {
                    break;
                }
                // A seal spends its approval, and what follows it in the same epoch needs another.
                let audited = !community.audited.is_empty() && answer.status == 200;
                if rounds.next().is_none() || !audited {
                    return Err(format!(
                        "epoch {epoch} can't be sealed: {} {}",
                        answer.status, answer.body
                    ));
                }
            }
        }
        Ok(())
    }

    /// An operation of the judge's own, at any healthy node.
    async fn insist_once(&mut self, action: &str, body: &Value) -> Result<Answer, String> {
        self.made += 1;
        let key = format!("judge-{}", self.made);
        let healthy = self.healthy();
        let node = *self.rng.pick(&healthy);
        let answer = self.insist(node, action, body, Some(&key)).await?;
        self.note_seals(node, &answer.body);
        Ok(answer)
    }

    /// Something comes late for what is sealed, and stays open: a node can be asked for it.
    pub(super) async fn leave_late(&mut self) -> Result<(), String> {
        let community = Arc::clone(&self.community);
        for _ in 0..LATE {
            let meter = self.rng.pick(&community.meters).id.clone();
            let epoch = FIRST_EPOCH + self.rng.below(LATE_EPOCHS);
            self.settle_anywhere(&meter, epoch).await?;
        }
        Ok(())
    }

    /// Waits, without a bound of its own, until every node shows every block certified.
    pub(super) async fn await_certificates(&mut self) {
        for node in self.healthy() {
            while !matches!(self.blocks(node).await, Ok(blocks) if blocks.iter().all(|block| block["certified"] == true))
            {
                self.pause(50..=100).await;
            }
        }
    }

    async fn blocks(&mut self, node: u64) -> Result<Vec<Value>, String> {
        let mut blocks: Vec<Value> = Vec::new();
        loop {
            // Each page begins with the last block of the one before.
            let last = blocks.pop();
            let from = last
                .as_ref()
                .map_or(0, |block| block["index"].as_u64().unwrap_or(0));
            let body = json!({"from": from, "limit": PAGE});
            let page = self.insist(node, "cluster.blocks", &body, None).await?;
            let Value::Array(page) = page.body else {
                return Err(format!("n{node} shows no blocks"));
            };
            if let Some(last) = last
                && page.first().is_none_or(|first| first["index"] != last["index"])
            {
                return Err(format!("n{node} shows no block {from} from there on"));
            }
            let full = page.len() == PAGE;
            blocks.extend(page);
            if !full {
                return Ok(blocks);
            }
        }
    }

    /// Settles in epochs that are over, and waits until the leader has sealed each; and in some that are not, or of which the grace is
    /// not, which it must leave open.
    pub(super) async fn await_own_seals(&mut self, grace_epochs: u64) -> Result<(), String> {
        // Below which there is nothing, and which nobody must approve.
        let (meter, waits) = ("sealed-by-itself", "not-over");
        let now = self.ledger_ms().await?;
        let newest = now / EPOCH_LENGTH_MS;
        let not_over = BTreeSet::from([newest - grace_epochs, newest]);
        for epoch in &not_over {
            self.settle_anywhere(waits, *epoch).await?;
        }
        for epoch in [OWN_EPOCH, OWN_EPOCH + 1] {
            self.settle_anywhere(meter, epoch).await?;
            self.await_own_seal(meter, epoch, OWN_SEAL).await?;
        }
        // What is held keeps nothing older from being sealed, and is tried again.
        let (audited, held, older) = ("sealed-when-approved", OWN_EPOCH + 3, OWN_EPOCH + 2);
        self.insist_once("asset.upsert", &json!({"assetId": audited}))
            .await?;
        let rule = json!({"assetId": audited, "approvals": 1});
        self.insist_once("audit.setRule", &rule).await?;
        self.settle_anywhere(audited, held).await?;
        self.settle_anywhere(meter, older).await?;
        self.await_own_seal(meter, older, OWN_SEAL).await?;
        let place = json!({"assetId": audited, "epoch": held});
        self.insist_once("audit.approve", &place).await?;
        self.await_own_seal(audited, held, OWN_HELD).await?;
        for epoch in not_over {
            let (_, journal) = self.sealed_of(waits, epoch).await?;
            let due_ms = (epoch + 1 + grace_epochs) * EPOCH_LENGTH_MS;
            if journal["watermark"] != 0 && self.ledger_ms().await? < due_ms {
                return Err(format!(
                    "somebody sealed {waits} in {epoch}, which is not over: {journal}"
                ));
            }
        }
        self.history.lock().count("an epoch sealed by the leader itself");
        Ok(())
    }

    /// The ledger's time, as some healthy node knows it.
    async fn ledger_ms(&mut self) -> Result<u64, String> {
        let healthy = self.healthy();
        let node = *self.rng.pick(&healthy);
        let status = self.insist(node, "cluster.status", &json!({}), None).await?;
        status
            .now
            .ok_or_else(|| format!("n{node} doesn't say what time it is"))
    }

    async fn settle_anywhere(&mut self, meter: &str, epoch: u64) -> Result<(), String> {
        let healthy = self.healthy();
        let node = *self.rng.pick(&healthy);
        self.settle_once(node, meter, epoch).await
    }

    /// Whether all of a journal that has something is sealed, and the journal.
    async fn sealed_of(&mut self, meter: &str, epoch: u64) -> Result<(bool, Value), String> {
        let healthy = self.healthy();
        let node = *self.rng.pick(&healthy);
        let place = json!({"assetId": meter, "epoch": epoch});
        let journal = self.insist(node, "balancing.journal", &place, None).await?.body;
        let statements = journal["statements"].as_array().map_or(0, Vec::len);
        Ok((statements > 0 && journal["watermark"] == statements, journal))
    }

    async fn await_own_seal(&mut self, meter: &str, epoch: u64, within: Duration) -> Result<(), String> {
        let give_up = tokio::time::Instant::now() + within;
        loop {
            let (sealed, journal) = self.sealed_of(meter, epoch).await?;
            if sealed {
                return Ok(());
            }
            if tokio::time::Instant::now() > give_up {
                return Err(format!("nobody seals {meter} in {epoch}: {journal}"));
            }
            self.pause(500..=1_000).await;
        }
    }

    /// A node that has raised the alarm shows no seal, and leads no more.
    pub(super) async fn ask_the_alarmed(&mut self) -> Result<(), String> {
        let meter = self.community.meters[0].id.clone();
        let members = self.roster.lock().members.clone();
        for node in self
            .distrusted
            .intersection(&members)
            .copied()
            .collect::<Vec<_>>()
        {
            let give_up = tokio::time::Instant::now() + HEALTHY;
            loop {
                let status = "cluster.status?consistency=local";
                let status = self.insist(node, status, &json!({}), None).await?.body;
                let alarmed = status["alarms"]
                    .as_array()
                    .is_some_and(|alarms| !alarms.is_empty());
                if !alarmed {
                    break;
                }
                for action in ["balancing.sealedBalance", "balancing.proof"] {
                    let body = json!({"assetId": meter, "epoch": FIRST_EPOCH});
                    let local = format!("{action}?consistency=local");
                    let answer = self.http.call(node, &local, None, &body, HEALTHY).await;
                    let answer = answer.map_err(|error| format!("n{node}: {error:?}"))?;
                    if (answer.status, &answer.body["error"]["code"]) != (503, &json!("alarm")) {
                        let (status, body) = (answer.status, answer.body);
                        return Err(format!(
                            "n{node} has an alarm and answers {action} {status} {body}"
                        ));
                    }
                }
                if status["leader"] != status["node"] {
                    self.history.lock().count("a node with an alarm asked");
                    break;
                }
                if tokio::time::Instant::now() > give_up {
                    return Err(format!("n{node} has an alarm and leads: {status}"));
                }
                self.pause(200..=500).await;
            }
        }
        Ok(())
    }

    /// Waits while nobody asks for anything: the ledger's time must go on, or whoever chooses by it how long his envelope may live
    /// chooses wrongly.
    pub(super) async fn await_time(&mut self) -> Result<(), String> {
        /// The leader of an idle cluster moves time on every 20 s.
        const AT_LEAST_MS: u64 = 20_000;
        let (healthy, local) = (self.healthy(), "cluster.status?consistency=local");
        let mut before = BTreeMap::new();
        for node in &healthy {
            before.insert(*node, self.insist(*node, local, &json!({}), None).await?.now);
        }
        tokio::time::sleep(IDLE).await;
        for node in healthy {
            let now = self.insist(node, local, &json!({}), None).await?.now;
            let then = before.get(&node).copied().flatten();
            let grew = now.zip(then).map(|(now, then)| now.saturating_sub(then));
            if grew.is_none_or(|grew| grew < AT_LEAST_MS) {
                return Err(format!(
                    "{IDLE:?} later n{node} says it is {now:?}, and said {then:?}"
                ));
            }
        }
        self.history.lock().count("time went on while nobody asked");
        Ok(())
    }

    /// What else is asked of a node: of some journals' places one thing each, and of every asset in its share all there is
    /// to know.
    fn other_questions(
        &mut self,
        places: &BTreeSet<(String, u64)>,
        share: impl Fn(u64) -> bool,
    ) -> BTreeMap<&'static str, Vec<Value>> {
        const OF_EPOCHS: [&str; 9] = [
            "balancing.journal",
            "balancing.late",
            "balancing.balance",
            "balancing.sealedBalance",
            "balancing.unsealedBalance",
            "balancing.isSealed",
            "balancing.statements",
            "audit.requestApproval",
            "balancing.proof",
        ];
        let mut asked: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        let root = (ROOT.to_owned(), FIRST_EPOCH + 1);
        let own = places.iter().filter(|(_, epoch)| share(*epoch)).chain([&root]);
        for (asset, epoch) in own {
            if asset == ROOT || self.rng.chance(PerMillion::percent(20)) {
                let action = *self.rng.pick(&OF_EPOCHS);
                let mut body = json!({"assetId": asset, "epoch": epoch});
                if action == "balancing.journal" {
                    body["offset"] = json!(self.rng.below(4));
                    body["limit"] = json!(self.rng.within(1..=4));
                }
                asked.entry(action).or_default().push(body);
            }
        }
        let late = [
            json!({}),
            json!({"limit": self.rng.within(1..=LATE)}),
            json!({"epoch": FIRST_EPOCH + 1}),
        ];
        asked.entry("balancing.late").or_default().extend(late);
        let assets = (0..).zip(&self.community.assets).filter(|(n, _)| share(*n));
        for (_, asset) in assets {
            let mut ask = |action, body| asked.entry(action).or_default().push(body);
            for action in ["asset.get", "meritorder.get", "balancing.peers"] {
                ask(action, json!({"assetId": asset}));
            }
            ask("balancing.getUpstream", json!({"assetId": asset}));
            ask("balancing.getUpstream", json!({"assetId": asset, "energy": 5}));
            ask("balancing.getUpstream", json!({"assetId": asset, "energy": 0}));
            ask("balancing.latestBalances", json!({"assetId": asset, "n": 3}));
            let before = FIRST_EPOCH + self.rng.below(8);
            ask(
                "balancing.latestBalances",
                json!({"assetId": asset, "n": 3, "before": before}),
            );
            ask("balancing.statements", json!({"assetId": asset}));
            ask("balancing.late", json!({"assetId": asset}));
            ask("contract.list", json!({"assetId": asset}));
            ask("contract.list", json!({"partnerId": asset, "status": "active"}));
            ask("contract.list", json!({"assetId": asset, "status": "suspended"}));
        }
        asked
    }

    /// Notes all that every node shows.
    pub(super) async fn look_everywhere(&mut self) -> Result<(), String> {
        let community = Arc::clone(&self.community);
        let sealed: BTreeSet<(String, u64, u64)> = self
            .history
            .lock()
            .seals
            .iter()
            .map(|seal| (seal.asset.clone(), seal.epoch, seal.version))
            .collect();
        // All that can be sealed, and every meter for which anything was reported.
        let mut journals: BTreeSet<(String, u64)> = (FIRST_EPOCH - LATE_EPOCHS..=self.epoch())
            .flat_map(|epoch| community.assets.iter().map(move |asset| (asset.clone(), epoch)))
            .collect();
        let reported = |history: &History| -> Vec<(String, u64)> {
            let settles = history.operations.iter().flat_map(|operation| &operation.settles);
            settles.map(|s| (s.meter.clone(), s.epoch)).collect()
        };
        journals.extend(reported(&self.history.lock()));
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
            // The node has just shown that it is up to date. What it serves from here on needs no round of heartbeats each.
            let asked = journals
                .iter()
                .map(|(asset, epoch)| json!({"assetId": asset, "epoch": epoch}));
            let answers = self
                .insist_on_all(node, "balancing.journal?consistency=local", asked.collect())
                .await?;
            shown.journals.extend(journals.iter().cloned().zip(answers));
            // Every node has proofs of some of the seals to show; all of them would take most of the run.
            let healthy = self.healthy();
            let place = healthy.iter().position(|other| *other == node).unwrap_or(0) as u64;
            let nodes = healthy.len() as u64;
            let own = || sealed.iter().filter(|(_, epoch, _)| epoch % nodes == place);
            let asked = own()
                .map(|(asset, epoch, version)| json!({"assetId": asset, "epoch": epoch, "version": version}));
            let answers = self
                .insist_on_all(node, "balancing.proof?consistency=local", asked.collect())
                .await?;
            shown.proofs.extend(own().cloned().zip(answers));
            let share = |n: u64| n % nodes == place;
            for (action, bodies) in self.other_questions(&journals, share) {
                let local = format!("{action}?consistency=local");
                let answers = self.insist_on_all(node, &local, bodies.clone()).await?;
                let asked = bodies.into_iter().zip(answers);
                shown.asked.extend(asked.map(|(params, body)| Asked {
                    action: action.to_owned(),
                    params,
                    body,
                }));
            }
            let seals = shown
                .asked
                .iter()
                .flat_map(|asked| asked.body.as_array().into_iter().flatten());
            let mut tokens = seals.filter_map(|seal| seal["seal"].as_str());
            if let Some(token) = tokens.next_back().map(str::to_owned) {
                self.decode(node, &token).await?;
            }
            self.history.lock().shown.insert(node, shown);
        }
        Ok(())
    }

    /// Any node knows a token for one of the cluster's nodes', and one that was changed for none.
    async fn decode(&mut self, signer: u64, token: &str) -> Result<(), String> {
        const ACTION: &str = "balancing.decodeSeal";
        let Some((signed, signature)) = token.rsplit_once('.') else {
            return Err(format!("n{signer}'s token {token} is no JWT"));
        };
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        let changed = format!("{signed}.{first}{}", signature.get(1..).unwrap_or_default());
        for (token, by) in [(token, json!(signer)), (&*changed, Value::Null)] {
            let healthy = self.healthy();
            let node = *self.rng.pick(&healthy);
            let said = self
                .insist(node, ACTION, &json!({"seal": token}), None)
                .await?
                .body;
            if (&said["node"], &said["verified"]) != (&by, &json!(!by.is_null())) {
                return Err(format!("n{node} says of {token}, which n{signer} signed: {said}"));
            }
        }
        self.history.lock().count("tokens read by another node");
        Ok(())
    }
}
