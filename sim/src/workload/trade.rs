//! What clients agree on: contracts come, pause, go on and go, and change places; auditors approve.

use std::sync::Arc;

use serde_json::{Value, json};

use super::LATE_EPOCHS;
use super::client::Client;
use checkers::history::Outcome;

impl Client {
    pub(super) async fn trade(&mut self) {
        let change = match self.rng.below(8) {
            0 => {
                let n = 1_000 + self.rng.below(1_000_000);
                let community = Arc::clone(&self.community);
                if let Some(body) = community.draw_contract(&mut self.rng, n) {
                    self.operate("contract.add", body, Vec::new()).await;
                }
                return;
            }
            1 => return self.set_merit_order().await,
            2 => "contract.suspend",
            3..6 => "contract.activate",
            6 => "contract.confirm",
            _ => "contract.cancel",
        };
        let contract = match self.community.contracts.is_empty() {
            true => Value::Null,
            false => self.rng.pick(&self.community.contracts)["contractId"].clone(),
        };
        self.operate(change, json!({"contractId": contract}), Vec::new())
            .await;
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
