//! An action: what a client asks the ledger to do, as it stands in an envelope.

use crate::asset::AssetId;
use crate::canonical::canonical_enum;
use crate::contract::{Change, ContractId, Status, Terms};
use crate::key::PublicKey;
use crate::roster::RosterBatch;
use crate::rule::Rule;
use crate::settlement::Settlement;
use crate::units::Epoch;
use crate::voters::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One action. All of it happens or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes an asset, or changes one.
    UpsertAsset {
        /// Which.
        asset: AssetId,
        /// Its type; not given leaves it.
        kind: Option<String>,
        /// Replaces the rule; not given leaves it.
        rule: Option<Rule>,
        /// Merged into the asset's other fields: name → JSON text.
        metadata: BTreeMap<String, String>,
    },
    /// Makes a contract.
    AddContract {
        /// What is agreed.
        terms: Terms,
        /// Where it begins.
        status: Status,
        /// Its place in the merit order.
        priority: i64,
    },
    /// Confirms, suspends, activates or cancels one.
    ChangeContract {
        /// Which.
        contract: ContractId,
        /// What to do.
        change: Change,
    },
    /// Gives the listed contracts of an asset the priorities 1, 2, 3…; others keep theirs.
    SetMeritOrder {
        /// Whose.
        asset: AssetId,
        /// In the order wanted.
        contracts: Vec<ContractId>,
    },
    /// Books settlements, all or none, then seals what their `autoseal` asks for.
    Settle {
        /// In this order.
        settlements: Vec<Settlement>,
    },
    /// Takes down a list of meters for batches to refer to.
    AddRoster {
        /// In the order in which batches count them, from 0.
        meters: Arc<[AssetId]>,
    },
    /// Books settlements of one epoch by their meters' places in a roster, all or none.
    SettleRoster {
        /// Which.
        batch: RosterBatch,
    },
    /// Makes version 0.
    Seal {
        /// Of which asset.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Makes the next version.
    Correct {
        /// Of which asset.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Seals all that an epoch has open.
    SealEpoch {
        /// Which.
        epoch: Epoch,
        /// Only this asset and what is downstream of it.
        under: Option<AssetId>,
    },
    /// Says how many of whose approvals an asset's seals need; 0 of none lifts it.
    SetAuditRule {
        /// Whose seals.
        asset: AssetId,
        /// How many.
        approvals: u32,
        /// Of these.
        auditors: BTreeSet<PublicKey>,
    },
    /// An auditor (the signer) approves the next seal of `(asset, epoch)`.
    Approve {
        /// Of which asset.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Names the key with which a node signs (a new key replaces, rotates, the old) and makes it a member, if it
    /// is none yet and an address is given. It gets the log, and no vote.
    RegisterNode {
        /// Which.
        node: NodeId,
        /// Its key.
        key: PublicKey,
        /// Where its peers reach it.
        peer: Option<String>,
    },
    /// Gives a member a vote, once it is one in Raft.
    PromoteNode {
        /// Which.
        node: NodeId,
    },
    /// Takes a node's key, vote and membership away, for good: an id belongs to one disk.
    RevokeNode {
        /// Which.
        node: NodeId,
    },
}

canonical_enum!(Action {
    0 => UpsertAsset { asset, kind, rule, metadata },
    1 => AddContract { terms, status, priority },
    2 => ChangeContract { contract, change },
    3 => SetMeritOrder { asset, contracts },
    4 => Settle { settlements },
    5 => Seal { asset, epoch },
    6 => Correct { asset, epoch },
    7 => SealEpoch { epoch, under },
    8 => SetAuditRule { asset, approvals, auditors },
    9 => Approve { asset, epoch },
    10 => RegisterNode { node, key, peer },
    11 => RevokeNode { node },
    12 => PromoteNode { node },
    13 => AddRoster { meters },
    14 => SettleRoster { batch },
});
