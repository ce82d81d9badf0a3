//! The pure core of GridSeal: what every node computes.
//!
//! Any two [`Ledger`]s that are given the same entries in the same order hold the same state and make the same
//! seals, byte for byte. [`Ledger::apply`] is the one way to change anything; it is total (a refusal is an
//! answer, garbage is a refusal), deterministic and never panics.
//!
//! Each word of the specification lives in the file of its name: [`units`], [`asset`], [`rule`],
//! [`settlement`], [`roster`], [`contract`], [`merit_order`], [`statement`], [`journal`], [`balance`], [`seal`], [`epoch`],
//! [`correction`], [`audit`], [`block`], [`certificate`], [`envelope`], [`nonce`], [`outcome`], [`refusal`],
//! [`snapshot`], [`invariant`]. How bytes look is in [`canonical`] and nowhere else.
//!
//! Absent on purpose: clocks (time is the stamp in the [`entry`]), randomness, I/O, threads, floating point,
//! signing (only verification), HTTP and everything about Raft but the sets of voters it tells us.

/// Whether this bug is planted: always `false`, except in the simulator's own build (see the crate `planted`).
macro_rules! planted {
    ($name:literal) => {{
        #[cfg(feature = "planted")]
        {
            ::planted::is($name)
        }
        #[cfg(not(feature = "planted"))]
        {
            false
        }
    }};
}

pub mod action;
pub mod asset;
pub mod audit;
pub mod balance;
pub mod block;
pub mod canonical;
pub mod certificate;
pub mod chunks;
pub mod contract;
pub mod correction;
pub mod digest;
pub mod entry;
pub mod envelope;
pub mod epoch;
pub mod event;
pub mod export;
pub mod frozen;
pub mod genesis;
mod id;
pub mod invariant;
pub mod journal;
pub mod jws;
pub mod key;
pub mod ledger;
pub mod lists;
pub mod merit_order;
pub mod merkle;
pub mod nonce;
pub mod numbers;
pub mod outcome;
pub mod paged;
pub mod read;
pub mod refusal;
mod roles;
pub mod roster;
pub mod rule;
pub mod seal;
mod sealing;
pub mod settlement;
pub mod snapshot;
pub mod statement;
mod stored;
pub mod units;
mod verified;
pub mod voters;
mod words;

pub use action::Action;
pub use asset::{AssetId, ROOT};
pub use contract::ContractId;
pub use digest::{ClusterId, Digest};
pub use entry::{Body, Entry};
pub use envelope::{Envelope, EnvelopeRef, Nonce};
pub use event::Event;
pub use genesis::Genesis;
pub use key::{PublicKey, Signature};
pub use ledger::{Answer, Applied, AttestationAnswer, Ledger};
pub use outcome::Outcome;
pub use refusal::Refusal;
pub use roster::{RosterBatch, RosterId};
pub use settlement::Settlement;
pub use statement::{Label, Statement, StatementId};
pub use units::{Epoch, GramsCo2, MicroCurrency, Timestamp, Wh};
pub use voters::NodeId;
