//! The week's figures, read back from the nodes and checked against the data and against each other.
//!
//! Nothing here comes from the generator: consumption and production are the sealed balances of all meters, what
//! crossed to the grid and what was traded are the statements of the group's journals, and each is compared
//! with a second source: the columns of the data, the quarter-hours' sums, the contracts' own totals.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::super::Failure;
use super::super::table::thousands;
use super::book::{GRID, GROUP};
use super::week::{Kind, Meter, Week};
use crate::client::{Ask, Client};

/// Reads under way at once.
const AT_ONCE: usize = 16;
/// Balances in one answer: the most that nodes give.
const PAGE: usize = 100;

/// Sums over the week, Wh unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// What the load meters read.
    pub(super) consumption: i64,
    /// What the plants' meters read.
    pub(super) production: i64,
    /// What contracts delivered.
    pub(super) traded: i64,
    /// How many contracts delivered anything.
    pub(super) contracts: usize,
    /// What the street drew from the grid, over the quarter-hours in which it drew.
    pub(super) from_grid: i64,
    /// What it delivered to the grid.
    pub(super) to_grid: i64,
    /// Quarter-hours in which it delivered.
    pub(super) surplus_epochs: usize,
    /// CO2 that the plants' energy carried, grams.
    pub(super) co2: i64,
}

/// One epoch of the group's journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Crossing {
    from_grid: i64,
    to_grid: i64,
    traded: i64,
}

/// Reads and checks everything.
///
/// # Errors
/// `Broken` naming the figure that does not fit.
pub(super) async fn read(client: &Client, week: &Week) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    let meters: Vec<(i64, i64)> = stream::iter(week.meters.iter().enumerate())
        .map(|(turn, meter)| metered(client, turn, meter, week))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    for (position, (meter, (wh, co2))) in week.meters.iter().zip(meters).enumerate() {
        expect(&format!("the week of {}", meter.id), wh, week.meter_sum(position))?;
        match meter.kind {
            Kind::Load => figures.consumption += wh,
            Kind::Pv => figures.production += wh,
        }
        figures.co2 += co2;
    }

    let crossings: Vec<Crossing> = stream::iter(week.epochs.iter().enumerate())
        .map(|(turn, (epoch, _))| crossing(client, turn, *epoch))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    for ((epoch, readings), crossing) in week.epochs.iter().zip(crossings) {
        let (load, pv) = week.epoch_sums(readings);
        expect(
            &format!("the net of epoch {epoch}"),
            crossing.to_grid - crossing.from_grid,
            pv - load,
        )?;
        figures.from_grid += crossing.from_grid;
        figures.to_grid += crossing.to_grid;
        figures.traded += crossing.traded;
        figures.surplus_epochs += usize::from(crossing.to_grid > 0);
    }

    let ask = Ask::new("contract.list", &json!({}));
    let contracts = client.call(0, &ask).await?.ok(&ask.action)?;
    let balanced: Vec<i64> = contracts
        .as_array()
        .into_iter()
        .flatten()
        .filter(|contract| {
            contract["contractId"]
                .as_str()
                .is_some_and(|id| id.starts_with("ppa-"))
        })
        .filter_map(|contract| contract["balanced"].as_i64())
        .collect();
    expect(
        "what the contracts say they delivered",
        balanced.iter().sum(),
        figures.traded,
    )?;
    figures.contracts = balanced.iter().filter(|&&wh| wh > 0).count();

    let local = (
        figures.production - figures.to_grid,
        figures.consumption - figures.from_grid,
    );
    expect("what was produced and used in the street", local.0, local.1)?;
    Ok(figures)
}

fn expect(what: &str, found: i64, expected: i64) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::Broken(format!(
        "{what}: the ledger says {found} Wh, the other source {expected} Wh"
    )))
}

/// What a meter's balances of the week add up to: Wh, and grams of CO2.
async fn metered(client: &Client, turn: usize, meter: &Meter, week: &Week) -> Result<(i64, i64), Failure> {
    let (Some((first, _)), Some((last, _))) = (week.epochs.first(), week.epochs.last()) else {
        return Ok((0, 0));
    };
    let (mut wh, mut co2, mut before) = (0, 0, last + 1);
    while before > *first {
        let body = json!({"assetId": meter.id, "n": PAGE, "before": before});
        let ask = Ask::new("balancing.latestBalances", &body);
        let page = client.call(turn, &ask).await?.ok(&ask.action)?;
        let epoch = |balance: &Value| balance["epoch"].as_u64().unwrap_or(0);
        let balances = page.as_array().map(Vec::as_slice).unwrap_or_default();
        for balance in balances.iter().filter(|balance| epoch(balance) >= *first) {
            let (into, out) = (figure(balance, "in"), figure(balance, "out"));
            match meter.kind {
                Kind::Load => wh += into - out,
                Kind::Pv => {
                    wh += out - into;
                    co2 += figure(balance, "out_co2eq");
                }
            }
        }
        before = balances.last().map_or(0, epoch);
    }
    Ok((wh, co2))
}

async fn crossing(client: &Client, turn: usize, epoch: u64) -> Result<Crossing, Failure> {
    let ask = Ask::new("balancing.journal", &json!({"assetId": GROUP, "epoch": epoch}));
    let journal = client.call(turn, &ask).await?.ok(&ask.action)?;
    let statements = journal["statements"].as_array().cloned().unwrap_or_default();
    Ok(statements.iter().fold(Crossing::default(), |mut sum, statement| {
        let energy = figure(statement, "energy");
        match (
            statement["kind"].as_str(),
            statement["from"].as_str(),
            statement["to"].as_str(),
        ) {
            (Some("residual"), Some(GRID), Some(GROUP)) => sum.from_grid += energy,
            (Some("residual"), Some(GROUP), Some(GRID)) => sum.to_grid += energy,
            // Every contract of the street has its mirror here: the group makes up what the seller sold.
            (Some("counter"), Some(GROUP), _) => sum.traded += energy,
            _ => {}
        }
        sum
    }))
}

fn figure(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or(0)
}

impl Figures {
    /// The figures for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let kwh = |wh: i64| format!("{:>8} kWh", thousands(i128::from((wh + 500) / 1_000)));
        let local = self.production - self.to_grid;
        vec![
            format!("consumption        {}", kwh(self.consumption)),
            format!(
                "production         {}   ({} kg CO2eq)",
                kwh(self.production),
                thousands(i128::from(self.co2 / 1_000))
            ),
            format!(
                "traded by PPA      {}   under {} contracts",
                kwh(self.traded),
                self.contracts
            ),
            format!("from the grid      {}", kwh(self.from_grid)),
            format!(
                "to the grid        {}   in {} quarter-hours",
                kwh(self.to_grid),
                self.surplus_epochs
            ),
            format!(
                "used in the street {}   self-sufficiency {} %, self-consumption {} %",
                kwh(local),
                percent(local, self.consumption),
                percent(local, self.production)
            ),
        ]
    }
}

/// A share in tenths of a percent, as text.
fn percent(part: i64, whole: i64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = (i128::from(part) * 2_000 / i128::from(whole) + 1) / 2;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_to_tenths() {
        let shares = [(1, 3), (2, 3), (0, 5), (5, 5), (1, 0)].map(|(part, whole)| percent(part, whole));
        assert_eq!(shares, ["33.3", "66.7", "0.0", "100.0", "-"]);
    }
}
