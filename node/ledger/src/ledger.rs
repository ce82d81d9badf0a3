//! The ledger: one state, one way to change it.
//!
//! [`Ledger::apply`] takes entries in log order. It is total and deterministic, and never panics: a refusal is an
//! outcome like any other, and bytes that are no entry are a refused entry ([`Ledger::apply_raw`]).
//!
//! # The running digest
//!
//! `state` is a chain: `state' = SHA-256("gridseal/state/v1\0" ‖ state ‖ index ‖ now ‖ SHA-256(transcript))`.
//! The transcript of an entry is, in execution
//! order, for each event a byte and its canonical bytes: `01` an asset added (its id), `02` a rule set (asset, rule),
//! `03` a contract set (the contract), `04` an audit rule set (asset, rule), `05` an approval (asset, epoch, auditor),
//! `06` a settlement booked (the statement), `07` a seal made (its statements as a list, then its digest), `09` a roster's
//! batch booked (epoch, label, then for each row 24 bytes: from and to as numbers of 4 bytes in the order in which assets were
//! first named, energy, co2eq), `0a` a roster added (its name); and
//! for each outcome `00`, who asked for what (signer, nonce, digest of the action), whether it is a retry, and the outcome. A genesis and an undecodable
//! entry are their outcome alone, after `08`. Attestations, ticks and memberships leave `state` as it is.
//!
//! Absent on purpose: clocks, randomness, I/O. Time is `now = max(now, entry.at)`.

use crate::action::Action;
use crate::asset::Assets;
use crate::audit::AuditRule;
use crate::block::{Chain, Header};
use crate::canonical::{Canonical, Encoder};
use crate::contract::Contracts;
use crate::digest::{ClusterId, Digest, finish, hasher};
use crate::entry::{Body, Entry};
use crate::envelope::{Envelope, EnvelopeRef};
use crate::event::Event;
use crate::frozen::Frozen;
use crate::genesis::Genesis;
use crate::journal::Book;
use crate::nonce::{NonceTable, Remembered};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::roster::Rosters;
use crate::statement::StatementId;
use crate::units::{Epoch, Timestamp};
use crate::voters::{Membership, NodeId};
use crate::words::Labels;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state that every node computes.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) cluster: ClusterId,
    pub(crate) genesis: Option<Genesis>,
    pub(crate) applied: Option<u64>,
    pub(crate) now: Timestamp,
    pub(crate) state: Digest,
    pub(crate) assets: Assets,
    pub(crate) contracts: Contracts,
    pub(crate) labels: Labels,
    pub(crate) rosters: Rosters,
    /// Shared with snapshots and archives in the making: a book is cloned if it changes before they are through.
    pub(crate) epochs: BTreeMap<Epoch, Arc<Book>>,
    pub(crate) frozen: Frozen,
    pub(crate) nonces: NonceTable,
    pub(crate) membership: Membership,
    pub(crate) chain: Chain,
}

/// What an entry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Its log index.
    pub index: u64,
    /// The ledger's time after it.
    pub now: Timestamp,
    /// For a genesis and for an entry that could not be taken at all: what became of it.
    pub outcome: Option<Outcome>,
    /// One a envelope, in order.
    pub answers: Vec<Answer>,
    /// One an attestation, in order.
    pub attestations: Vec<AttestationAnswer>,
    /// What changed, in exact execution order.
    pub events: Vec<Event>,
    /// The block it made, if it made seals.
    pub block: Option<Header>,
    /// The indices of the blocks that became certified by it, ascending.
    pub certified: Vec<u64>,
}

/// What an envelope got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which envelope.
    pub envelope: EnvelopeRef,
    /// The digest of what it asked for.
    pub action: Digest,
    /// Whether it was let in: if not, the refusal is this very envelope's and says nothing of another with the same name.
    pub let_in: bool,
    /// What it got.
    pub outcome: Outcome,
    /// Whether it is a retry that did nothing and got the first one's outcome.
    pub duplicate: bool,
}

/// What an attestation got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationAnswer {
    /// Who signed.
    pub node: NodeId,
    /// Which block.
    pub index: u64,
    /// Whether the signature was kept.
    pub result: Result<(), Refusal>,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger::new()
    }
}

impl Ledger {
    /// An empty one, to which only a genesis can be applied with effect.
    pub fn new() -> Ledger {
        Ledger {
            cluster: Digest::ZERO,
            genesis: None,
            applied: None,
            now: Timestamp::ZERO,
            state: Digest::ZERO,
            assets: Assets::new(),
            contracts: Contracts::default(),
            labels: Labels::default(),
            rosters: Rosters::new(),
            epochs: BTreeMap::new(),
            frozen: Frozen::default(),
            nonces: NonceTable::default(),
            membership: Membership::default(),
            chain: Chain::default(),
        }
    }

