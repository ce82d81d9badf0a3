//! The oracle's ledger: who may, when, once (section 8) around what happens (sections 2 to 5, [`super::model`]) and what
//! nodes sign (section 7).
//!
//! What it takes on trust is the running digest `state` of a header, whose transcript is the ledger's own
//! business; that it is the same on every node is checked elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::{self, Answer};
use super::digest::{self, Hash};
use super::entry::{self, Action, Attestation, Body, Envelope, Genesis, Key, Nonce};
use super::model::{Oracle, Seal, Statement};

/// `not_after` may lie at most this far ahead, in milliseconds.
const LIFETIME_MS: u64 = 15 * 60 * 1_000;
/// Metadata of an asset has at most so many bytes.
const MAX_METADATA: usize = 4_096;

/// The oracle's ledger.
#[derive(Clone, Default)]
pub struct Book {
    /// Sections 2 to 5.
    pub oracle: Oracle,
    /// The cluster's id, once it has begun.
    pub cluster: Option<Hash>,
    /// The ledger's time.
    pub now: u64,
    genesis: Option<Genesis>,
    nonces: BTreeMap<(Key, Nonce), Remembered>,
    metadata: BTreeMap<String, BTreeMap<String, String>>,
    journals: BTreeMap<(String, u64), Vec<Hash>>,
    seals: BTreeMap<(String, u64), Vec<Hash>>,
    configs: Vec<BTreeSet<u64>>,
    keys: BTreeMap<u64, Key>,
    revoked: BTreeSet<Key>,
    removed: BTreeSet<u64>,
    voters: BTreeSet<u64>,
    /// How many statements there were when a rule was last set.
    rules_from: usize,
    /// The blocks.
    pub blocks: BTreeMap<u64, Block>,
}

#[derive(Clone)]
struct Remembered {
    not_after: u64,
    action: Hash,
    answer: Answer,
    index: u64,
}

/// A seal block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The header's bytes, as they are signed.
    pub header: String,
    /// Their digest.
    pub digest: Hash,
    /// The digests of its seals.
    pub seals: Vec<Hash>,
    /// Who voted at its index, in each configuration, with which key.
    pub voters: Vec<Vec<(u64, Option<Key>)>>,
    /// Whose signatures count.
    pub signers: BTreeSet<u64>,
    /// Whether it is final.
    pub certified: bool,
}

/// What became of an envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Whose.
    pub signer: Key,
    /// Which of theirs.
    pub nonce: Nonce,
    /// What it got.
    pub answer: Answer,
    /// The entry at which this was first answered.
    pub index: u64,
    /// Whether it is a retry, which does nothing.
    pub duplicate: bool,
}

/// What an entry did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// One an envelope.
    pub answers: Vec<Answered>,
    /// What was booked, with its position in the entry.
    pub booked: Vec<(u64, Statement)>,
    /// The digests of the seals that it made, in order.
    pub seals: Vec<Hash>,
    /// One an attestation: `None` if it counts, else the code of its refusal.
    pub attested: Vec<Option<&'static str>>,
    /// The blocks that it certified.
    pub certified: Vec<u64>,
    /// Signatures that were under way when their node's key was replaced.
    pub overtaken: u64,
}

impl Book {
    /// An entry that holds these bytes; `state` is the ledger's running digest after it.
    pub fn apply(&mut self, index: u64, bytes: &[u8], state: Hash) -> Applied {
        let mut applied = Applied::default();
        let Some(entry) = entry::decode(bytes) else {
            return applied;
        };
        self.now = self.now.max(entry.at);
        let now = self.now;
        self.nonces.retain(|_, known| known.not_after >= now);
        match entry.body {
            Body::Genesis(genesis) => self.begin(genesis),
            Body::Envelopes(envelopes) => {
                for envelope in &envelopes {
                    let answered = self.envelope(index, envelope, &mut applied);
                    applied.answers.push(answered);
                }
                if !applied.seals.is_empty() {
                    self.block(index, applied.seals.clone(), state);
                }
            }
            Body::Attestations(attestations) => {
                applied.attested = attestations
                    .iter()
                    .map(|attestation| self.attest(attestation).err())
                    .collect();
                let overtaken =
                    attestations
                        .iter()
                        .zip(&applied.attested)
                        .filter(|(attestation, refused)| {
                            **refused == Some("key_revoked") && !self.removed.contains(&attestation.node)
                        });
                applied.overtaken = overtaken.count() as u64;
                applied.certified = self.certify();
            }
            Body::Tick => {}
        }
        applied
    }

