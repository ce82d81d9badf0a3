//! Outcomes: what an action answered. Compact, because a retry must get the same one for as long as it may come:
//! seals and statements are immutable, so an outcome only names them.

use crate::asset::AssetId;
use crate::canonical::{canonical_enum, canonical_struct};
use crate::contract::Contract;
use crate::digest::ClusterId;
use crate::refusal::Refusal;
use crate::roster::RosterId;
use crate::seal::SealRef;
use std::sync::Arc;

/// What an action answered. `index` is the log index of the entry that did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing happened, for this reason.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The cluster began.
    Began {
        /// Its id.
        cluster: ClusterId,
        /// Where.
        index: u64,
    },
    /// An asset was made or changed.
    Asset {
        /// Where.
        index: u64,
        /// Whether it is new.
        created: bool,
    },
    /// A contract was made or changed.
    Contract {
        /// Where.
        index: u64,
        /// As it then was.
        contract: Contract,
    },
    /// A merit order was set.
    MeritOrder {
        /// Where.
        index: u64,
        /// The listed contracts, in order, as they then were.
        contracts: Vec<Contract>,
    },
    /// Settlements were booked: the statements `index.first` up to `index.(first + count − 1)`, one a settlement.
    Settled {
        /// Where.
        index: u64,
        /// The position of the first statement.
        first: u32,
        /// How many.
        count: u32,
        /// What became of each `autoseal`, in order.
        autoseals: Vec<Autoseal>,
    },
    /// A roster was taken down, or was there already.
    Roster {
        /// Where it was asked for.
        index: u64,
        /// Its name.
        roster: RosterId,
    },
    /// `(asset, epoch)` was sealed or corrected.
    Sealed {
        /// Where; also the block's index.
        index: u64,
        /// Which seal.
        seal: SealRef,
    },
    /// An epoch was sealed as far as it could be.
    EpochSealed {
        /// Where; also the block's index, if any seal was made.
        index: u64,
        /// The seals, in order.
        seals: Arc<[SealRef]>,
        /// What is still open and why, in id order.
        held: Vec<Held>,
    },
    /// An audit rule was set.
    AuditRule {
        /// Where.
        index: u64,
    },
    /// An approval was taken down.
    Approved {
        /// Where.
        index: u64,
        /// How many count now.
        approvals: u32,
    },
    /// A node's key was registered or revoked.
    Node {
        /// Where.
        index: u64,
    },
}

canonical_enum!(Outcome {
    0 => Refused { refusal },
    1 => Began { cluster, index },
    2 => Asset { index, created },
    3 => Contract { index, contract },
    4 => MeritOrder { index, contracts },
    5 => Settled { index, first, count, autoseals },
    6 => Sealed { index, seal },
    7 => EpochSealed { index, seals, held },
    8 => AuditRule { index },
    9 => Approved { index, approvals },
    10 => Node { index },
    11 => Roster { index, roster },
});

impl Outcome {
    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Outcome::Refused { refusal } => Some(refusal),
            _ => None,
        }
    }

    /// The index of the entry that did something.
    pub fn index(&self) -> Option<u64> {
        match self {
            Outcome::Refused { .. } => None,
            Outcome::Began { index, .. }
            | Outcome::Asset { index, .. }
            | Outcome::Contract { index, .. }
            | Outcome::MeritOrder { index, .. }
            | Outcome::Settled { index, .. }
            | Outcome::Sealed { index, .. }
            | Outcome::EpochSealed { index, .. }
            | Outcome::AuditRule { index }
            | Outcome::Approved { index, .. }
            | Outcome::Node { index }
            | Outcome::Roster { index, .. } => Some(*index),
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        Outcome::Refused { refusal }
    }
}

/// An asset that a whole-epoch sealing left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub asset: AssetId,
    /// Why.
    pub refusal: Refusal,
}

canonical_struct!(Held { asset, refusal });

/// What became of a settlement's `autoseal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Autoseal {
    /// The settlement's place in its batch.
    pub settlement: u32,
    /// The seal, or why there is none. It never undoes the settlement.
    pub result: Result<SealRef, Refusal>,
}

canonical_struct!(Autoseal { settlement, result });
