//! The merit order: an asset's contracts in the order they are served, and what each takes at its turn.
//!
//! Pure functions on plain numbers, used by the ledger when it seals and by the balancing actors when they
//! recompute the seal on their own memory.

use crate::asset::{AssetId, Handle};
use crate::balance::Flow;
use crate::canonical::{canonical_enum, words};
use crate::contract::{Contract, ContractId, Delivery, Direction, Terms};
use crate::event::Event;
use crate::ledger::{Ledger, Work};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::units::{Epoch, round_div};
use std::collections::BTreeSet;

words!(
    /// Why a contract that was walked booked nothing.
    Reason: "reason" {
        /// The partner's epoch was sealed before.
        PartnerSealed = "partner_sealed",
        /// Its caps leave nothing.
        Fulfilled = "fulfilled",
        /// There is nothing to sell, to buy, or no room for it.
        Exhausted = "exhausted",
        /// What could be booked is less than the least load.
        BelowLoadMin = "below_load_min",
    }
);

/// What the owner's sealing sees of a partner at a contract's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartnerView {
    /// The partner is sealed in this epoch.
    Sealed {},
    /// It is not: its position over the unsealed part of its journal, with the CO2 that belongs to it.
    Open {
        /// What it has to sell (+) or must buy (−) at this moment.
        position: Flow,
    },
}

canonical_enum!(PartnerView { 0 => Sealed {}, 1 => Open { position } });

/// What a contract takes at its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// Watt-hours, at least 0.
    pub energy: i128,
    /// Why nothing, where it is nothing.
    pub reason: Option<Reason>,
}

/// Where a contract stands in its owner's merit order: by priority, then by id in byte order.
pub fn rank(contract: &Contract) -> (i64, &ContractId) {
    (contract.priority, &contract.terms.id)
}

/// How much the contract may still book: the least of `energy` and `load_max`, less what it booked in this epoch,
/// and of `energy_total − balanced`; at least 0.
pub fn cap(terms: &Terms, booked_in_epoch: i128, balanced: i128) -> i128 {
    let per_epoch = terms
        .load_max
        .map_or(terms.energy, |max| max.min(terms.energy))
        .wide()
        - booked_in_epoch;
    let in_life = terms
        .energy_total
        .map_or(per_epoch, |total| total.wide() - balanced);
    per_epoch.min(in_life).max(0)
}

/// What the contract takes, `position` being the owner's (step 4, less what better-placed contracts took).
pub fn take(
    terms: &Terms,
    booked_in_epoch: i128,
    balanced: i128,
    position: i128,
    partner: PartnerView,
) -> Take {
    let PartnerView::Open { position: theirs } = partner else {
        return Take {
            energy: 0,
            reason: Some(Reason::PartnerSealed),
        };
    };
    let cap = cap(terms, booked_in_epoch, balanced);
    let (avail, room) = match terms.direction {
        Direction::To => (position.max(0), (-theirs.energy).max(0)),
        Direction::From => ((-position).max(0), theirs.energy.max(0)),
    };
    let energy = match terms.delivery {
        Delivery::AsAvailable => avail.min(cap),
        Delivery::Matched => avail.min(room).min(cap),
        Delivery::Firm => cap,
    };
    let reason = if cap == 0 {
        Some(Reason::Fulfilled)
    } else if energy == 0 {
        Some(Reason::Exhausted)
    } else if energy < terms.load_min.wide() {
        Some(Reason::BelowLoadMin)
    } else {
        None
    };
    Take {
        energy: if reason.is_some() { 0 } else { energy },
        reason,
    }
}

/// The CO2 that `energy` of the seller's carries: `round(C × q / P)`, 0 where the seller has nothing to sell.
pub fn intensity(seller: Flow, energy: i128) -> i128 {
    if seller.energy <= 0 {
        return 0;
    }
    #[cfg(feature = "planted")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "that is the bug"
    )]
    if planted!("float-co2") {
        return (seller.co2 as f32 / seller.energy as f32 * energy as f32).round() as i128;
    }
    // Positions beyond 2^74 would overflow the product; a seal with such figures is refused anyway.
    seller
        .co2
        .checked_mul(energy)
        .and_then(|product| round_div(product, seller.energy))
        .unwrap_or(i128::MAX)
}

/// What `energy` costs: `round(q × price / 1000)`, in millionths of the currency.
pub fn value(terms: &Terms, energy: i128) -> i128 {
    energy
        .checked_mul(terms.price.wide())
        .and_then(|product| round_div(product, 1000))
        .unwrap_or(i128::MAX)
}

impl Ledger {
    /// An asset's own contracts that are served in `epoch`, in merit order, each with what it booked there already.
    pub(crate) fn served(&self, owner: Handle, epoch: Epoch) -> Vec<(&Contract, i128)> {
        let mut served: Vec<(&Contract, i128)> = self
            .assets
            .get(owner)
            .contracts
            .iter()
            .map(|number| self.contracts.get(*number))
            .filter(|record| record.contract.served_in(epoch))
            .map(|record| (&record.contract, record.booked.get(&epoch).copied().unwrap_or(0)))
            .collect();
        if planted!("tie-by-arrival") {
            served.sort_by_key(|(contract, _)| contract.priority);
        } else {
            served.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)));
        }
        served
    }

    /// Gives the listed contracts of `asset` the priorities 1, 2, 3…; others keep theirs.
    pub(crate) fn set_merit_order(
        &mut self,
        work: &mut Work,
        asset: &AssetId,
        listed: &[ContractId],
    ) -> Result<Outcome, Refusal> {
        self.assets.known(asset)?;
        let mut numbers = Vec::with_capacity(listed.len());
        let mut seen = BTreeSet::new();
        for id in listed {
            let number = self.contracts.known(id)?;
            if self.contracts.get(number).contract.terms.asset != *asset {
                return Err(Refusal::ForeignContract {
                    contract: id.clone(),
                    asset: asset.clone(),
                });
            }
            if !seen.insert(number) {
                return Err(Refusal::RepeatedContract { contract: id.clone() });
            }
            numbers.push(number);
        }
        let mut contracts = Vec::with_capacity(numbers.len());
        for (number, priority) in numbers.into_iter().zip(1..) {
            let contract = &mut self.contracts.get_mut(number).contract;
            contract.priority = priority;
            contracts.push(contract.clone());
            work.event(Event::ContractSet {
                contract: contract.clone(),
            });
        }
        Ok(Outcome::MeritOrder {
            index: work.index,
            contracts,
        })
    }
}
