//! The community week that ships with the product: 170 meters of one low-voltage grid, quarter-hour by quarter-hour, and
//! contracts between its photovoltaics and their neighbours.

use serde_json::{Value, json};

const CSV: &str = include_str!("../../../node/data/simbench-lv3.101-2016w23.csv");
/// The street that the meters belong to.
pub(super) const STREET: &str = "lv";

/// Meters and what they read.
pub(super) struct Week {
    meters: Vec<Meter>,
    /// A row a quarter-hour, a reading in Wh a meter.
    rows: Vec<Vec<i64>>,
}

struct Meter {
    id: String,
    produces: bool,
}

impl Week {
    /// The week, from the same file as the product's demonstration.
    pub(super) fn shipped() -> Self {
        let mut lines = CSV.lines();
        let columns = lines.next().unwrap_or_default().split(',').skip(1);
        let meters = columns
            .filter_map(|column| column.split_once(':'))
            .map(|(kind, id)| Meter {
                id: id.to_owned(),
                produces: kind == "pv",
            });
        let row = |line: &str| line.split(',').skip(1).filter_map(|wh| wh.parse().ok()).collect();
        Week {
            meters: meters.collect(),
            rows: lines.map(row).collect(),
        }
    }

    /// Parameters of `asset.upsert`.
    pub(super) fn upserts(&self) -> Vec<Value> {
        let street = json!({"assetId": STREET, "type": "balance", "balancerule": {"from": "district", "to": "district"}});
        let meters = self.meters.iter().map(|meter| {
            json!({"assetId": meter.id, "type": "meter", "balancerule": {"from": STREET, "to": STREET}})
        });
        std::iter::once(street).chain(meters).collect()
    }

    /// Parameters of `contract.add`: each plant sells to a household, in every way there is.
    pub(super) fn contracts(&self) -> Vec<Value> {
        let of = |produces: bool| self.meters.iter().filter(move |meter| meter.produces == produces);
        let deliveries = ["as_available", "matched", "firm"];
        let pairs = of(true).zip(of(false)).enumerate();
        pairs
            .map(|(n, (plant, home))| {
                json!({
                    "contractId": format!("week-{n}"),
                    "assetId": plant.id,
                    "partnerId": home.id,
                    "direction": "to",
                    "energy": 100,
                    "delivery": deliveries[n % deliveries.len()],
                })
            })
            .collect()
    }

    /// What the meters read in a quarter-hour: meter and Wh, positive where it produces. After the last comes the first again.
    pub(super) fn readings(&self, quarter: usize) -> impl Iterator<Item = (&str, i64)> {
        let row = &self.rows[quarter % self.rows.len()];
        self.meters.iter().zip(row).map(|(meter, wh)| {
            let signed = if meter.produces { *wh } else { -wh };
            (meter.id.as_str(), signed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_week_is_there() {
        let week = Week::shipped();
        assert_eq!((week.meters.len(), week.rows.len()), (170, 672));
        assert!(week.rows.iter().all(|row| row.len() == 170));
        assert!(week.contracts().len() > 20);
        let noon = 12 * 4;
        assert!(
            week.readings(noon).any(|(_, wh)| wh > 0),
            "the sun shines at noon"
        );
        assert!(week.readings(noon).any(|(_, wh)| wh < 0));
    }
}
