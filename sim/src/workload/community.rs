//! A seeded community: meters below streets below a district, and contracts between them.

use ledger::AssetId;
use ledger::roster::{RosterId, roster_id};
use serde_json::{Value, json};

use super::FIRST_EPOCH;
use super::week::Week;
use crate::rng::{PerMillion, Rng};

/// Who there is and who trades with whom.
pub(super) struct Community {
    pub(super) meters: Vec<Member>,
    /// Balancing groups and meters: all that can be sealed, downstream first.
    pub(super) assets: Vec<String>,
    /// Parameters of `asset.upsert`, upstreams first.
    pub(super) upserts: Vec<Value>,
    /// Parameters of `contract.add`.
    pub(super) contracts: Vec<Value>,
    /// Assets whose seals an auditor must approve. They come from the meters and the balancing groups.
    pub(super) audited: Vec<String>,
    /// The community week, where it is settled.
    pub(super) week: Option<Week>,
}

pub(super) struct Member {
    pub(super) id: String,
    /// It mostly produces.
    pub(super) produces: bool,
}

impl Community {
    /// The name of the list of all meters.
    pub(super) fn roster(&self) -> RosterId {
        let meters = self
            .meters
            .iter()
            .filter_map(|meter| AssetId::try_from(meter.id.as_str()).ok());
        roster_id(&meters.collect::<Vec<_>>())
    }

    /// Two streets below one district; in each some producers and consumers, who trade with each other.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut community = Community {
            meters: Vec::new(),
            assets: Vec::new(),
            upserts: vec![json!({"assetId": "district", "type": "balance"})],
            contracts: Vec::new(),
            audited: Vec::new(),
            week: None,
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
        if rng.chance(PerMillion::percent(50)) {
            community.audited.push(rng.pick(&community.meters).id.clone());
            let groups = ["east", "west", "district"];
            community.audited.extend(
                rng.chance(PerMillion::percent(50))
                    .then(|| (*rng.pick(&groups)).to_owned()),
            );
        }
        community
    }

    /// The street of the community week belongs to it as well.
    pub(super) fn add_week(&mut self) {
        let week = Week::shipped();
        self.upserts.extend(week.upserts());
        self.contracts.extend(week.contracts());
        self.week = Some(week);
    }

    pub(super) fn draw_contract(&self, rng: &mut Rng, n: u64) -> Option<Value> {
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
            "price": price(rng),
        });
        match rng.below(8) {
            0 | 1 => contract["load_min"] = json!(rng.within(0..=200)),
            // All or nothing: the most that it books is the least as well.
            2 => contract["load_min"] = contract["energy"].clone(),
            3 => contract["load_max"] = json!(rng.within(0..=4_000)),
            4 => contract["valid_from"] = json!(FIRST_EPOCH + rng.within(0..=6)),
            5 => contract["status"] = json!("proposed"),
            _ => {}
        }
        if rng.chance(PerMillion::percent(25)) {
            contract["energy_total"] = json!(rng.within(100..=5_000));
        }
        if rng.chance(PerMillion::percent(25)) {
            contract["valid_until"] = json!(FIRST_EPOCH + rng.within(6..=14));
        }
        Some(contract)
    }
}

/// Millionths of the currency a kilowatt-hour. Some pay for being rid of it; and where prices are round, values end in a half.
fn price(rng: &mut Rng) -> i64 {
    let (step, most) = *rng.pick(&[(1, 300_000), (500, 600)]);
    let price = step * i64::try_from(rng.within(0..=most)).unwrap_or(0);
    if rng.chance(PerMillion::percent(30)) {
        -price
    } else {
        price
    }
}
