//! What the numbers in stored statements mean: names of assets, contracts and labels.

use crate::asset::Assets;
use crate::contract::Contracts;
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

    fn get(&self, number: u32) -> &Label {
        &self.labels[number as usize]
    }
}

/// What the numbers in stored statements mean.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) assets: &'a Assets,
    pub(crate) contracts: &'a Contracts,
    pub(crate) labels: &'a Labels,
}

impl Words<'_> {
    /// A stored statement with its names.
    pub(crate) fn statement(&self, epoch: Epoch, stored: &Stored) -> Statement {
        let contract = |number: u32| self.contracts.get(number).contract.terms.id.clone();
        let kind = match stored.tag {
            Tag::Metered { meter, label } => Kind::Metered {
                meter,
                label: self.labels.get(label).clone(),
            },
            Tag::Residual => Kind::Residual,
            Tag::Contract { contract: number } => {
                let terms = &self.contracts.get(number).contract.terms;
                let value = merit_order::value(terms, i128::from(stored.energy));
                // It was in range when it was booked, and terms never change.
                Kind::Contract {
                    contract: contract(number),
                    value: MicroCurrency::new(value).unwrap_or_default(),
                }
            }
            Tag::Counter { contract: number } => Kind::Counter {
                contract: contract(number),
            },
        };
        Statement {
            id: stored.id,
            from: self.assets.id(stored.from).clone(),
            to: self.assets.id(stored.to).clone(),
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
            from: self.assets.id(stored.from),
            to: self.assets.id(stored.to),
            epoch,
            energy: stored.energy,
            co2eq: stored.co2,
            meter,
            label: self.labels.get(label),
        };
        metered.digest()
    }
}

/// Stored energy was in range when it was booked.
fn clamped(energy: i64) -> Wh {
    Wh::new(energy.clamp(-MAX_FIGURE, MAX_FIGURE)).unwrap_or_default()
}
