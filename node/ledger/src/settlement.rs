//! A settlement: a metered amount for `(meter, epoch)`, the only source of physical energy in the ledger.

use crate::asset::{AssetId, Handle, Links, ROOT, ROOT_HANDLE};
use crate::canonical::canonical_struct;
use crate::event::Event;
use crate::ledger::{Ledger, Work};
use crate::outcome::{Autoseal, Outcome};
use crate::refusal::Refusal;
use crate::rule::Rule;
use crate::statement::{Label, MeterSide};
use crate::stored::{Stored, Tag};
use crate::units::{Epoch, GramsCo2, MAX_SETTLEMENT, Wh};
use serde::{Deserialize, Serialize};

/// What a meter operator reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The meter; it becomes an asset if it is none yet.
    pub meter: AssetId,
    /// The time unit it was measured in.
    pub epoch: Epoch,
    /// How much flowed; negative swaps the sides. At most 2^40 Wh in magnitude.
    pub consumption: Wh,
    /// The tariff or channel, as given by the meter operator.
    pub label: Label,
    /// The CO2 it carries, as given. At most 2^40 g in magnitude.
    pub co2eq: GramsCo2,
    /// Seal this meter's epoch this many epochs earlier once the whole batch is booked.
    pub autoseal: Option<u64>,
}

canonical_struct!(Settlement {
    meter,
    epoch,
    consumption,
    label,
    co2eq,
    autoseal
});

impl Settlement {
    /// The name of the figure that is beyond ±2^40, if one is.
    pub fn out_of_range(&self) -> Option<&'static str> {
        if beyond(self.consumption.get()) {
            Some("consumption")
        } else if beyond(self.co2eq.get()) {
            Some("co2eq")
        } else {
            None
        }
    }
}

/// Whether a settlement's figure is beyond ±2^40.
pub(crate) fn beyond(figure: i64) -> bool {
    figure.unsigned_abs() > MAX_SETTLEMENT.unsigned_abs()
}

/// The same as [`flow`], on numbers instead of names: the meter's side, then who delivers and who receives.
pub(crate) fn sides(links: Links, meter: Handle, consumption: i64) -> (MeterSide, Handle, Handle) {
    let (side, partner) = match (links.to(), links.from()) {
        (Some(to), _) => (MeterSide::From, to),
        (None, Some(from)) => (MeterSide::To, from),
        (None, None) => (MeterSide::To, ROOT_HANDLE),
    };
    match if consumption < 0 { side.other() } else { side } {
        MeterSide::From => (MeterSide::From, meter, partner),
        MeterSide::To => (MeterSide::To, partner, meter),
    }
}

/// Where a settlement flows: on which side the meter stands and who stands on the other.
///
/// With `to` the meter delivers to it, else with `from` it draws from it, else it draws from the root. A negative
/// amount swaps the sides.
pub fn flow(rule: &Rule, consumption: Wh) -> (MeterSide, AssetId) {
    let (side, partner) = match (&rule.to, &rule.from) {
        (Some(to), _) => (MeterSide::From, to.clone()),
        (None, Some(from)) => (MeterSide::To, from.clone()),
        (None, None) => (MeterSide::To, ROOT.clone()),
    };
    (if consumption.get() < 0 { side.other() } else { side }, partner)
}

impl Ledger {
    /// Books a batch in order, all or none; then makes the seals that it asks for.
    pub(crate) fn settle(&mut self, work: &mut Work, batch: &[Settlement]) -> Result<Outcome, Refusal> {
        let first = work.next_position();
        for settlement in batch {
            if settlement.meter == *ROOT {
                return Err(Refusal::RootIsNoMeter {});
            }
            if planted!("batch-in-part") {
                self.book_settlement(work, settlement);
            }
            if let Some(figure) = settlement.out_of_range() {
                return Err(Refusal::OutOfRange {
                    figure: figure.to_owned(),
                });
            }
        }
        for settlement in batch {
            if !planted!("batch-in-part") {
                self.book_settlement(work, settlement);
            }
        }
        let mut autoseals = Vec::new();
        for (settlement, place) in batch.iter().zip(0u32..) {
            let Some(back) = settlement.autoseal else { continue };
            let result = match settlement.epoch.earlier(back) {
                Some(epoch) => self.seal(work, &settlement.meter, epoch),
                None => Err(Refusal::OutOfRange {
                    figure: "autoseal".to_owned(),
                }),
            };
            autoseals.push(Autoseal {
                settlement: place,
                result,
            });
        }
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        Ok(Outcome::Settled {
            index: work.index,
            first,
            count,
            autoseals,
        })
    }

    fn book_settlement(&mut self, work: &mut Work, settlement: &Settlement) {
        let meter = self.named(work, &settlement.meter);
        let (side, from, to) = sides(self.assets.links(meter), meter, settlement.consumption.get());
        let stored = Stored {
            id: work.next_id(),
            from,
            to,
            energy: settlement.consumption.get().abs(),
            co2: settlement.co2eq.get(),
            tag: Tag::Metered {
                meter: side,
                label: self.labels.number(&settlement.label),
            },
        };
        self.append(settlement.epoch, stored);
        let statement = self.statement_of(settlement.epoch, &stored);
        work.event(Event::Booked { statement });
    }
}
