//! The community week: what 170 meters of one low-voltage grid read in 672 quarter-hours.
//!
//! SimBench-derived (LV3.101, scenario 1, 6–12 June 2016); `node/data/README.md` has source and licence. The
//! file is part of the binary.

const CSV: &str = include_str!("../../../data/simbench-lv3.101-2016w23.csv");

/// Which way a meter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Consumption of a household.
    Load,
    /// Production of a photovoltaic plant.
    Pv,
}

/// One column of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Meter {
    /// Its asset id, as the data names it: `LV3.101_Load_7`.
    pub(super) id: String,
    /// Which way it counts.
    pub(super) kind: Kind,
}

/// All readings.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Week {
    /// The meters, in the file's order.
    pub(in crate::cli) meters: Vec<Meter>,
    /// The epochs, ascending, each with one reading in Wh per meter.
    pub(in crate::cli) epochs: Vec<(u64, Vec<i64>)>,
}

impl Week {
    /// The week that ships with the product.
    pub(in crate::cli) fn shipped() -> Self {
        #[expect(clippy::expect_used, reason = "a test parses the very same constant")]
        Self::parse(CSV).expect("the built-in data is well-formed")
    }

    fn parse(csv: &str) -> Result<Self, String> {
        let mut lines = csv.lines();
        let head = lines.next().ok_or("no header")?;
        let meter = |column: &str| match column.split_once(':') {
            Some(("load", id)) => Ok(Meter {
                id: id.to_owned(),
                kind: Kind::Load,
            }),
            Some(("pv", id)) => Ok(Meter {
                id: id.to_owned(),
                kind: Kind::Pv,
            }),
            _ => Err(format!("column {column:?} is neither load: nor pv:")),
        };
        let meters = head
            .split(',')
            .skip(1)
            .map(meter)
            .collect::<Result<Vec<_>, _>>()?;
        let mut epochs = Vec::new();
        for (row, line) in lines.enumerate() {
            let wrong = |_| format!("row {row} has something that is no number");
            let mut cells = line.split(',');
            let epoch = cells.next().unwrap_or_default().parse().map_err(wrong)?;
            let readings = cells
                .map(str::parse)
                .collect::<Result<Vec<i64>, _>>()
                .map_err(wrong)?;
            if readings.len() != meters.len() {
                return Err(format!(
                    "row {row} has {} readings for {} meters",
                    readings.len(),
                    meters.len()
                ));
            }
            epochs.push((epoch, readings));
        }
        Ok(Self { meters, epochs })
    }

    /// The first epochs only: a smaller demonstration.
    pub(super) fn first(mut self, epochs: usize) -> Self {
        self.epochs.truncate(epochs);
        self
    }

    /// Whether a column counts production.
    pub(in crate::cli) fn produces(&self, meter: usize) -> bool {
        self.meters[meter].kind == Kind::Pv
    }

    /// How many readings there are.
    pub(super) fn settlements(&self) -> u64 {
        (self.meters.len() * self.epochs.len()) as u64
    }

    /// What a meter read in the whole week, Wh.
    pub(super) fn meter_sum(&self, meter: usize) -> i64 {
        self.epochs.iter().map(|(_, readings)| readings[meter]).sum()
    }

    /// Consumption and production of one epoch, Wh.
    pub(super) fn epoch_sums(&self, readings: &[i64]) -> (i64, i64) {
        let of = |kind| {
            self.meters
                .iter()
                .zip(readings)
                .filter(|(meter, _)| meter.kind == kind)
                .map(|(_, wh)| wh)
                .sum()
        };
        (of(Kind::Load), of(Kind::Pv))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_week_is_what_its_readme_says() {
        let week = Week::shipped();
        let count = |kind| week.meters.iter().filter(|meter| meter.kind == kind).count();
        assert_eq!(
            (count(Kind::Load), count(Kind::Pv), week.epochs.len()),
            (145, 25, 672)
        );
        assert!(
            week.epochs.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1),
            "no quarter-hour is missing"
        );
        let sums: Vec<_> = week
            .epochs
            .iter()
            .map(|(_, readings)| week.epoch_sums(readings))
            .collect();
        assert_eq!(sums.iter().map(|sum| sum.0).sum::<i64>(), 5_216_994);
        assert_eq!(sums.iter().map(|sum| sum.1).sum::<i64>(), 4_215_847);
        assert_eq!(sums.iter().filter(|(load, pv)| pv > load).count(), 206);
        assert_eq!(week.settlements(), 114_240);
        assert_eq!(
            (0..week.meters.len())
                .map(|meter| week.meter_sum(meter))
                .sum::<i64>(),
            9_432_841
        );
    }

    #[test]
    fn malformed_data_is_said() {
        for bad in [
            "",
            "epoch,wind:1\n",
            "epoch,load:a\n1\n",
            "epoch,load:a\n1,x\n",
            "epoch,load:a\nx,1\n",
        ] {
            assert!(Week::parse(bad).is_err(), "{bad:?}");
        }
    }
}
