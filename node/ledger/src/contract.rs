//! A contract (PPA): a trade between an asset and a partner that no meter sees.
//!
//! What was agreed ([`Terms`]) never changes; status, priority and the energy booked so far do.

use crate::asset::{AssetId, Handle, ROOT};
use crate::canonical::{canonical_struct, words};
use crate::chunks::Chunks;
use crate::event::Event;
use crate::id::name;
use crate::ledger::{Ledger, Work};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::units::{Epoch, MicroCurrency, Wh};
use std::collections::BTreeMap;

name!(
    /// The name of a contract: 1–128 characters, no control characters.
    ContractId, "a contract id", reserved: false
);

words!(
    /// Which way the energy goes, seen from the owner.
    Direction: "direction" {
        /// The owner sells to the partner.
        To = "to",
        /// The owner buys from the partner.
        From = "from",
    }
);

words!(
    /// How the quantity is found when the owner is sealed.
    Delivery: "delivery" {
        /// What the owner's side offers; the partner takes what comes.
        AsAvailable = "as_available",
        /// Never more than both sides have.
        Matched = "matched",
        /// The full quantity, whatever the positions.
        Firm = "firm",
    }
);

words!(
    /// Where a contract stands.
    Status: "status" {
        /// Awaits the partner's confirmation.
        Proposed = "proposed",
        /// Is served.
        Active = "active",
        /// Is not served for now.
        Suspended = "suspended",
        /// Is never served again.
        Cancelled = "cancelled",
    }
);

/// What the parties agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its name.
    pub id: ContractId,
    /// The owner: at whose sealing it is served.
    pub asset: AssetId,
    /// The other party.
    pub partner: AssetId,
    /// Who sells.
    pub direction: Direction,
    /// How the quantity is found.
    pub delivery: Delivery,
    /// At most this much in an epoch; not negative.
    pub energy: Wh,
    /// A booking below this is none; not negative.
    pub load_min: Wh,
    /// At most this much in an epoch, too; not negative.
    pub load_max: Option<Wh>,
    /// At most this much in its life; not negative.
    pub energy_total: Option<Wh>,
    /// The first epoch it is valid in; from the beginning if missing.
    pub valid_from: Option<Epoch>,
    /// The last epoch it is valid in; for ever if missing.
    pub valid_until: Option<Epoch>,
    /// Of one kilowatt-hour, in millionths of the currency.
    pub price: MicroCurrency,
}

canonical_struct!(Terms {
    id,
    asset,
    partner,
    direction,
    delivery,
    energy,
    load_min,
    load_max,
    energy_total,
    valid_from,
    valid_until,
    price
});

impl Terms {
    /// Whether `epoch` is within `valid_from..=valid_until`.
    pub fn valid_in(&self, epoch: Epoch) -> bool {
        self.valid_from.is_none_or(|first| first <= epoch)
            && self.valid_until.is_none_or(|last| epoch <= last)
    }

    /// The name of a quantity that is negative, if one is.
    pub fn negative(&self) -> Option<&'static str> {
        let negative = |figure: Option<Wh>| figure.is_some_and(|f| f.get() < 0);
        if negative(Some(self.energy)) {
            Some("energy")
        } else if negative(Some(self.load_min)) {
            Some("load_min")
        } else if negative(self.load_max) {
            Some("load_max")
        } else if negative(self.energy_total) {
            Some("energy_total")
        } else {
            None
        }
    }
}

/// A contract as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// What was agreed.
    pub terms: Terms,
    /// Where it stands.
    pub status: Status,
    /// Its place in the merit order of its owner: the lowest is served first.
    pub priority: i64,
    /// What it has booked in its life, in watt-hours.
    pub balanced: i128,
}

canonical_struct!(Contract {
    terms,
    status,
    priority,
    balanced
});

impl Contract {
    /// Whether it is served in this epoch at all: active and valid.
    pub fn served_in(&self, epoch: Epoch) -> bool {
        self.status == Status::Active && self.terms.valid_in(epoch)
    }
}

words!(
    /// What a party can do to a contract.
    Change: "change of a contract" {
        /// Proposed becomes active.
        Confirm = "confirm",
        /// Active becomes suspended.
        Suspend = "suspend",
        /// Suspended becomes active.
        Activate = "activate",
        /// Becomes cancelled, for good.
        Cancel = "cancel",
    }
);

