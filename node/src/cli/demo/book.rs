//! Who lives where and who sells to whom: generated, plausible, the same on every machine.
//!
//! The data knows meters only. Here every load meter gets a household; the 25 photovoltaic plants are paired
//! with 25 households chosen by a seed (SimBench gives no pairing); and each of those sells to 2–6 neighbours by
//! contracts of every delivery. Prices are cents, caps are of the order of a household's quarter-hour.
//!
//! ```text
//! root ← grid ← LV3.101 ← household ← load meter
//!                                   ← photovoltaic plant (25 of them)
//! ```
//!
//! CO2: a plant's energy carries 40 g per kWh (the order of photovoltaics over their life); consumption meters
//! carry none of their own, and what the grid delivers is outside this ledger's knowledge.

use serde_json::{Value, json};

use super::random::Seeded;
use super::week::{Kind, Week};

/// The balancing group of the street.
pub(super) const GROUP: &str = "LV3.101";
/// What stands above it: the rest of the network.
pub(super) const GRID: &str = "grid";

/// Decides the pairing and the contracts. Another seed is another book.
const SEED: u64 = 101;
/// g of CO2 equivalent per kWh of photovoltaics.
const PV_GRAMS_PER_KWH: i64 = 40;

/// The generated side of the demonstration.
#[derive(Debug, Clone)]
pub(super) struct Book {
    /// One household per load meter, in the data's order.
    pub(super) households: Vec<String>,
    /// For each plant, in the data's order, the household that owns it.
    pub(super) owners: Vec<usize>,
    /// Bodies for `contract.add`.
    pub(super) contracts: Vec<Value>,
}

impl Book {
    /// The book for these meters.
    pub(super) fn generate(week: &Week) -> Self {
        let ids = |kind| {
            week.meters
                .iter()
                .filter(move |meter| meter.kind == kind)
                .map(|meter| meter.id.clone())
        };
        let households: Vec<String> = ids(Kind::Load)
            .map(|id| id.replace("_Load_", "_House_"))
            .collect();
        let mut seeded = Seeded::new(SEED);
        let owners = seeded.distinct(ids(Kind::Pv).count(), households.len());
        let span = (
            week.epochs.first().map_or(0, |row| row.0),
            week.epochs.last().map_or(0, |row| row.0),
        );
        let mut contracts = Vec::new();
        for (plant, &seller) in owners.iter().enumerate() {
            let many = usize::try_from(seeded.between(2, 6)).unwrap_or(2);
            let neighbours: Vec<usize> = seeded
                .distinct(many + 1, households.len())
                .into_iter()
                .filter(|&buyer| buyer != seller)
                .collect();
            for (place, &buyer) in neighbours.iter().take(many).enumerate() {
                let id = format!("ppa-{}-{}", plant + 1, place + 1);
                contracts.push(contract(
                    &mut seeded,
                    id,
                    place,
                    &households[seller],
                    &households[buyer],
                    span,
                ));
            }
        }
        Self {
            households,
            owners,
            contracts,
        }
    }

    /// Bodies for `asset.upsert`, in no particular order: every meter, household and group but [`Self::last`].
    pub(super) fn assets(&self, week: &Week) -> Vec<Value> {
        let mut assets = vec![json!({"assetId": GRID, "type": "grid"})];
        let both = |id: &String| json!({"assetId": id, "type": "household", "balancerule": {"from": GROUP, "to": GROUP}});
        assets.extend(self.households.iter().map(both));
        let (mut loads, mut plants) = (self.households.iter(), self.owners.iter());
        for meter in &week.meters {
            let asset = match meter.kind {
                Kind::Load => loads.next().map(|house| ("load", json!({"from": house}))),
                Kind::Pv => plants
                    .next()
                    .map(|&owner| ("pv", json!({"to": self.households[owner]}))),
            };
            if let Some((kind, rule)) = asset {
                assets.push(json!({"assetId": meter.id, "type": kind, "balancerule": rule}));
            }
        }
        assets
    }

    /// The group itself: booked last, so that its being there says that all the rest is.
    pub(super) fn last(&self) -> Value {
        json!({"assetId": GROUP, "type": "balance", "balancerule": {"from": GRID, "to": GRID},
            "source": "SimBench LV3.101, 2016 week 23 (ODbL); contracts and pairing generated"})
    }
}

