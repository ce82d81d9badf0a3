//! What clients agree on: contracts come, pause, go on and go, and change places; auditors approve.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::LATE_EPOCHS;
use super::client::Client;
use super::work::{amount, settlement};
use crate::rng::PerMillion;
use checkers::history::{Outcome, Reported};

/// What meters can be below of.
const GROUPS: [&str; 3] = ["east", "west", "district"];
/// The key of an auditor who never approves anything.
const IDLE_AUDITOR: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

impl Client {
    pub(super) async fn trade(&mut self) {
        let change = match self.rng.below(13) {
            0 => {
                let n = 1_000 + self.rng.below(1_000_000);
                let community = Arc::clone(&self.community);
                if let Some(mut body) = community.draw_contract(&mut self.rng, n) {
                    if self.rng.below(4) == 0 {
                        // The gateway makes a name, the same one for every attempt.
                        body["contractId"] = Value::Null;
                    }
                    self.operate("contract.add", body, Vec::new()).await;
                }
                return;
            }
            1 => return self.set_merit_order().await,
            2 => "contract.suspend",
            3..6 => "contract.activate",
            6 => "contract.confirm",
            // It is for good, and there are few.
            7 if self.rng.below(4) == 0 => "contract.cancel",
            7 => return self.confirm_what_is_suspended().await,
            8 => return self.set_audit_rule().await,
            9 | 10 => return self.note_something().await,
            _ => return self.move_asset().await,
        };
        let contract = match self.community.contracts.is_empty() {
            true => Value::Null,
            false => self.rng.pick(&self.community.contracts)["contractId"].clone(),
        };
        self.operate(change, json!({"contractId": contract}), Vec::new())
            .await;
    }

    /// Confirms a contract that was just suspended, which must be refused, and lets it go on.
    async fn confirm_what_is_suspended(&mut self) {
        let community = Arc::clone(&self.community);
        if community.contracts.is_empty() {
            return;
        }
        let contract = &self.rng.pick(&community.contracts)["contractId"];
        for change in ["contract.suspend", "contract.confirm", "contract.activate"] {
            self.operate(change, json!({"contractId": contract}), Vec::new())
                .await;
        }
    }

    /// Some contracts of one owner change places; now and then one is another owner's, and the order must be refused.
    async fn set_merit_order(&mut self) {
        let community = Arc::clone(&self.community);
        let Some(owner) = community.contracts.first().map(|contract| &contract["assetId"]) else {
            return;
        };
        let theirs = community
            .contracts
            .iter()
            .filter(|contract| contract["assetId"] == *owner);
        let mut order: Vec<&Value> = theirs.map(|contract| &contract["contractId"]).collect();
        self.rng.shuffle(&mut order);
        if self.rng.below(10) == 0 {
            order.push(&self.rng.pick(&community.contracts)["contractId"]);
        }
        let body = json!({"assetId": owner, "mol": order});
        if self.operate("meritorder.set", body, Vec::new()).await == Outcome::Done {
            self.history.lock().count("a merit order set");
        }
    }

    /// An asset gets another upstream: mostly a meter that changes its street, now and then anything below anything, which
    /// must be refused where it would lead back to itself.
    async fn move_asset(&mut self) {
        let community = Arc::clone(&self.community);
        let (asset, upstreams) = if self.rng.below(5) > 0 {
            (
                &self.rng.pick(&community.meters).id,
                &GROUPS.map(str::to_owned)[..],
            )
        } else {
            (self.rng.pick(&community.assets), &community.assets[..])
        };
        let mut rule = json!({});
        for side in ["from", "to"] {
            if self.rng.below(8) > 0 {
                rule[side] = json!(self.rng.pick(upstreams));
            }
        }
        let body = json!({"assetId": asset, "balancerule": rule});
        if self.operate("asset.upsert", body, Vec::new()).await != Outcome::Done {
            return;
        }
        self.history.lock().count("an asset moved");
        if self.rng.chance(PerMillion::percent(50)) {
            self.correct_moved(asset).await;
        }
    }

    /// Something comes late for an asset that has moved: what was served before it moved is served once.
    async fn correct_moved(&mut self, asset: &str) {
        for back in 1..=LATE_EPOCHS {
            let epoch = self.epoch().saturating_sub(back);
            let settled = Reported {
                meter: asset.to_owned(),
                epoch,
                consumption: amount(&mut self.rng, false),
                label: format!("{}-{}-moved", self.name, self.made),
            };
            let body = settlement(&mut self.rng, &settled);
            self.operate("balancing.addSettlement", body, vec![settled]).await;
            let body = json!({"assetId": asset, "epoch": epoch});
            self.operate("balancing.correct", body, Vec::new()).await;
        }
    }

    /// An asset that nobody else knows gets another note, which is read back elsewhere at once: as it was left, or it was read
    /// before it was asked for.
    async fn note_something(&mut self) {
        self.noted.0 += 1;
        let (n, of) = self.noted;
        let asset = format!("note-{}-{of}", self.name);
        let body = json!({"assetId": asset, "n": n});
        match self.operate("asset.upsert", body, Vec::new()).await {
            Outcome::Done => {}
            // It may yet be done, after the next: there is an end to this one.
            _ => {
                self.noted.1 += 1;
                return;
            }
        }
        let (node, action) = (self.any_node(), "asset.get");
        let (body, patience) = (json!({"assetId": asset}), Duration::from_secs(3));
        let Ok(answer) = self.http.call(node, action, None, &body, patience).await else {
            return;
        };
        self.note_odd(action, node, &answer);
        let mut history = self.history.lock();
        history.count("a note read back elsewhere");
        let unknown = answer.body["error"]["code"] == "unknown_asset";
        if unknown || (answer.status == 200 && answer.body["n"] != n) {
            let what = format!(
                "n{node} answers {action} {asset} with {}, and {n} was acknowledged",
                answer.body
            );
            history.oddities.push((self.time.now_ms(), what));
        }
    }

    /// An admin, who here is whoever holds the gateways' key, says anew who must approve: nobody, the auditor, someone who never
    /// does, both, or more than there are, which must be refused.
    async fn set_audit_rule(&mut self) {
        let community = Arc::clone(&self.community);
        let Some(asset) = community.audited.first() else {
            return;
        };
        let body = match self.rng.below(7) {
            0 => json!({"assetId": asset, "approvals": 0}),
            1 => json!({"assetId": asset, "approvals": 1, "auditors": [IDLE_AUDITOR]}),
            2 => json!({"assetId": asset, "approvals": 2}),
            3 => json!({"assetId": asset, "approvals": 2, "auditors": [self.auditor, IDLE_AUDITOR]}),
            _ => json!({"assetId": asset, "approvals": 1}),
        };
        self.operate("audit.setRule", body, Vec::new()).await;
    }

    /// An auditor, who here is whoever holds the gateways' key, approves a seal: of an asset that needs it, if there is one.
    pub(super) async fn approve(&mut self) {
        let community = Arc::clone(&self.community);
        let any = match community.audited.is_empty() {
            true => &community.assets,
            false => &community.audited,
        };
        let asset = self.rng.pick(any);
        let back = self.rng.within(0..=LATE_EPOCHS + 1);
        let body = json!({"assetId": asset, "epoch": self.epoch().saturating_sub(back)});
        self.operate("audit.approve", body, Vec::new()).await;
    }
}
