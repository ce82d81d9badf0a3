//! A meter for demonstrations: the last 24 hours of a household that doesn't exist.
//!
//! `demometer.populate24h` makes 96 readings of 15 minutes from a standard profile, scaled to a yearly consumption and
//! roughened by noise that only meter and quarter-hour decide, so that every node and every retry makes the same. Epochs in
//! which the meter has reported already are left alone: asking twice books nothing twice. Unlike EAF's it needs no
//! internet, and no clock but the ledger's.

use std::collections::BTreeMap;

use ledger::digest::digest;
use ledger::units::MAX_SETTLEMENT;
use ledger::{Action, AssetId, Epoch, GramsCo2, Label, Ledger, Settlement, Wh};
use serde_json::{Value, json};

use super::answer::Answer;
use super::call::Call;
use super::error::Fault;
use super::params::{self, Wrong, rounded};
use super::route::{Access, Body, Methods, Route, optional, required, schema};

/// A quarter of an hour, in milliseconds.
const QUARTER_MS: u64 = 900_000;
/// Quarters in a day.
const QUARTERS: u64 = 96;
/// A household's consumption a year, in kWh, if none is given.
const KWH: i64 = 3500;
/// A household's day, hour by hour (UTC), in thousandths of its consumption: low at night, a rise at noon, the peak
/// in the evening.
const PROFILE: [u64; 24] = [
    24, 20, 18, 17, 18, 23, 34, 43, 45, 44, 44, 46, 51, 49, 44, 42, 44, 52, 64, 70, 67, 58, 47, 36,
];
/// The label of what is booked.
const LABEL: &str = "virtual_1";

pub(crate) const ROUTES: &[Route] = &[Route {
    name: "demometer.populate24h",
    methods: Methods::GetPost,
    access: Access::Write,
    body: Body::Fields,
    about: "Books the last 24 hours of a made-up household, 96 readings of 15 minutes, into those epochs in which the \
            meter has reported nothing yet.",
    params: &[
        required("meterId", schema::ID, "the meter"),
        optional(
            "kwha",
            schema::ENERGY,
            "its consumption a year in kWh; 3500 if not given",
        ),
    ],
    answer: r##"{"type":"array","items":{"$ref":"#/components/schemas/Reading"}}"##,
    refusals: &["root_is_no_meter", "out_of_range"],
    handler: |call| Box::pin(populate(call)),
}];

/// A quarter of an hour of the household.
struct Quarter {
    begins: u64,
    epoch: Epoch,
    energy: i64,
}

fn quarters(meter: &AssetId, kwha: i64, now: u64, epoch_ms: u64) -> Vec<Quarter> {
    // Whole epochs where they are longer than a quarter, so that none is booked in part.
    let step = if epoch_ms.is_multiple_of(QUARTER_MS) && epoch_ms <= QUARTERS * QUARTER_MS {
        epoch_ms
    } else {
        QUARTER_MS
    };
    let end = now / step * step;
    let first = end.saturating_sub(QUARTERS * QUARTER_MS);
    (0..QUARTERS)
        .filter_map(|i| {
            let begins = first + i * QUARTER_MS;
            let epoch = Epoch::new(begins.checked_div(epoch_ms)?).ok()?;
            Some(Quarter {
                begins,
                epoch,
                energy: energy(meter, kwha, begins),
            })
        })
        .collect()
}

/// What flows in the quarter that begins then, in Wh: profile × [0.75, 1.25).
fn energy(meter: &AssetId, kwha: i64, begins: u64) -> i64 {
    let hour = usize::try_from(begins / 3_600_000 % 24).unwrap_or(0);
    let name = format!("{meter}/{}", begins / QUARTER_MS);
    let noise = digest("demometer", name.as_bytes()).0;
    let noise = u64::from(u16::from_be_bytes([noise[0], noise[1]]));
    // A day's Wh × thousandths of the hour ÷ 4 × (0.75 + noise / 2), in one division.
    let share = i128::from(kwha) * 1000 * i128::from(PROFILE[hour]) * (i128::from(noise) + 98_304);
    let divisor = 365 * 1000 * 4 * 131_072;
    ledger::units::round_div(share, divisor)
        .and_then(|energy| i64::try_from(energy).ok())
        .unwrap_or(0)
}

