//! Whether the ledger has exactly what was sent: statement by statement, through the API.
//!
//! Acknowledged settlements must be there with meter, amount, CO2 and label; of requests whose outcome is unknown all
//! or none; nothing else. Journals are compared in an order drawn by chance until all are, or until time is up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::super::Failure;
use super::load::Sent;
use super::payload::LABEL;
use super::population::{Population, Side, Slice, mixed};
use crate::client::{Ask, Client};

/// What a check covered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// Statements that were compared.
    pub(super) compared: u64,
    /// Settlements that were acknowledged.
    pub(super) of: u64,
}

#[derive(Debug, Deserialize)]
struct Journal {
    statements: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
struct Statement {
    kind: String,
    label: String,
    energy: i64,
    co2eq: i64,
    meter: Option<String>,
    from: String,
}

/// Compares the ledger with what was sent.
///
/// # Errors
/// `Broken`, naming the first difference.
pub(super) async fn check(
    client: &Client,
    population: &Population,
    sent: &Sent,
    budget: Duration,
) -> Result<Checked, Failure> {
    let mut known = BTreeMap::<u64, Expected>::new();
    for one in &sent.acknowledged {
        known
            .entry(one.slice.epoch)
            .or_default()
            .acknowledged
            .push(one.slice);
    }
    for slice in &sent.unknown {
        known.entry(slice.epoch).or_default().unknown.push(*slice);
    }
    let sides = population.sides();
    let mut turns: Vec<(u64, usize)> = known
        .iter()
        .flat_map(|(&epoch, expected)| expected.sides(&sides).map(move |side| (epoch, side)))
        .collect();
    turns.sort_unstable();
    turns.dedup();
    turns.sort_unstable_by_key(|&(epoch, side)| mixed(epoch ^ (side as u64) << 40));
    let mut checked = Checked {
        compared: 0,
        of: sent.settlements(),
    };
    let begun = Instant::now();
    for (turn, (epoch, side)) in turns.into_iter().enumerate() {
        if turn > 0 && begun.elapsed() > budget {
            break;
        }
        let expected = &known[&epoch];
        checked.compared += journal(client, turn, population, epoch, &sides[side], expected).await?;
    }
    Ok(checked)
}

/// What one epoch may hold.
#[derive(Debug, Default)]
struct Expected {
    acknowledged: Vec<Slice>,
    unknown: Vec<Slice>,
}

impl Expected {
    /// The sides, by position, that have any of it.
    fn sides(&self, sides: &[Side]) -> impl Iterator<Item = usize> {
        let slices = self.acknowledged.iter().chain(&self.unknown);
        slices.flat_map(|slice| {
            let meters = slice.meters();
            let first = sides.partition_point(|side| side.meters.end <= meters.start);
            let end = sides.partition_point(|side| side.meters.start < meters.end);
            first..end
        })
    }
}

/// Compares one journal; returns how many statements were there.
async fn journal(
    client: &Client,
    turn: usize,
    population: &Population,
    epoch: u64,
    side: &Side,
    expected: &Expected,
) -> Result<u64, Failure> {
    let ask = Ask::new(
        "balancing.journal",
        &json!({"assetId": side.asset, "epoch": epoch}),
    );
    let reply = client.send(turn, &ask).await?.map_err(Failure::Unavailable)?;
    let statements = match reply.status {
        // An asset that nothing was ever booked to.
        404 => Vec::new(),
        200 => {
            let journal: Journal = serde_json::from_slice(&reply.body)
                .map_err(|error| Failure::Broken(format!("balancing.journal answers no journal: {error}")))?;
            journal.statements
        }
        status => {
            let said = String::from_utf8_lossy(&reply.body);
            return Err(Failure::Broken(format!("balancing.journal: {status} {said}")));
        }
    };
    let mut found = vec![0u8; side.meters.len()];
    for statement in statements.iter().filter(|statement| statement.kind == "metered") {
        let meter = statement
            .meter
            .as_deref()
            .and_then(|id| population.number(id))
            .filter(|meter| side.meters.contains(meter));
        let right = meter.is_some_and(|meter| {
            let reading = population.reading(epoch, meter);
            let delivers = statement.from == population.meter(meter);
            statement.energy == reading.wh.abs()
                && statement.co2eq == reading.grams
                && statement.label == LABEL
                && (reading.wh == 0 || delivers == population.delivers(meter))
        });
        match meter {
            Some(meter) if right => found[meter - side.meters.start] += 1,
            _ => {
                return Err(Failure::Broken(format!(
                    "epoch {epoch}: {statement:?} was never sent"
                )));
            }
        }
    }
    // The part of a slice that this side has, as positions in it; empty if they don't meet.
    let within = |slice: &Slice| {
        let (meters, side) = (slice.meters(), &side.meters);
        let position = |meter: usize| meter.clamp(side.start, side.end) - side.start;
        position(meters.start)..position(meters.end)
    };
    let mut least = vec![0u8; found.len()];
    for slice in &expected.acknowledged {
        least[within(slice)].iter_mut().for_each(|count| *count += 1);
    }
    for slice in &expected.unknown {
        let range = within(slice);
        let there = range
            .clone()
            .filter(|&position| found[position] > least[position]);
        let there = there.count();
        if there == range.len() {
            least[range].iter_mut().for_each(|count| *count += 1);
        } else if there > 0 {
            return Err(Failure::Broken(format!(
                "epoch {epoch}: {there} of a batch of {} are booked, but a batch is all or nothing",
                range.len()
            )));
        }
    }
    if let Some(position) = (0..found.len()).find(|&position| found[position] != least[position]) {
        return Err(Failure::Broken(format!(
            "epoch {epoch}: {} is booked {} times, but {} were acknowledged",
            population.meter(side.meters.start + position),
            found[position],
            least[position]
        )));
    }
    Ok(found.iter().map(|&count| u64::from(count)).sum())
}