    /// Whether a rule was set after something had been booked in an epoch.
    pub fn rules_changed_since(&self, epoch: u64) -> bool {
        let booked = &self.oracle.statements[..self.rules_from];
        booked.iter().any(|s| s.epoch == epoch)
    }

    /// Raft's membership changes.
    pub fn membership(&mut self, configs: Vec<BTreeSet<u64>>) {
        self.configs = configs;
    }

    /// Who votes: one configuration, or two while they change.
    pub fn configs(&self) -> &[BTreeSet<u64>] {
        &self.configs
    }

    /// Of which envelopes the first answer is remembered now.
    pub fn nonces(&self) -> impl Iterator<Item = &(Key, Nonce)> {
        self.nonces.keys()
    }

    /// The digests of the versions of a seal.
    pub fn versions(&self, asset: &str, epoch: u64) -> &[Hash] {
        self.seals
            .get(&(asset.to_owned(), epoch))
            .map_or(&[], Vec::as_slice)
    }

    /// An asset's other fields, as they were given.
    pub fn metadata(&self, asset: &str) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.metadata.get(asset).into_iter().flatten();
        fields.map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// When an epoch begins, in milliseconds since 1970.
    pub fn time(&self, epoch: u64) -> u64 {
        epoch * self.genesis.as_ref().map_or(0, |genesis| genesis.epoch_ms)
    }

    fn begin(&mut self, genesis: Genesis) {
        if self.genesis.is_some() {
            return;
        }
        self.cluster = Some(digest::digest("genesis", &genesis.bytes));
        self.keys = genesis.nodes.iter().copied().collect();
        self.voters = self.keys.keys().copied().collect();
        if self.configs.is_empty() {
            self.configs = vec![self.voters.clone()];
        }
        self.genesis = Some(genesis);
    }

    fn envelope(&mut self, index: u64, envelope: &Envelope, applied: &mut Applied) -> Answered {
        let answered = |answer, index, duplicate| Answered {
            signer: envelope.signer,
            nonce: envelope.nonce,
            answer,
            index,
            duplicate,
        };
        if let Err(code) = self.admissible(envelope) {
            return answered(Answer::Refused(code.to_owned()), index, false);
        }
        let action = digest::digest("action", &envelope.action_bytes);
        if let Some(known) = self.nonces.get_mut(&(envelope.signer, envelope.nonce)) {
            if known.action != action {
                return answered(Answer::Refused("nonce_reused".to_owned()), index, false);
            }
            known.not_after = known.not_after.max(envelope.not_after);
            return answered(known.answer.clone(), known.index, true);
        }
        let answer = self.execute(index, envelope, applied);
        let remembered = Remembered {
            not_after: envelope.not_after,
            action,
            answer: answer.clone(),
            index,
        };
        self.nonces.insert((envelope.signer, envelope.nonce), remembered);
        answered(answer, index, false)
    }