fn reported(ledger: &Ledger, meter: &AssetId, epoch: Epoch) -> bool {
    let journal = ledger.journal(meter, epoch).unwrap_or_default();
    journal
        .statements
        .iter()
        .any(|statement| statement.meter() == Some(meter))
}

async fn populate(call: Call) -> Result<Answer, Fault> {
    let meter = call.params.required("meterId", params::asset)?;
    // As much as keeps every reading within what a settlement may have.
    let kwha = call
        .params
        .optional("kwha", rounded(0, MAX_SETTLEMENT / 1000))?
        .unwrap_or(KWH);
    // What was populated through another node must be seen here, or it would be booked again.
    call.backend.barrier().await?;
    let label = Label::try_from(LABEL).map_err(|what| call.params.invalid("meterId", what))?;
    let (quarters, booked) = {
        let quarters = {
            let ledger = call.ledger();
            let epoch_ms = ledger.epoch_ms().unwrap_or(QUARTER_MS);
            quarters(&meter, kwha, ledger.now().get(), epoch_ms)
        };
        let mut epochs: BTreeMap<Epoch, i64> = BTreeMap::new();
        for quarter in &quarters {
            *epochs.entry(quarter.epoch).or_default() += quarter.energy;
        }
        let mut booked = BTreeMap::new();
        for (epoch, energy) in epochs {
            let ledger = call.ledger_at(epoch).await?;
            if !reported(&ledger, &meter, epoch) {
                booked.insert(epoch, energy);
            }
        }
        (quarters, booked)
    };
    let settlements = booked
        .iter()
        .map(|(epoch, energy)| {
            let consumption = Wh::new(*energy).map_err(|error| Wrong::Range(error.to_string()));
            Ok(Settlement {
                meter: meter.clone(),
                epoch: *epoch,
                consumption: consumption.map_err(|_| call.params.invalid("kwha", "less"))?,
                label: label.clone(),
                co2eq: GramsCo2::ZERO,
                autoseal: None,
            })
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    let now = match settlements.is_empty() {
        true => None,
        false => Some(call.submit(Action::Settle { settlements }).await?.now),
    };
    let mut total = 0;
    let readings = quarters.iter().map(|quarter| {
        total += quarter.energy;
        json!({
            "meterId": meter,
            "time": quarter.begins,
            "epoch": quarter.epoch,
            "consumption": quarter.energy,
            "reading": total,
            "processed": booked.contains_key(&quarter.epoch),
        })
    });
    Ok(Answer {
        body: Value::from_iter(readings),
        now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(name: &str, epoch_ms: u64) -> Vec<Quarter> {
        let meter = AssetId::try_from(name).expect("a short name");
        quarters(&meter, 3500, 1_700_000_123_456, epoch_ms)
    }

    #[test]
    fn the_profile_is_a_whole_day() {
        assert_eq!(PROFILE.iter().sum::<u64>(), 1000);
    }

    #[test]
    fn a_day_has_96_quarters_and_about_a_days_energy() {
        for epoch_ms in [900_000, 3_600_000, 86_400_000, 60_000, 7_000_000] {
            let day = day("m", epoch_ms);
            assert_eq!(day.len(), 96);
            assert!(
                day.windows(2)
                    .all(|pair| pair[1].begins - pair[0].begins == QUARTER_MS)
            );
            assert!(
                day.iter()
                    .all(|quarter| quarter.epoch.get() == quarter.begins / epoch_ms)
            );
            let total: i64 = day.iter().map(|quarter| quarter.energy).sum();
            let expected = 3_500_000 / 365;
            assert!((total - expected).abs() < expected / 10, "{total}");
        }
    }

    #[test]
    fn hours_are_never_booked_in_part() {
        let mut count = BTreeMap::<u64, u32>::new();
        for quarter in day("m", 3_600_000) {
            *count.entry(quarter.epoch.get()).or_default() += 1;
        }
        assert!(
            count.len() == 24 && count.values().all(|quarters| *quarters == 4),
            "{count:?}"
        );
    }

    #[test]
    fn noise_is_the_meters_own_and_always_the_same() {
        let energies = |name| {
            day(name, 900_000)
                .into_iter()
                .map(|quarter| quarter.energy)
                .collect::<Vec<_>>()
        };
        assert_eq!(energies("a"), energies("a"));
        assert_ne!(energies("a"), energies("b"));
    }
}
