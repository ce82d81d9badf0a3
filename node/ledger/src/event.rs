//! Events: what an entry changed, in exact execution order, complete enough for the balancing actors to keep their
//! own journals and never read the ledger's.

use crate::asset::AssetId;
use crate::audit::AuditRule;
use crate::balance::Balance;
use crate::contract::{Contract, ContractId};
use crate::digest::Digest;
use crate::key::PublicKey;
use crate::merkle::Frontier;
use crate::roster::RosterId;
use crate::rule::Rule;
use crate::seal::{Seal, Turn};
use crate::statement::{Statement, StatementId};
use crate::units::Epoch;
use std::sync::Arc;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An id became an asset, without a rule.
    AssetAdded {
        /// Which.
        asset: AssetId,
    },
    /// An asset's rule was replaced.
    RuleSet {
        /// Whose.
        asset: AssetId,
        /// The new one.
        rule: Rule,
    },
    /// A contract was made or changed otherwise than by a booking; its full state afterwards.
    ContractSet {
        /// As it now is.
        contract: Contract,
    },
    /// An asset's audit rule was replaced.
    AuditRuleSet {
        /// Whose.
        asset: AssetId,
        /// The new one.
        rule: AuditRule,
    },
    /// An auditor approved the next seal.
    Approved {
        /// Of which asset.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
        /// Who.
        auditor: PublicKey,
    },
    /// A settlement was booked. (Residual, contract and counter statements come within [`Event::Sealed`].)
    Booked {
        /// The metered statement.
        statement: Statement,
    },
    /// A roster was taken down.
    RosterAdded {
        /// Its name.
        roster: RosterId,
        /// Its meters, in order.
        meters: Arc<[AssetId]>,
    },
    /// A batch of a roster's settlements was booked: the statements `index.first` up to
    /// `index.(first + count − 1)`. Their contents are the batch's as it stands in the log.
    RosterBooked {
        /// In which epoch.
        epoch: Epoch,
        /// The entry's index.
        index: u64,
        /// The position of the first statement.
        first: u32,
        /// How many.
        count: u32,
        /// What they have together, as booked: in watt-hours, whichever way they flow, and in grams of CO2.
        sums: (i128, i128),
    },
    /// `(asset, epoch)` was sealed. The approvals it used are spent.
    Sealed(Arc<Sealed>),
    /// Only from [`crate::Ledger::export`]: what a contract had booked when the export was made.
    ContractRestored {
        /// Which contract (its `balanced` came with [`Event::ContractSet`]).
        contract: ContractId,
        /// What it booked in each epoch, in watt-hours.
        booked: Vec<(Epoch, i128)>,
    },
    /// Only from [`crate::Ledger::export`]: the sealed part of a journal, as it was when the export was made.
    JournalRestored(Box<JournalImage>),
    /// Only from [`crate::Ledger::export`]: a statement that was open when the export was made. It comes after the sealed parts of its
    /// epoch, in booking order.
    OpenRestored {
        /// Of whatever kind.
        statement: Statement,
        /// Whether it is past the watermark of its `from`, and of its `to`; it is of one at least. Never of the root.
        open: [bool; 2],
    },
}

/// A sealing as the ledger claims it to have happened. [`crate::seal::close`] recomputes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The content.
    pub seal: Arc<Seal>,
    /// Its digest.
    pub digest: Digest,
    /// The id that the first statement of this sealing has, or would have.
    pub first: StatementId,
    /// The statement of step 3.
    pub residual: Option<Statement>,
    /// Step 5, each turn with what was seen of the partner.
    pub turns: Vec<Turn>,
}

impl Sealed {
    /// The statements that this sealing booked, in order.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        let traded = self.turns.iter().filter_map(|turn| turn.booked.as_ref());
        self.residual
            .iter()
            .chain(traded.flat_map(|(contract, counter)| [contract, counter]))
    }
}

/// All that a balancing actor needs of a journal's sealed part to go on from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalImage {
    /// Whose.
    pub asset: AssetId,
    /// In which epoch.
    pub epoch: Epoch,
    /// The newest seal and its digest.
    pub newest: (Arc<Seal>, Digest),
    /// The balance up to the watermark.
    pub sealed: Balance,
    /// The frontier up to the watermark.
    pub frontier: Frontier,
}
