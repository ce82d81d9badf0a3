//! The product's ledger with something odd about it, which a checker must notice.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;

use super::product::Product;
use checkers::subject::{Applied, Subject};

/// Once restored it hands on one byte more in its snapshots.
pub(super) type HandsOnMore = Odd<MORE>;
/// Its snapshots refer to a file, `a file`, whose content is `whole`.
pub(super) type Filed = Odd<FILED>;
/// It says that it booked a watt-hour more in entry 3.
pub(super) type Liar = Odd<LIES>;

const MORE: char = 'm';
const FILED: char = 'f';
const LIES: char = 'l';

/// The product's ledger, and what is odd about it.
pub(super) struct Odd<const WHAT: char> {
    ledger: Product,
    /// Of which entry it says that it did something else, and what.
    pub(super) at: u64,
    pub(super) how: fn(&mut Applied),
    restored: bool,
}

impl<const WHAT: char> Subject for Odd<WHAT> {
    fn new() -> Self {
        Odd {
            ledger: Product::new(),
            at: if WHAT == LIES { 3 } else { 0 },
            how: |applied| {
                if WHAT == LIES {
                    applied.booked[0].1.energy += 1;
                }
            },
            restored: false,
        }
    }

    fn restore(snapshot: &[u8]) -> Result<Self, String> {
        Product::restore(snapshot).map(|ledger| Odd {
            ledger,
            restored: true,
            ..Odd::new()
        })
    }

    fn restore_with(snapshot: &[u8], file: &dyn Fn(&str) -> Option<Bytes>) -> Result<Self, String> {
        let content = (WHAT == FILED).then(|| file("a file"));
        match content {
            None => Odd::restore(snapshot),
            Some(Some(content)) if content == "whole" => Odd::restore(snapshot),
            Some(content) => Err(format!("{content:?}")),
        }
    }

    fn apply_blank(&mut self, index: u64) {
        self.ledger.apply_blank(index);
    }

    fn apply_membership(&mut self, index: u64, configs: &[BTreeSet<u64>]) {
        self.ledger.apply_membership(index, configs);
    }

    fn apply(&mut self, index: u64, bytes: &[u8]) -> Applied {
        let mut applied = self.ledger.apply(index, bytes);
        if index == self.at {
            (self.how)(&mut applied);
        }
        applied
    }

    fn state(&self) -> [u8; 32] {
        self.ledger.state()
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = self.ledger.snapshot();
        bytes.extend((WHAT == MORE && self.restored).then_some(0));
        bytes
    }

    fn remembers_like(&self, other: &Self, signer: &[u8; 32], nonce: &[u8; 16]) -> Result<(), String> {
        self.ledger.remembers_like(&other.ledger, signer, nonce)
    }

    fn difference(&self, other: &Self) -> Option<String> {
        self.ledger.difference(&other.ledger)
    }

    fn verify(proof: &Value, keys: &[(u64, [u8; 32])]) -> Result<[u8; 32], String> {
        Product::verify(proof, keys)
    }
}
