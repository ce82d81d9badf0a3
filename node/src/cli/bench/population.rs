//! Who reports, and what: meters, their upstreams and contracts, and readings that anyone can compute again.
//!
//! What always holds: a meter reads the same in an epoch whoever asks, and each pair of meter and epoch is sent at
//! most once, so that the ledger can be compared with what was sent, statement by statement.

use std::ops::Range;

use ledger::ROOT;
use serde_json::{Value, json};

use crate::client::Ask;

use super::super::demo::Week;

/// Meters whose statements are read at once when the ledger is checked; of larger populations without upstreams
/// meters are read singly.
const READABLE: usize = 50_000;
/// Meters below one upstream.
const STREET: usize = 100;
/// Streets below one upstream of theirs.
const TOWN: usize = 100;

/// What a meter reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Watt-hours; negative is what it delivers.
    pub(super) wh: i64,
    /// Grams of CO2 equivalent.
    pub(super) grams: i64,
}

/// Neighbouring meters in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) epoch: u64,
    pub(super) first: usize,
    pub(super) len: usize,
}

impl Slice {
    /// The meters' numbers.
    pub(super) fn meters(&self) -> Range<usize> {
        self.first..self.first + self.len
    }
}

/// An asset whose journal has the metered statements of these meters, and of no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) asset: String,
    pub(super) meters: Range<usize>,
}

/// All meters of a workload.
#[derive(Debug)]
pub(super) struct Population {
    meters: Vec<String>,
    /// Whether meters stand below streets, and those below towns.
    grid: bool,
    /// Contracts between neighbours.
    contracts: usize,
    /// Readings of real meters, to be repeated; else they are drawn.
    week: Option<Week>,
}

impl Population {
    /// Meters without rules: all of them under the root.
    pub(super) fn flat(meters: usize) -> Self {
        Self {
            meters: (0..meters).map(|meter| format!("meter-{meter:07}")).collect(),
            grid: false,
            contracts: 0,
            week: None,
        }
    }

    /// Meters below streets of a hundred, those below towns of a hundred, every other one a plant; by contract a
    /// plant sells to its neighbour and a consumer buys from its own. As many assets as said, streets and towns aside.
    pub(super) fn grid(meters: usize, contracts: usize) -> Self {
        Self {
            grid: true,
            contracts: contracts.min(meters),
            ..Self::flat(meters)
        }
    }

    /// As [`Population::grid`], with the readings of the real street that ships with the product, each meter of it
    /// standing for many, a little larger or smaller; its photovoltaics owners sell to their neighbours.
    pub(super) fn year(meters: usize) -> Self {
        Self {
            week: Some(Week::shipped()),
            ..Self::grid(meters, meters)
        }
    }

    /// How many meters.
    pub(super) fn len(&self) -> usize {
        self.meters.len()
    }

    /// A meter's id.
    pub(super) fn meter(&self, meter: usize) -> &str {
        &self.meters[meter]
    }

    /// The number of the meter with that id.
    pub(super) fn number(&self, id: &str) -> Option<usize> {
        let number = id.strip_prefix("meter-")?.parse().ok()?;
        (number < self.meters.len()).then_some(number)
    }

    /// What a meter reads in an epoch.
    pub(super) fn reading(&self, epoch: u64, meter: usize) -> Reading {
        let wh = match &self.week {
            Some(week) => {
                let rows = week.epochs.len().max(1) as u64;
                #[expect(clippy::cast_possible_truncation, reason = "below the number of rows")]
                let row = &week.epochs[(epoch % rows) as usize].1;
                let column = meter % row.len();
                // Between 80 and 120 % of the real one.
                let scale = i64::try_from(80 + meter / row.len() * 7 % 41).unwrap_or(100);
                row[column] * scale / 100
            }
            None => {
                let drawn = mixed(epoch.wrapping_mul(1 << 24) ^ meter as u64) % 5_000;
                i64::try_from(drawn).unwrap_or(0)
            }
        };
        // Which way a positive amount flows is said by the rule; without one, it is consumed.
        let wh = if !self.grid && self.delivers(meter) {
            -wh
        } else {
            wh
        };
        Reading {
            wh,
            grams: wh * 38 / 100,
        }
    }

    /// Whether a meter's amounts flow out of it.
    pub(super) fn delivers(&self, meter: usize) -> bool {
        match &self.week {
            Some(week) => week.produces(meter % week.meters.len()),
            None if self.grid => meter.is_multiple_of(2),
            None => meter.is_multiple_of(8),
        }
    }

