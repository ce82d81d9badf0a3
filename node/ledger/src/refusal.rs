//! Refusals: answers that say no, one variant each. A refusal changes nothing.

use crate::asset::AssetId;
use crate::canonical::canonical_enum;
use crate::contract::{ContractId, Status};
use crate::digest::Digest;
use crate::roster::RosterId;
use crate::seal::SealRef;
use crate::units::{Epoch, Timestamp};
use crate::voters::NodeId;

/// Why an action was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such asset.
    #[error("asset `{asset}` is unknown")]
    UnknownAsset {
        /// Which.
        asset: AssetId,
    },
    /// No such contract.
    #[error("contract `{contract}` is unknown")]
    UnknownContract {
        /// Which.
        contract: ContractId,
    },
    /// The rule would make an asset its own upstream.
    #[error("the rule of `{asset}` would close a cycle through `{through}`")]
    RuleCycle {
        /// Whose rule.
        asset: AssetId,
        /// Which of its upstreams leads back.
        through: AssetId,
    },
    /// The root has no rule.
    #[error("the root has no balancing rule")]
    RootHasNoRule {},
    /// The root reports no settlements.
    #[error("the root is no meter")]
    RootIsNoMeter {},
    /// The root trades with nobody.
    #[error("the root is no party to contracts")]
    RootIsNoParty {},
    /// The root is never sealed.
    #[error("the root can't be sealed")]
    RootNotSealable {},
    /// There is such a contract already.
    #[error("contract `{contract}` exists already")]
    ContractExists {
        /// Which.
        contract: ContractId,
    },
    /// Owner and partner are one.
    #[error("`{asset}` can't have a contract with itself")]
    SameParty {
        /// Who.
        asset: AssetId,
    },
    /// The contract's status doesn't allow it.
    #[error("contract `{contract}` is {status}")]
    ContractStatus {
        /// Which.
        contract: ContractId,
        /// What it is.
        status: Status,
    },
    /// The contract belongs to another asset.
    #[error("contract `{contract}` is not one of `{asset}`'s own")]
    ForeignContract {
        /// Which.
        contract: ContractId,
        /// Whose merit order was to be set.
        asset: AssetId,
    },
    /// A contract stands in a merit order twice.
    #[error("contract `{contract}` is listed twice")]
    RepeatedContract {
        /// Which.
        contract: ContractId,
    },
    /// A figure is beyond its bounds.
    #[error("{figure} is out of range")]
    OutOfRange {
        /// Which.
        figure: String,
    },
    /// The journal is empty.
    #[error("`{asset}` has no statements in epoch {epoch}")]
    NothingToSeal {
        /// Whose.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// There is a seal already.
    #[error("{seal} exists already, digest {digest}")]
    AlreadySealed {
        /// The newest.
        seal: SealRef,
        /// Its digest.
        digest: Digest,
    },
    /// Assets below have unsealed statements.
    #[error("downstream of `{asset}` epoch {epoch} is still open: {}", list(assets))]
    DownstreamOpen {
        /// Whose downstream.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
        /// Up to 16 of them, in id order.
        assets: Vec<AssetId>,
    },
    /// An audit rule wants more approvals.
    #[error("`{asset}` epoch {epoch} has {have} of {want} approvals")]
    ApprovalMissing {
        /// Whose seal.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
        /// How many count.
        have: u32,
        /// How many are needed.
        want: u32,
    },
    /// There is no seal to correct.
    #[error("`{asset}` epoch {epoch} is not sealed")]
    NotSealed {
        /// Whose.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Nothing came after the newest seal.
    #[error("`{asset}` epoch {epoch} has no late statements")]
    NothingLate {
        /// Whose.
        asset: AssetId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// An asset's metadata is too large.
    #[error("the metadata would take {bytes} bytes; at most 4096 are allowed")]
    MetadataTooLarge {
        /// How many, after merging.
        bytes: u64,
    },
    /// An audit rule wants more approvals than it names auditors.
    #[error("an audit rule can't want {approvals} approvals of {auditors} auditors")]
    AuditRuleUnsatisfiable {
        /// How many.
        approvals: u32,
        /// Of how many.
        auditors: u32,
    },
    /// The signer audits nothing here.
    #[error("the signer is no auditor of `{asset}`")]
    NotAuditor {
        /// Whose seal was to be approved.
        asset: AssetId,
    },
    /// No such node.
    #[error("node {node} is unknown")]
    UnknownNode {
        /// Which.
        node: NodeId,
    },
    /// A key was revoked or belongs to another node.
    #[error("the key is not free: it is or was another's, or was revoked")]
    KeyTaken {},
    /// Only an admin may do this.
    #[error("only an admin may do this")]
    NotAdmin {},
    /// Nobody knows the signer.
    #[error("the signer is unknown to this cluster")]
    UnknownSigner {},
    /// The signature is not the signer's over this envelope.
    #[error("the signature does not fit")]
    BadSignature {},
    /// The envelope came too late.
    #[error("the envelope expired at {not_after}; it is {now}")]
    Expired {
        /// Its last moment.
        not_after: Timestamp,
        /// The ledger's time.
        now: Timestamp,
    },
    /// The envelope is good for too long.
    #[error("not_after is {not_after}, more than 15 minutes after {now}")]
    NotAfterTooFar {
        /// Its last moment.
        not_after: Timestamp,
        /// The ledger's time.
        now: Timestamp,
    },
    /// The nonce was used for another action.
    #[error("the nonce was used for another action")]
    NonceReused {},
    /// The log has its genesis already.
    #[error("the ledger has its genesis already")]
    GenesisExists {},
    /// The genesis contradicts itself.
    #[error("the genesis is not valid: {fault}")]
    GenesisInvalid {
        /// How.
        fault: String,
    },
    /// The log must begin with a genesis.
    #[error("the ledger has no genesis yet")]
    NoGenesis {},
    /// The bytes are no entry.
    #[error("the entry can't be decoded: {fault}")]
    Undecodable {
        /// Why.
        fault: String,
    },
    /// An attestation of a block that isn't there.
    #[error("entry {index} made no block")]
    UnknownBlock {
        /// Which index.
        index: u64,
    },
    /// An attestation of another header than the ledger's: someone computed something else.
    #[error("node {node} signed {signed} for entry {index}, but the header is {header}")]
    HeaderDiffers {
        /// Who.
        node: NodeId,
        /// Which block.
        index: u64,
        /// What was signed.
        signed: Digest,
        /// What is right here.
        header: Digest,
    },
    /// An attestation by a node that did not vote then, or had no key.
    #[error("node {node} was no voter with a key at entry {index}")]
    NotAVoter {
        /// Who.
        node: NodeId,
        /// At which index.
        index: u64,
    },
    /// An attestation with a key that was revoked.
    #[error("the key of node {node} was revoked")]
    KeyRevoked {
        /// Whose.
        node: NodeId,
    },
    /// A second attestation by one node.
    #[error("node {node} has attested entry {index} already")]
    AlreadyAttested {
        /// Who.
        node: NodeId,
        /// Which block.
        index: u64,
    },
    /// A node that was removed can't come back under its id.
    #[error("node {node} was removed; an id belongs to one disk, so a new one is needed")]
    NodeRemoved {
        /// Which.
        node: NodeId,
    },
    /// No such roster.
    #[error("roster {roster} is unknown; give its list of meters first")]
    UnknownRoster {
        /// Which.
        roster: RosterId,
    },
    /// Nobody would be left to vote.
    #[error("node {node} is the last voter")]
    LastVoter {
        /// Which.
        node: NodeId,
    },
}

canonical_enum!(Refusal {
    0 => UnknownAsset { asset },
    1 => UnknownContract { contract },
    2 => RuleCycle { asset, through },
    3 => RootHasNoRule {},
    4 => RootIsNoMeter {},
    5 => RootIsNoParty {},
    6 => RootNotSealable {},
    7 => ContractExists { contract },
    8 => SameParty { asset },
    9 => ContractStatus { contract, status },
    10 => ForeignContract { contract, asset },
    11 => RepeatedContract { contract },
    12 => OutOfRange { figure },
    13 => NothingToSeal { asset, epoch },
    14 => AlreadySealed { seal, digest },
    15 => DownstreamOpen { asset, epoch, assets },
    16 => ApprovalMissing { asset, epoch, have, want },
    17 => NotSealed { asset, epoch },
    18 => NothingLate { asset, epoch },
    19 => MetadataTooLarge { bytes },
    20 => AuditRuleUnsatisfiable { approvals, auditors },
    21 => NotAuditor { asset },
    22 => UnknownNode { node },
    23 => KeyTaken {},
    24 => NotAdmin {},
    25 => UnknownSigner {},
    26 => BadSignature {},
    27 => Expired { not_after, now },
    28 => NotAfterTooFar { not_after, now },
    29 => NonceReused {},
    30 => GenesisExists {},
    31 => GenesisInvalid { fault },
    32 => NoGenesis {},
    33 => Undecodable { fault },
    34 => UnknownBlock { index },
    35 => HeaderDiffers { node, index, signed, header },
    36 => NotAVoter { node, index },
    37 => KeyRevoked { node },
    38 => AlreadyAttested { node, index },
    39 => NodeRemoved { node },
    40 => LastVoter { node },
    41 => UnknownRoster { roster },
});

impl Refusal {
    /// The code under which the specification and the API know it.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::UnknownAsset { .. } => "unknown_asset",
            Refusal::UnknownContract { .. } => "unknown_contract",
            Refusal::RuleCycle { .. } => "rule_cycle",
            Refusal::RootHasNoRule {} => "root_has_no_rule",
            Refusal::RootIsNoMeter {} => "root_is_no_meter",
            Refusal::RootIsNoParty {} => "root_is_no_party",
            Refusal::RootNotSealable {} => "root_not_sealable",
            Refusal::ContractExists { .. } => "contract_exists",
            Refusal::SameParty { .. } => "same_party",
            Refusal::ContractStatus { .. } => "contract_status",
            Refusal::ForeignContract { .. } => "foreign_contract",
            Refusal::RepeatedContract { .. } => "repeated_contract",
            Refusal::OutOfRange { .. } => "out_of_range",
            Refusal::NothingToSeal { .. } => "nothing_to_seal",
            Refusal::AlreadySealed { .. } => "already_sealed",
            Refusal::DownstreamOpen { .. } => "downstream_open",
            Refusal::ApprovalMissing { .. } => "approval_missing",
            Refusal::NotSealed { .. } => "not_sealed",
            Refusal::NothingLate { .. } => "nothing_late",
            Refusal::MetadataTooLarge { .. } => "metadata_too_large",
            Refusal::AuditRuleUnsatisfiable { .. } => "audit_rule_unsatisfiable",
            Refusal::NotAuditor { .. } => "not_auditor",
            Refusal::UnknownNode { .. } => "unknown_node",
            Refusal::KeyTaken {} => "key_taken",
            Refusal::NotAdmin {} => "not_admin",
            Refusal::UnknownSigner {} => "unknown_signer",
            Refusal::BadSignature {} => "bad_signature",
            Refusal::Expired { .. } => "expired",
            Refusal::NotAfterTooFar { .. } => "not_after_too_far",
            Refusal::NonceReused {} => "nonce_reused",
            Refusal::GenesisExists {} => "genesis_exists",
            Refusal::GenesisInvalid { .. } => "genesis_invalid",
            Refusal::NoGenesis {} => "no_genesis",
            Refusal::Undecodable { .. } => "undecodable",
            Refusal::UnknownBlock { .. } => "unknown_block",
            Refusal::HeaderDiffers { .. } => "header_differs",
            Refusal::NotAVoter { .. } => "not_a_voter",
            Refusal::KeyRevoked { .. } => "key_revoked",
            Refusal::AlreadyAttested { .. } => "already_attested",
            Refusal::NodeRemoved { .. } => "node_removed",
            Refusal::LastVoter { .. } => "last_voter",
            Refusal::UnknownRoster { .. } => "unknown_roster",
        }
    }
}

fn list(assets: &[AssetId]) -> String {
    assets.iter().map(AssetId::as_str).collect::<Vec<_>>().join(", ")
}
