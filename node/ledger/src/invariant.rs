//! Invariants I1–I6, for tests and the simulator: one file each, on public reads and events alone, with none of the
//! sealing's own arithmetic.
//!
//! A [`Witness`] sees every entry's [`Applied`] in order and remembers what must never change. It costs what the
//! touched epochs hold, so it is no part of a running node.

mod caps;
mod closure;
mod conservation;
mod prefix;
mod unique;
mod upstream;

use crate::asset::AssetId;
use crate::contract::{Contract, ContractId};
use crate::digest::Digest;
use crate::event::Event;
use crate::ledger::{Applied, Ledger};
use crate::seal::SealRef;
use crate::statement::{Statement, StatementId};
use crate::units::Epoch;
use std::collections::{BTreeMap, BTreeSet};

/// An invariant that doesn't hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} is violated after entry {index}: {detail}")]
pub struct Violation {
    /// Its name in the specification.
    pub invariant: &'static str,
    /// The entry after which it was found.
    pub index: u64,
    /// What was found.
    pub detail: String,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Witness {
    /// Each journal's sealed prefix.
    prefixes: BTreeMap<(AssetId, Epoch), Vec<Statement>>,
    /// Each seal's digest.
    seals: BTreeMap<SealRef, Digest>,
    /// Every contract as last announced, and what it booked: in its life and in each epoch.
    contracts: BTreeMap<ContractId, Contract>,
    booked: BTreeMap<ContractId, i128>,
    booked_in: BTreeMap<(ContractId, Epoch), i128>,
    /// The index of the last entry that set a rule.
    last_rule: u64,
    /// The digest of the newest header.
    head: Digest,
    /// How often I4's premise held of an asset.
    upstreams: u64,
}

impl Witness {
    /// One that has seen nothing.
    pub fn new() -> Witness {
        Witness::default()
    }

    /// All seals seen so far: I6 asks that they be equal on all nodes.
    pub fn seals(&self) -> &BTreeMap<SealRef, Digest> {
        &self.seals
    }

    /// How often the premise of I4 held of an asset, so that I4 was really checked.
    pub fn upstreams_checked(&self) -> u64 {
        self.upstreams
    }

    /// Checks all invariants after an entry.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn observe(&mut self, ledger: &Ledger, applied: &Applied) -> Result<(), Violation> {
        let mut touched: BTreeSet<Epoch> = BTreeSet::new();
        let mut sealed = Vec::new();
        for event in &applied.events {
            match event {
                Event::RuleSet { .. } => self.last_rule = applied.index,
                Event::Booked { statement } => {
                    touched.insert(statement.epoch);
                }
                Event::RosterBooked { epoch, .. } => {
                    touched.insert(*epoch);
                }
                Event::Sealed(event) => {
                    touched.insert(event.seal.epoch);
                    sealed.push(event.as_ref());
                }
                _ => {}
            }
        }
        let named = |invariant: &'static str| {
            move |detail: String| Violation {
                invariant,
                index: applied.index,
                detail,
            }
        };
        self.caps(&applied.events)
            .map_err(named("I5 (caps and merit order)"))?;
        self.unique(ledger, applied, &sealed)
            .map_err(named("I6 (one seal each)"))?;
        for epoch in &touched {
            conservation::check(ledger, *epoch).map_err(named("I1 (conservation)"))?;
            if !sealed.is_empty() && self.rules_stood_in(ledger, *epoch) {
                self.upstreams +=
                    upstream::check(ledger, *epoch).map_err(named("I4 (nobody's upstream moves)"))?;
            }
        }
        for event in &sealed {
            closure::check(ledger, &event.seal).map_err(named("I3 (closure)"))?;
        }
        self.prefixes(ledger, &touched, &sealed)
            .map_err(named("I2 (sealed prefixes)"))
    }

    /// Whether no rule was set since the first statement of the epoch was booked.
    fn rules_stood_in(&self, ledger: &Ledger, epoch: Epoch) -> bool {
        let first: Option<StatementId> = ledger.statements(epoch).next().map(|statement| statement.id);
        first.is_some_and(|first| self.last_rule < first.index)
    }
}