    /// Where the ledger has each meter's statements once.
    pub(super) fn sides(&self) -> Vec<Side> {
        let side = |(street, meters): (usize, Range<usize>)| Side {
            asset: street_id(street),
            meters,
        };
        match (self.grid, self.len()) {
            (true, _) => self.streets().map(side).collect(),
            (false, len) if len <= READABLE => vec![Side {
                asset: ROOT.to_string(),
                meters: 0..len,
            }],
            (false, len) => (0..len)
                .map(|meter| Side {
                    asset: self.meters[meter].clone(),
                    meters: meter..meter + 1,
                })
                .collect(),
        }
    }

    fn streets(&self) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let len = self.len();
        (0..len.div_ceil(STREET)).map(move |street| (street, street * STREET..len.min((street + 1) * STREET)))
    }

    /// The calls that set up rules, then those that set up contracts.
    pub(super) fn prepare(&self) -> [Vec<Ask>; 2] {
        if !self.grid {
            return [Vec::new(), Vec::new()];
        }
        let rule = |asset: &str, rule: Value| {
            let body = json!({"assetId": asset, "balancerule": rule});
            Ask::once("asset.upsert", &body, format!("asset-{asset}"))
        };
        let mut rules = Vec::new();
        for (street, meters) in self.streets() {
            let (id, town) = (street_id(street), format!("town-{}", street / TOWN));
            rules.push(rule(&id, json!({"from": town, "to": town})));
            rules.extend(meters.map(|meter| {
                let side = if self.delivers(meter) { "to" } else { "from" };
                rule(self.meter(meter), json!({side: id}))
            }));
        }
        let contracts = (0..self.contracts)
            .filter_map(|meter| self.contract(meter))
            .collect();
        [rules, contracts]
    }

    /// The contract of a meter with its neighbour of the same street. In the year only plants have one.
    fn contract(&self, meter: usize) -> Option<Ask> {
        let street = meter / STREET * STREET;
        let many = STREET.min(self.len() - street);
        let partner = street + (meter - street + 1) % many;
        let direction = match (self.delivers(meter), &self.week) {
            (true, _) => "to",
            (false, None) => "from",
            (false, Some(_)) => return None,
        };
        (partner != meter).then(|| {
            let id = format!("contract-{meter:07}");
            let body = json!({"contractId": id, "assetId": self.meter(meter), "partnerId": self.meter(partner),
                "direction": direction, "energy": 1_000, "price": 95_000});
            Ask::once("contract.add", &body, id)
        })
    }
}

fn street_id(street: usize) -> String {
    format!("street-{street:05}")
}

/// Splitmix64's finaliser: neighbours become strangers.
pub(super) fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_have_every_meter_once() {
        for population in [
            Population::flat(10),
            Population::flat(READABLE + 1),
            Population::grid(250, 250),
            Population::year(171),
        ] {
            let mut meters: Vec<usize> = population
                .sides()
                .into_iter()
                .flat_map(|side| side.meters)
                .collect();
            meters.sort_unstable();
            assert!(
                meters.into_iter().eq(0..population.len()),
                "{} meters",
                population.len()
            );
        }
    }

    #[test]
    fn readings_repeat_and_numbers_come_back() {
        let population = Population::flat(20);
        assert_eq!(population.reading(5, 3), population.reading(5, 3));
        assert_ne!(population.reading(5, 3), population.reading(6, 3));
        assert!(population.reading(5, 8).wh <= 0);
        assert_eq!(population.number(population.meter(17)), Some(17));
        assert_eq!(population.number("meter-0000020"), None);
        assert_eq!(population.number("street-00001"), None);
    }

    #[test]
    fn the_year_reads_as_the_week_does() {
        let population = Population::year(340);
        let week = Week::shipped();
        let (epoch, readings) = &week.epochs[48];
        // The week's first epoch is no multiple of its length; the row is found by the remainder.
        let same = epoch - epoch % 672 + 48;
        for (meter, read) in readings.iter().enumerate() {
            assert_eq!(population.reading(same, meter).wh, read * 80 / 100);
            assert_eq!(population.delivers(meter), week.produces(meter));
        }
    }

    #[test]
    fn sellers_have_other_partners() {
        let [rules, contracts] = Population::grid(201, 201).prepare();
        assert_eq!(rules.len(), 201 + 3);
        // The last street has a single meter, which has no neighbour.
        assert_eq!(contracts.len(), 200);
        let [_, sellers] = Population::year(170).prepare();
        assert_eq!(sellers.len(), 25);
    }
}
