//! What the numbers in stored statements mean: names of assets, contracts and labels.

use crate::asset::{self, AssetId, Handle};
use crate::chunks::Chunks;
use crate::contract;
use crate::digest::Digest;
use crate::merit_order;
use crate::statement::{Kind, Label, Metered, Statement};
use crate::stored::{Stored, Tag};
use crate::units::{Epoch, GramsCo2, MAX_FIGURE, MicroCurrency, Wh};
use std::collections::BTreeMap;

/// Labels by number.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    labels: Vec<Label>,
    by_label: BTreeMap<Label, u32>,
}

impl Labels {
    pub(crate) fn number(&mut self, label: &Label) -> u32 {
        if let Some(number) = self.by_label.get(label) {
            return *number;
        }
        // Labels of 2^32 kinds would not fit into memory.
        let number = u32::try_from(self.labels.len()).expect("less than 2^32 labels");
        self.labels.push(label.clone());
        self.by_label.insert(label.clone(), number);
        number
    }

    /// The number of a label that has one.
    pub(crate) fn known(&self, label: &Label) -> Option<u32> {
        self.by_label.get(label).copied()
    }

    /// In the order of their numbers.
    pub(crate) fn all(&self) -> &[Label] {
        &self.labels
    }
}

/// What the numbers in stored statements mean.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) assets: &'a Chunks<asset::Record>,
    pub(crate) contracts: &'a Chunks<contract::Record>,
    pub(crate) labels: &'a [Label],
}

impl<'a> Words<'a> {
    pub(crate) fn asset(&self, handle: Handle) -> &'a AssetId {
        &self.assets.at(handle as usize).asset.id
    }

    fn contract(&self, number: u32) -> &'a contract::Terms {
        &self.contracts.at(number as usize).contract.terms
    }

    fn label(&self, number: u32) -> &'a Label {
        &self.labels[number as usize]
    }

    /// A stored statement with its names.
    pub(crate) fn statement(&self, epoch: Epoch, stored: &Stored) -> Statement {
        let kind = match stored.tag {
            Tag::Metered { meter, label } => Kind::Metered {
                meter,
                label: self.label(label).clone(),
            },
            Tag::Residual => Kind::Residual,
            Tag::Contract { contract: number } => {
                let terms = self.contract(number);
                let value = merit_order::value(terms, i128::from(stored.energy));
                // It was in range when it was booked, and terms never change.
                Kind::Contract {
                    contract: self.contract(number).id.clone(),
                    value: MicroCurrency::new(value).unwrap_or_default(),
                }
            }
            Tag::Counter { contract: number } => Kind::Counter {
                contract: self.contract(number).id.clone(),
            },
        };
        Statement {
            id: stored.id,
            from: self.asset(stored.from).clone(),
            to: self.asset(stored.to).clone(),
            epoch,
            energy: clamped(stored.energy),
            co2eq: GramsCo2::new(stored.co2).unwrap_or_default(),
            kind,
        }
    }

    /// Its digest. Most statements are metered: those are hashed without being made.
    pub(crate) fn digest(&self, epoch: Epoch, stored: &Stored) -> Digest {
        let Tag::Metered { meter, label } = stored.tag else {
            return self.statement(epoch, stored).digest();
        };
        let metered = Metered {
            id: stored.id,
            from: self.asset(stored.from),
            to: self.asset(stored.to),
            epoch,
            energy: stored.energy,
            co2eq: stored.co2,
            meter,
            label: self.label(label),
        };
        metered.digest()
    }
}

/// Stored energy was in range when it was booked.
fn clamped(energy: i64) -> Wh {
    Wh::new(energy.clamp(-MAX_FIGURE, MAX_FIGURE)).unwrap_or_default()
}