impl Change {
    /// The status this leads to from `status`; `None` where it is refused. Asking for what already is, is fine.
    pub fn from(self, status: Status) -> Option<Status> {
        match (self, status) {
            (Change::Confirm, Status::Proposed | Status::Active) => Some(Status::Active),
            (Change::Suspend, Status::Active | Status::Suspended) => Some(Status::Suspended),
            (Change::Activate, Status::Suspended | Status::Active) => Some(Status::Active),
            (Change::Cancel, _) => Some(Status::Cancelled),
            _ => None,
        }
    }
}

/// A contract with what the ledger needs to serve it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) contract: Contract,
    /// The number of its partner.
    pub(crate) partner: Handle,
    /// What it booked in each epoch, in watt-hours.
    pub(crate) booked: BTreeMap<Epoch, i128>,
}

/// All contracts, numbered in the order in which they were made, and by name.
#[derive(Debug, Default)]
pub(crate) struct Contracts {
    records: Chunks<Record>,
    by_id: BTreeMap<ContractId, u32>,
}

impl Contracts {
    pub(crate) fn get(&self, number: u32) -> &Record {
        self.records.at(number as usize)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> &mut Record {
        self.records.at_mut(number as usize)
    }

    pub(crate) fn number(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn known(&self, id: &ContractId) -> Result<u32, Refusal> {
        self.number(id.as_str())
            .ok_or_else(|| Refusal::UnknownContract { contract: id.clone() })
    }

    /// In id order.
    pub(crate) fn ordered(&self) -> impl Iterator<Item = &Record> {
        self.by_id.values().map(|number| self.get(*number))
    }

    /// In the order in which they were made; a clone shares them.
    pub(crate) fn records(&self) -> &Chunks<Record> {
        &self.records
    }

    pub(crate) fn push(&mut self, record: Record) -> u32 {
        // Names of 2^32 contracts would not fit into memory.
        let number = u32::try_from(self.records.len()).expect("less than 2^32 contracts");
        self.by_id.insert(record.contract.terms.id.clone(), number);
        self.records.push(record);
        number
    }
}

impl Ledger {
    /// Whether a contract may be made.
    ///
    /// # Errors
    /// The refusal that making it would answer.
    pub fn check_contract(&self, terms: &Terms, priority: i64) -> Result<(), Refusal> {
        if terms.asset == *ROOT || terms.partner == *ROOT {
            return Err(Refusal::RootIsNoParty {});
        }
        if self.contracts.number(terms.id.as_str()).is_some() {
            return Err(Refusal::ContractExists {
                contract: terms.id.clone(),
            });
        }
        if terms.asset == terms.partner {
            return Err(Refusal::SameParty {
                asset: terms.asset.clone(),
            });
        }
        if let Some(figure) = terms.negative() {
            return Err(Refusal::OutOfRange {
                figure: figure.to_owned(),
            });
        }
        if priority.unsigned_abs() > crate::units::MAX_FIGURE.unsigned_abs() {
            return Err(Refusal::OutOfRange {
                figure: "priority".to_owned(),
            });
        }
        Ok(())
    }

    /// Makes a contract; its parties become assets.
    pub(crate) fn add_contract(
        &mut self,
        work: &mut Work,
        terms: &Terms,
        status: Status,
        priority: i64,
    ) -> Result<Outcome, Refusal> {
        self.check_contract(terms, priority)?;
        let owner = self.named(work, &terms.asset);
        let partner = self.named(work, &terms.partner);
        let contract = Contract {
            terms: terms.clone(),
            status,
            priority,
            balanced: 0,
        };
        let number = self.contracts.push(Record {
            contract: contract.clone(),
            partner,
            booked: BTreeMap::new(),
        });
        self.assets.get_mut(owner).contracts.push(number);
        work.event(Event::ContractSet {
            contract: contract.clone(),
        });
        Ok(Outcome::Contract {
            index: work.index,
            contract,
        })
    }

    /// Confirms, suspends, activates or cancels a contract.
    pub(crate) fn change_contract(
        &mut self,
        work: &mut Work,
        id: &ContractId,
        change: Change,
    ) -> Result<Outcome, Refusal> {
        let number = self.contracts.known(id)?;
        let contract = &mut self.contracts.get_mut(number).contract;
        let status = contract.status;
        contract.status = change.from(status).ok_or_else(|| Refusal::ContractStatus {
            contract: id.clone(),
            status,
        })?;
        let contract = contract.clone();
        work.event(Event::ContractSet {
            contract: contract.clone(),
        });
        Ok(Outcome::Contract {
            index: work.index,
            contract,
        })
    }
}