    /// Applies the entry at `index`. Indices grow; an entry at an index that was reached before does nothing at all.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Applied {
        let Some(mut work) = self.begin(index, entry.at) else {
            return self.nothing(index);
        };
        match &entry.body {
            Body::Genesis { genesis } => {
                let outcome = self.begin_cluster(index, genesis).unwrap_or_else(Outcome::from);
                self.conclude_alone(&mut work, outcome);
            }
            Body::Envelopes { envelopes } => {
                for envelope in envelopes {
                    self.answer(&mut work, envelope);
                }
                self.fold(&mut work);
                if !work.seals.is_empty() {
                    let header = self.make_block(index, std::mem::take(&mut work.seals));
                    work.applied.block = Some(header);
                }
            }
            Body::Attestations { attestations } => {
                for attestation in attestations {
                    let answer = self.attest(attestation);
                    work.applied.attestations.push(answer);
                }
                work.applied.certified = self.chain.certify();
            }
            Body::Tick {} => {}
        }
        work.applied
    }

    /// Applies the bytes of an entry; bytes that are none are refused as a whole, the same way on every node.
    pub fn apply_raw(&mut self, index: u64, bytes: &[u8]) -> Applied {
        match Entry::decode(bytes) {
            Ok(entry) => self.apply(index, &entry),
            Err(error) => {
                let Some(mut work) = self.begin(index, Timestamp::ZERO) else {
                    return self.nothing(index);
                };
                let refusal = Refusal::Undecodable {
                    fault: error.to_string(),
                };
                self.conclude_alone(&mut work, refusal.into());
                work.applied
            }
        }
    }

    /// Tells who votes from the Raft entry at `index` on: one set, or two while the membership changes.
    pub fn apply_membership(&mut self, index: u64, configs: Vec<BTreeSet<NodeId>>) {
        if self.begin(index, Timestamp::ZERO).is_some() {
            self.membership.set(configs);
        }
    }

    /// Tells of a Raft entry at `index` that concerns nobody here.
    pub fn apply_blank(&mut self, index: u64) {
        self.begin(index, Timestamp::ZERO);
    }

    fn begin(&mut self, index: u64, at: Timestamp) -> Option<Work> {
        if self.applied.is_some_and(|applied| index <= applied) {
            return None;
        }
        self.applied = Some(index);
        self.now = self.now.max(at);
        self.nonces.forget_before(self.now);
        Some(Work::new(index, self.now))
    }

    fn nothing(&self, index: u64) -> Applied {
        Applied {
            index,
            now: self.now,
            ..Applied::default()
        }
    }

    fn begin_cluster(&mut self, index: u64, genesis: &Genesis) -> Result<Outcome, Refusal> {
        if self.genesis.is_some() {
            return Err(Refusal::GenesisExists {});
        }
        if let Some(fault) = genesis.fault() {
            return Err(Refusal::GenesisInvalid {
                fault: fault.to_owned(),
            });
        }
        self.cluster = genesis.cluster();
        self.membership.begin(&genesis.nodes);
        self.genesis = Some(genesis.clone());
        Ok(Outcome::Began {
            cluster: self.cluster,
            index,
        })
    }

    /// Admits, executes and answers one envelope.
    fn answer(&mut self, work: &mut Work, envelope: &Envelope) {
        let id = envelope.id();
        let action = envelope.action_digest();
        let (outcome, duplicate, let_in) = match self.admit(envelope, action) {
            Err(refusal) => (refusal.into(), false, false),
            Ok(Some(first)) => (first, true, true),
            Ok(None) => {
                let outcome = self.execute(work, envelope).unwrap_or_else(Outcome::from);
                let remembered = Remembered {
                    not_after: envelope.not_after,
                    action,
                    outcome: outcome.clone(),
                };
                self.nonces.remember(id, remembered);
                (outcome, false, true)
            }
        };
        work.record(0, |out| {
            id.encode(out);
            action.encode(out);
            duplicate.encode(out);
            outcome.encode(out);
        });
        work.applied.answers.push(Answer {
            envelope: id,
            action,
            let_in,
            outcome,
            duplicate,
        });
    }

    fn execute(&mut self, work: &mut Work, envelope: &Envelope) -> Result<Outcome, Refusal> {
        self.authorize(&envelope.signer, &envelope.action)?;
        let index = work.index;
        match &envelope.action {
            Action::UpsertAsset {
                asset,
                kind,
                rule,
                metadata,
            } => self.upsert_asset(work, asset, kind.as_ref(), rule.as_ref(), metadata),
            Action::AddContract {
                terms,
                status,
                priority,
            } => self.add_contract(work, terms, *status, *priority),
            Action::ChangeContract { contract, change } => self.change_contract(work, contract, *change),
            Action::SetMeritOrder { asset, contracts } => self.set_merit_order(work, asset, contracts),
            Action::Settle { settlements } => self.settle(work, settlements),
            Action::AddRoster { meters } => self.add_roster(work, meters),
            Action::SettleRoster { batch } => self.settle_roster(work, batch),
            Action::Seal { asset, epoch } => self
                .seal(work, asset, *epoch)
                .map(|seal| Outcome::Sealed { index, seal }),
            Action::Correct { asset, epoch } => self
                .correct(work, asset, *epoch)
                .map(|seal| Outcome::Sealed { index, seal }),
            Action::SealEpoch { epoch, under } => self.seal_epoch(work, *epoch, under.as_ref()),
            Action::SetAuditRule {
                asset,
                approvals,
                auditors,
            } => {
                let rule = AuditRule {
                    approvals: *approvals,
                    auditors: auditors.clone(),
                };
                self.set_audit_rule(work, asset, rule)
            }
            Action::Approve { asset, epoch } => self.approve(work, envelope.signer, asset, *epoch),
            Action::RegisterNode { node, key, peer } => self
                .membership
                .register(*node, *key, peer.as_ref())
                .map(|()| Outcome::Node { index }),
            Action::PromoteNode { node } => self.membership.promote(*node).map(|()| Outcome::Node { index }),
            Action::RevokeNode { node } => self.membership.revoke(*node).map(|()| Outcome::Node { index }),
        }
    }

    /// Ends an entry that has one outcome as a whole.
    fn conclude_alone(&mut self, work: &mut Work, outcome: Outcome) {
        work.record(8, |out| outcome.encode(out));
        work.applied.outcome = Some(outcome);
        self.fold(work);
    }

    /// Takes the transcript of an entry into the running digest.
    fn fold(&mut self, work: &mut Work) {
        let mut hash = hasher("state");
        hash.update(self.state.0);
        hash.update(work.index.to_be_bytes());
        hash.update(self.now.get().to_be_bytes());
        hash.update(std::mem::take(&mut work.transcript).finalize());
        self.state = finish(hash);
    }
}