/// The bodies of `balancing.addSettlements` for one epoch.
pub(super) fn settlements(week: &Week, epoch: u64, readings: &[i64]) -> Vec<Value> {
    let settle = |(meter, &wh): (&super::week::Meter, &i64)| match meter.kind {
        Kind::Load => json!({"meterId": meter.id, "epoch": epoch, "consumption": wh, "label": "virtual_1"}),
        Kind::Pv => json!({"meterId": meter.id, "epoch": epoch, "consumption": wh, "label": "virtual_1",
            "co2eq": (wh * PV_GRAMS_PER_KWH + 500) / 1_000}),
    };
    week.meters.iter().zip(readings).map(settle).collect()
}

/// One contract: a fifth firm and small, the others as available or matched and of a quarter-hour's order.
fn contract(
    seeded: &mut Seeded,
    id: String,
    place: usize,
    seller: &str,
    buyer: &str,
    span: (u64, u64),
) -> Value {
    let delivery = match seeded.between(0, 9) {
        0..=1 => "firm",
        2..=5 => "as_available",
        _ => "matched",
    };
    let energy = match delivery {
        "firm" => seeded.between(4, 15),
        "as_available" => 5 * seeded.between(4, 24),
        _ => 10 * seeded.between(4, 40),
    };
    // 8 to 18 cents a kWh, in millionths of the currency.
    let price = 1_000 * seeded.between(80, 180);
    let mut contract = json!({"contractId": id, "assetId": seller, "partnerId": buyer, "direction": "to",
        "energy": energy, "delivery": delivery, "priority": place + 1, "price": price, "status": "active"});
    if delivery != "firm" && seeded.between(0, 3) == 0 {
        contract["load_min"] = json!(seeded.between(3, energy / 4));
    }
    if seeded.between(0, 7) == 0 {
        // Some begin in the middle of the week.
        contract["valid_from"] = json!(span.0 + (span.1 - span.0) / 2);
    }
    contract
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_book_is_the_same_every_time_and_whole() {
        let week = Week::shipped();
        let (book, again) = (Book::generate(&week), Book::generate(&week));
        assert_eq!(book.contracts, again.contracts);
        let assets = book.assets(&week);
        let ids: BTreeSet<&str> = assets
            .iter()
            .filter_map(|asset| asset["assetId"].as_str())
            .collect();
        assert_eq!(ids.len(), 145 + 145 + 25 + 1, "no asset twice, none missing");
        let owners: BTreeSet<usize> = book.owners.iter().copied().collect();
        assert_eq!(owners.len(), 25, "no household owns two plants");

        let mut per_seller = std::collections::BTreeMap::<&str, BTreeSet<&str>>::new();
        for contract in &book.contracts {
            let (seller, buyer) = (contract["assetId"].as_str(), contract["partnerId"].as_str());
            let (seller, buyer) = (seller.expect("a seller"), buyer.expect("a buyer"));
            assert!(ids.contains(seller) && ids.contains(buyer) && seller != buyer);
            assert!(
                per_seller.entry(seller).or_default().insert(buyer),
                "a neighbour buys once from one owner"
            );
            assert!(
                contract["load_min"].as_u64().unwrap_or(0) <= contract["energy"].as_u64().expect("a cap")
            );
        }
        assert_eq!(per_seller.len(), 25);
        assert!(per_seller.values().all(|buyers| (2..=6).contains(&buyers.len())));
        for delivery in ["firm", "as_available", "matched"] {
            let many = book
                .contracts
                .iter()
                .filter(|contract| contract["delivery"] == delivery)
                .count();
            assert!(many >= 10, "{delivery}: {many}");
        }
    }

    #[test]
    fn settlements_are_the_readings_with_the_plants_co2() {
        let week = Week::shipped();
        let (epoch, readings) = &week.epochs[50];
        let bodies = settlements(&week, *epoch, readings);
        assert_eq!(bodies.len(), 170);
        let sum: i64 = bodies
            .iter()
            .filter_map(|body| body["consumption"].as_i64())
            .sum();
        assert_eq!(sum, readings.iter().sum::<i64>());
        let co2 = |body: &Value| body.get("co2eq").and_then(Value::as_i64);
        assert!(bodies[..145].iter().all(|body| co2(body).is_none()));
        assert!(
            bodies[145..]
                .iter()
                .zip(&readings[145..])
                .all(|(body, wh)| co2(body) == Some((wh * 40 + 500) / 1000))
        );
    }
}
