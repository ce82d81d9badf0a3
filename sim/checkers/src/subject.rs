//! What is judged: a ledger, seen from outside.
//!
//! The crate knows nothing of the product. Whoever has a ledger says here, in the oracle's words, what it did with an
//! entry, and the checkers say whether that is right.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;

use crate::oracle::digest::Hash;
use crate::oracle::entry::{Key, Nonce};
use crate::oracle::model::Statement;

/// What a ledger did with an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// One an envelope.
    pub answers: Vec<Told>,
    /// What was booked, with its position in the entry, in order.
    pub booked: Vec<(u64, Statement)>,
    /// The digests of the seals that were made, in order.
    pub seals: Vec<Hash>,
    /// The header of the block that was made, as it is signed.
    pub block: Option<String>,
    /// One an attestation: `None` if it counts, else the code of its refusal.
    pub attested: Vec<Option<String>>,
    /// The blocks that were certified.
    pub certified: Vec<u64>,
}

/// What an envelope was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// As [`crate::oracle::answer::Answer`] is shown.
    pub answer: String,
    /// Whether it is a retry, which did nothing.
    pub duplicate: bool,
}

/// A ledger.
pub trait Subject: Sized {
    /// One before all entries.
    fn new() -> Self;

    /// The one that a snapshot holds.
    ///
    /// # Errors
    /// The bytes are no snapshot; why.
    fn restore(snapshot: &[u8]) -> Result<Self, String>;

    /// The same, where the snapshot may refer to files, by their names.
    ///
    /// # Errors
    /// The bytes are no snapshot, or a file is missing or wrong; why.
    fn restore_with(snapshot: &[u8], file: &dyn Fn(&str) -> Option<Bytes>) -> Result<Self, String> {
        let _ = file;
        Self::restore(snapshot)
    }

    /// A leader began.
    fn apply_blank(&mut self, index: u64);

    /// Raft's membership changes.
    fn apply_membership(&mut self, index: u64, configs: &[BTreeSet<u64>]);

    /// An entry with these bytes.
    fn apply(&mut self, index: u64, bytes: &[u8]) -> Applied;

    /// Its running digest.
    fn state(&self) -> Hash;

    /// All of it as bytes, wherever it lies.
    fn snapshot(&self) -> Vec<u8>;

    /// Whether it remembers something of an envelope, and the same as another.
    ///
    /// # Errors
    /// It doesn't; what each remembers, in any words.
    fn remembers_like(&self, other: &Self, signer: &Key, nonce: &Nonce) -> Result<(), String>;

    /// In what it differs from another, as far as it can be asked; what it remembers of envelopes aside.
    fn difference(&self, other: &Self) -> Option<String>;

    /// The digest of the seal that a proof proves, by the ledger's own verifier, to someone who has a list of keys.
    ///
    /// # Errors
    /// It proves nothing; why.
    fn verify(proof: &Value, keys: &[(u64, Key)]) -> Result<Hash, String>;
}