/// An entry in the making.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) index: u64,
    pub(crate) applied: Applied,
    /// The digests of the seals it made.
    pub(crate) seals: Vec<Digest>,
    booked: u32,
    transcript: Sha256,
    buffer: Encoder,
}

impl Work {
    fn new(index: u64, now: Timestamp) -> Work {
        Work {
            index,
            applied: Applied {
                index,
                now,
                ..Applied::default()
            },
            seals: Vec::new(),
            booked: 0,
            transcript: Sha256::new(),
            buffer: Encoder::new(),
        }
    }

    /// The position that the next statement will have.
    pub(crate) fn next_position(&self) -> u32 {
        self.booked
    }

    /// The id of the next statement; each call takes one.
    pub(crate) fn next_id(&mut self) -> StatementId {
        let id = StatementId {
            index: self.index,
            position: self.booked,
        };
        // An entry with 2^32 statements would not fit into any log.
        self.booked = self.booked.saturating_add(1);
        id
    }

    /// Reports a change and takes it into the transcript.
    pub(crate) fn event(&mut self, event: Event) {
        match &event {
            Event::AssetAdded { asset } => self.record(1, |out| asset.encode(out)),
            Event::RuleSet { asset, rule } => self.record(2, |out| {
                asset.encode(out);
                rule.encode(out);
            }),
            Event::ContractSet { contract } => self.record(3, |out| contract.encode(out)),
            Event::AuditRuleSet { asset, rule } => self.record(4, |out| {
                asset.encode(out);
                rule.encode(out);
            }),
            Event::Approved {
                asset,
                epoch,
                auditor,
            } => self.record(5, |out| {
                asset.encode(out);
                epoch.encode(out);
                auditor.encode(out);
            }),
            Event::Booked { statement } => self.record(6, |out| statement.encode(out)),
            Event::Sealed(sealed) => self.record(7, |out| {
                out.count(sealed.statements().count());
                sealed.statements().for_each(|statement| statement.encode(out));
                sealed.digest.encode(out);
            }),
            Event::RosterAdded { roster, .. } => self.record(10, |out| roster.encode(out)),
            // Recorded row by row where it is booked.
            Event::RosterBooked { .. } => {}
            // Made by exports only, never while applying.
            Event::ContractRestored { .. } | Event::JournalRestored(_) | Event::OpenRestored { .. } => {}
        }
        self.applied.events.push(event);
    }

    pub(crate) fn record(&mut self, tag: u8, fill: impl FnOnce(&mut Encoder)) {
        self.buffer.clear();
        self.buffer.byte(tag);
        fill(&mut self.buffer);
        self.transcript.update(self.buffer.as_bytes());
    }
}