    /// Whether an envelope is let in: known signer, right signature, in time.
    fn admissible(&self, envelope: &Envelope) -> Result<(), &'static str> {
        let (Some(genesis), Some(cluster)) = (&self.genesis, &self.cluster) else {
            return Err("no_genesis");
        };
        let listed = genesis.admins.contains(&envelope.signer) || genesis.gateways.contains(&envelope.signer);
        let audits = |asset: &str| {
            let auditor = digest::hex(&envelope.signer);
            self.oracle
                .audit
                .get(asset)
                .is_some_and(|(_, auditors)| auditors.contains(&auditor))
        };
        if !listed && !matches!(&envelope.action, Action::Approve { asset, .. } if audits(asset)) {
            return Err("unknown_signer");
        }
        let message = [b"gridseal/envelope/v1\0", &cluster[..], &envelope.signed].concat();
        if !digest::verifies(&envelope.signer, &message, &envelope.signature) {
            return Err("bad_signature");
        }
        if envelope.not_after < self.now {
            return Err("expired");
        }
        if envelope.not_after > self.now.saturating_add(LIFETIME_MS) {
            return Err("not_after_too_far");
        }
        Ok(())
    }

    fn execute(&mut self, index: u64, envelope: &Envelope, applied: &mut Applied) -> Answer {
        let refused = |code: &str| Answer::Refused(code.to_owned());
        let admin = self
            .genesis
            .as_ref()
            .is_some_and(|g| g.development || g.admins.contains(&envelope.signer));
        match &envelope.action {
            Action::SetAuditRule { .. }
            | Action::RegisterNode { .. }
            | Action::RevokeNode { .. }
            | Action::PromoteNode { .. }
                if !admin =>
            {
                return refused("not_admin");
            }
            Action::RegisterNode { node, key, .. } => return self.register(*node, *key),
            Action::PromoteNode { node } => {
                if !self.keys.contains_key(node) {
                    return refused("unknown_node");
                }
                self.voters.insert(*node);
                return Answer::Done;
            }
            Action::RevokeNode { node } => return self.revoke(*node),
            _ => {}
        }
        let before = self.oracle.statements.len();
        let known_seals = self.oracle.seals.len();
        let oracle = &mut self.oracle;
        let answer = match &envelope.action {
            Action::UpsertAsset {
                asset,
                kind,
                metadata,
                rule,
            } => {
                let mut merged = self.metadata.get(asset).cloned().unwrap_or_default();
                merged.extend(metadata.clone());
                let fields: usize = merged.iter().map(|(name, value)| name.len() + value.len()).sum();
                let too_large = fields + kind.as_ref().map_or(0, String::len) > MAX_METADATA;
                // A bad rule is told first.
                let mut tried = oracle.clone();
                let answer = answer::answer(&mut tried, &envelope.action, &envelope.signer);
                match answer {
                    Answer::Refused(_) if rule.is_some() => answer,
                    _ if too_large => refused("metadata_too_large"),
                    _ => {
                        if rule.is_some() {
                            self.rules_from = before;
                        }
                        *oracle = tried;
                        self.metadata.insert(asset.clone(), merged);
                        answer
                    }
                }
            }
            action => answer::answer(oracle, action, &envelope.signer),
        };
        self.note(index, before, known_seals, applied);
        answer
    }

    /// Digests what was booked and sealed.
    fn note(&mut self, index: u64, before: usize, known_seals: usize, applied: &mut Applied) {
        for s in &self.oracle.statements[before..] {
            let position = applied.booked.len() as u64;
            let hash = digest::statement(index, position, s);
            for side in [&s.from, &s.to] {
                self.journals
                    .entry((side.clone(), s.epoch))
                    .or_default()
                    .push(hash);
            }
            applied.booked.push((position, s.clone()));
        }
        for seal in &self.oracle.seals[known_seals..] {
            let hash = self.seal_digest(seal);
            self.seals
                .entry((seal.asset.clone(), seal.epoch))
                .or_default()
                .push(hash);
            applied.seals.push(hash);
        }
    }

    fn seal_digest(&self, seal: &Seal) -> Hash {
        let key = (seal.asset.clone(), seal.epoch);
        let previous = self
            .seals
            .get(&key)
            .and_then(|versions| versions.last())
            .copied()
            .unwrap_or_default();
        let journal = self
            .journals
            .get(&key)
            .map_or(&[][..], |journal| &journal[..seal.watermark.min(journal.len())]);
        let approvals: Vec<Key> = seal
            .approvals
            .iter()
            .filter_map(|key| hex::decode(key).ok()?.try_into().ok())
            .collect();
        digest::seal(
            &self.cluster.unwrap_or_default(),
            &previous,
            &digest::root(journal),
            seal,
            &approvals,
        )
    }

    fn register(&mut self, node: u64, key: Key) -> Answer {
        if self.removed.contains(&node) {
            return Answer::Refused("node_removed".to_owned());
        }
        let anothers = self
            .keys
            .iter()
            .any(|(other, theirs)| *other != node && *theirs == key);
        if anothers || self.revoked.contains(&key) {
            return Answer::Refused("key_taken".to_owned());
        }
        if let Some(old) = self.keys.insert(node, key).filter(|old| *old != key) {
            self.revoked.insert(old);
        }
        Answer::Done
    }

    fn revoke(&mut self, node: u64) -> Answer {
        if self.voters.iter().all(|voter| *voter == node) {
            return Answer::Refused("last_voter".to_owned());
        }
        let Some(key) = self.keys.remove(&node) else {
            return Answer::Refused("unknown_node".to_owned());
        };
        self.voters.remove(&node);
        self.removed.insert(node);
        self.revoked.insert(key);
        Answer::Done
    }

    fn block(&mut self, index: u64, seals: Vec<Hash>, state: Hash) {
        let previous = self
            .blocks
            .last_key_value()
            .map_or([0; 32], |(_, block)| block.digest);
        let config = |nodes: &BTreeSet<u64>| {
            nodes
                .iter()
                .map(|node| (*node, self.keys.get(node).copied()))
                .collect()
        };
        let voters: Vec<Vec<_>> = self.configs.iter().map(config).collect();
        let hex = |hash: &Hash| digest::hex(hash);
        let header = format!(
            r#"{{"cluster":"{}","count":{},"index":{index},"previous":"{}","root":"{}","state":"{}","voters":"{}"}}"#,
            hex(&self.cluster.unwrap_or_default()),
            seals.len(),
            hex(&previous),
            hex(&digest::root(&seals)),
            hex(&state),
            hex(&digest::voters(&voters)),
        );
        let digest = digest::digest("header", header.as_bytes());
        let block = Block {
            header,
            digest,
            seals,
            voters,
            signers: BTreeSet::new(),
            certified: false,
        };
        self.blocks.insert(index, block);
    }

    fn attest(&mut self, attestation: &Attestation) -> Result<(), &'static str> {
        let block = self.blocks.get_mut(&attestation.index).ok_or("unknown_block")?;
        let voter = block
            .voters
            .iter()
            .flatten()
            .find(|(node, _)| *node == attestation.node);
        let key = voter.and_then(|(_, key)| *key).ok_or("not_a_voter")?;
        if self.revoked.contains(&key) {
            return Err("key_revoked");
        }
        if attestation.header != block.digest {
            return Err("header_differs");
        }
        if block.signers.contains(&attestation.node) {
            return Err("already_attested");
        }
        if !digest::signs_header(&key, &block.header, &attestation.signature) {
            return Err("bad_signature");
        }
        block.signers.insert(attestation.node);
        Ok(())
    }

    fn certify(&mut self) -> Vec<u64> {
        let newest = self
            .blocks
            .iter()
            .rev()
            .find(|(_, block)| !block.certified && block.has_quorum())
            .map(|(i, _)| *i);
        let Some(newest) = newest else { return Vec::new() };
        let certified = self
            .blocks
            .range_mut(..=newest)
            .filter(|(_, block)| !block.certified);
        certified
            .map(|(index, block)| {
                block.certified = true;
                *index
            })
            .collect()
    }
}

impl Block {
    /// Whether its own signatures are a quorum of every configuration.
    pub fn has_quorum(&self) -> bool {
        !self.voters.is_empty()
            && self.voters.iter().all(|config| {
                let signed = config
                    .iter()
                    .filter(|(node, _)| self.signers.contains(node))
                    .count();
                !config.is_empty() && signed >= quorum(config.len())
            })
    }
}

/// How many of `n` voters certify: the least number such that two of that size have more than the third in common
/// that may lie.
pub fn quorum(n: usize) -> usize {
    let liars = n.saturating_sub(1) / 3;
    (0..=n).find(|q| 2 * q > n + liars).unwrap_or(n)
}
