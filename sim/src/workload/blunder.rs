//! What must be refused, whoever asks for it: names that nobody has, the root where it has no place, contracts with oneself.

use std::sync::Arc;

use serde_json::{Value, json};

use super::client::Client;
use super::{LATE_EPOCHS, ROOT};

/// More than an asset may have said of itself.
const TOO_LONG: usize = 4_200;

impl Client {
    /// Asks for one of these, of which nothing may come.
    pub(super) async fn blunder(&mut self) {
        let community = Arc::clone(&self.community);
        let epoch = self.epoch().saturating_sub(self.rng.below(LATE_EPOCHS + 1));
        let asset = self.rng.pick(&community.assets).clone();
        if community.contracts.is_empty() {
            return;
        }
        let known = self.rng.pick(&community.contracts);
        let nobody = format!("nobody-{}", self.rng.below(3));
        let contract = |name: &str, partner: &str| {
            json!({
                "contractId": name, "assetId": asset, "partnerId": partner, "direction": "to", "energy": 100, "priority": 1,
                "delivery": "firm", "price": 7,
            })
        };
        let (action, body): (&str, Value) = match self.rng.below(16) {
            0 => {
                let mut again = known.clone();
                again["energy"] = json!(7);
                ("contract.add", again)
            }
            1 => ("contract.add", contract("with-itself", &asset)),
            2 => ("contract.add", contract("with-the-root", ROOT)),
            3 => (
                "asset.upsert",
                json!({"assetId": ROOT, "balancerule": {"to": asset}}),
            ),
            4 => (
                "asset.upsert",
                json!({"assetId": "note-too-long", "n": "n".repeat(TOO_LONG)}),
            ),
            5 => ("balancing.seal", json!({"assetId": ROOT, "epoch": epoch})),
            6 => ("balancing.correct", json!({"assetId": ROOT, "epoch": epoch})),
            7 => ("balancing.seal", json!({"assetId": nobody, "epoch": epoch})),
            8 => ("balancing.correct", json!({"assetId": nobody, "epoch": epoch})),
            9 => ("balancing.sealEpoch", json!({"epoch": epoch, "under": nobody})),
            10 => (
                *self
                    .rng
                    .pick(&["contract.suspend", "contract.confirm", "contract.cancel"]),
                json!({"contractId": nobody}),
            ),
            11 => ("meritorder.set", json!({"assetId": asset, "mol": [nobody]})),
            12 => {
                let twice = [&known["contractId"], &known["contractId"]];
                let body = json!({"assetId": known["assetId"], "mol": twice});
                ("meritorder.set", body)
            }
            13 => {
                let rows = json!([[0, 1, 0]]);
                let body = json!({"roster": "00".repeat(32), "epoch": epoch, "label": "none", "rows": rows});
                ("balancing.addSettlements", body)
            }
            14 => ("audit.approve", json!({"assetId": nobody, "epoch": epoch})),
            _ => ("audit.setRule", json!({"assetId": nobody, "approvals": 1})),
        };
        self.history.lock().count("blunders");
        self.operate(action, body, Vec::new()).await;
    }
}
