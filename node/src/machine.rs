//! The state machine: committed bytes become the ledger's entries, and everyone concerned hears of it.
//!
//! It is the only place that changes the ledger. Outcomes go to whoever waits here, entries and what they did go
//! to the actors. It never waits and never fails: what can't be decoded is refused by the ledger, on every node
//! alike, and what lies in the archive was fetched before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use ledger::{Action, Applied, Body, Digest, Entry, Ledger, NodeId, Outcome, Refusal};
use parking_lot::RwLock;
use raft::{Attachments, BoxFuture, Capture, Committed, Payload, RestoreError, StateMachine};
use tokio::sync::{mpsc, watch};

use crate::actors::{Backlog, Fed, Origin};
use crate::alarm::Alarms;
use crate::archive::{Archive, attachment};
use crate::falsify::{self, Falsify, Wrong};
use crate::gateway::{Receipt, Told, Waiters};

/// Blocks of which contradicting signatures are counted.
const CONTRADICTED: usize = 1024;

/// The machine of one node.
pub(crate) struct Machine {
    pub(crate) ledger: Arc<RwLock<Ledger>>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) actors: mpsc::UnboundedSender<Fed>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) alarms: Alarms,
    pub(crate) archive: Arc<Archive>,
    /// Entries that were decoded to see what they need, with their indices.
    pub(crate) decoded: VecDeque<(u64, Entry)>,
    /// The genesis this node was started with.
    pub(crate) cluster: Digest,
    /// Set once the log turns out to be another cluster's.
    pub(crate) foreign: watch::Sender<Option<String>>,
    /// Who signed another header than ours, by block.
    pub(crate) contradicted: BTreeMap<u64, BTreeSet<NodeId>>,
    #[cfg(feature = "planted")]
    pub(crate) clock: Arc<dyn crate::seams::Clock>,
    /// For demonstrations: how this ledger computes wrongly, and the gateway's key.
    pub(crate) falsify: Option<(Falsify, SigningKey)>,
}

impl Machine {
    /// The entry in these bytes; most have been decoded already.
    fn decode(&mut self, index: u64, bytes: &Bytes) -> Result<Entry, ledger::canonical::DecodeError> {
        match self.decoded.pop_front() {
            Some((known, entry)) if known == index => Ok(entry),
            _ => Entry::decode(bytes),
        }
    }

    /// Applies an entry; says whether blocks became certified by it.
    fn entry(&mut self, ledger: &mut Ledger, index: u64, bytes: &Bytes) -> bool {
        let entry = match self.decode(index, bytes) {
            #[cfg(feature = "planted")]
            Ok(mut entry) if planted!("clock-in-apply") => {
                entry.at = self.clock.now();
                entry
            }
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(index, %error, "an entry that is none");
                ledger.apply_raw(index, bytes);
                return false;
            }
        };
        let falsify = self.falsify.as_ref().filter(|(wrong, _)| index >= wrong.from);
        let applied = match falsify.map(|(wrong, key)| (wrong.what, key)) {
            Some((Wrong::Books, key)) => {
                let falsified = falsify::entry(ledger, &entry, key, self.cluster);
                ledger.apply(index, &falsified)
            }
            Some((Wrong::Seals, _)) => {
                let mut applied = ledger.apply(index, &entry);
                falsify::seals(&mut applied);
                applied
            }
            // Sealing an epoch takes as long as there are assets; heartbeats must not wait behind it.
            _ if seals_epoch(&entry) => raft::aside(|| ledger.apply(index, &entry)),
            _ => ledger.apply(index, &entry),
        };
        self.check_genesis(&entry, &applied);
        self.check_attestations(ledger, &applied);
        let envelopes = match &entry.body {
            Body::Envelopes { envelopes } => &envelopes[..],
            Body::Genesis { .. } | Body::Attestations { .. } | Body::Tick {} => &[],
        };
        for ((position, answer), envelope) in (0..).zip(&applied.answers).zip(envelopes) {
            let told = Told {
                envelope: &answer.envelope,
                signature: Some(&envelope.signature),
                action: answer.let_in.then_some(&answer.action),
            };
            self.waiters.deliver(&told, || Receipt {
                index,
                position,
                outcome: answer.outcome.clone(),
                duplicate: answer.duplicate,
                now: applied.now,
            });
        }
        let certified = !applied.certified.is_empty();
        self.feed(Fed::Applied {
            entry: Arc::new(entry),
            applied: Arc::new(applied),
            bytes: bytes.len() as u64,
        });
        certified
    }

    fn feed(&self, fed: Fed) {
        self.backlog.add(fed.bytes());
        // The actors end only with the node.
        let _ = self.actors.send(fed);
    }

    fn check_genesis(&self, entry: &Entry, applied: &Applied) {
        if let (Body::Genesis { .. }, Some(Outcome::Began { cluster, .. })) = (&entry.body, &applied.outcome)
            && *cluster != self.cluster
        {
            let message = format!(
                "the log begins with the genesis of cluster {cluster}, but this node was started for {}",
                self.cluster
            );
            tracing::error!(message);
            self.foreign.send_replace(Some(message));
        }
    }

    /// A quorum that signed another header than ours, or a block that we have not, says that ours is wrong.
    fn check_attestations(&mut self, ledger: &Ledger, applied: &Applied) {
        for answer in &applied.attestations {
            let (block, node) = (answer.index, answer.node);
            let differs = match &answer.result {
                Err(Refusal::HeaderDiffers { .. }) => true,
                Err(Refusal::UnknownBlock { .. }) => block < applied.index,
                _ => false,
            };
            if !differs {
                continue;
            }
            tracing::warn!(node, block, "a node signed another block than this ledger made");
            let signers = self.contradicted.entry(block).or_default();
            signers.insert(node);
            let voters = ledger.block(block).map_or(ledger.voters(), |block| &block.voters);
            if voters.certified_by(signers) {
                let message =
                    format!("nodes {signers:?}, a quorum, signed a block that this ledger didn't make");
                self.alarms.raise(block, message);
            }
        }
        // What is certified can't be contradicted by a quorum any more. Of the rest, the newest say enough.
        if let Some(newest) = applied.certified.last() {
            self.contradicted = self.contradicted.split_off(&(newest + 1));
        }
        while self.contradicted.len() > CONTRADICTED {
            self.contradicted.pop_first();
        }
    }
}

impl StateMachine for Machine {
    /// There is room unless the archive or the actors have fallen behind.
    fn room(&mut self) -> Option<BoxFuture<'static, ()>> {
        self.archive.room().or_else(|| self.backlog.room())
    }

    /// Decodes the entries and fetches what they need from the archive.
    fn prepare(&mut self, batch: &[Committed]) -> Option<BoxFuture<'static, io::Result<()>>> {
        self.decoded.clear();
        let shared = Arc::clone(&self.ledger);
        let ledger = shared.read();
        if !planted!("archived-while-needed") {
            self.archive.hold_still();
        }
        // While nothing is in the archive, nothing can be needed.
        ledger.frozen().next()?;
        let mut needed = BTreeSet::new();
        for committed in batch {
            if let Payload::App(bytes) = &committed.payload
                && let Ok(entry) = Entry::decode(bytes)
            {
                needed.append(&mut ledger.needs(&entry));
                self.decoded.push_back((committed.index, entry));
            }
        }
        let archive = Arc::clone(&self.archive);
        (!needed.is_empty())
            .then(|| -> BoxFuture<'static, _> { Box::pin(async move { archive.thaw(needed).await }) })
    }

    fn apply(&mut self, batch: Vec<Committed>) {
        let shared = Arc::clone(&self.ledger);
        let mut ledger = shared.write();
        let mut certified = false;
        for committed in batch {
            match committed.payload {
                Payload::App(bytes) => certified |= self.entry(&mut ledger, committed.index, &bytes),
                Payload::Membership(configs) => ledger.apply_membership(committed.index, configs),
                Payload::Blank => ledger.apply_blank(committed.index),
            }
        }
        self.archive.applied(&mut ledger, certified);
    }

    fn snapshot(&mut self) -> Capture {
        let ledger = self.ledger.read();
        let captured = ledger.capture();
        let files = ledger.frozen().flat_map(|(_, files)| files);
        Capture {
            encode: Box::new(move |give| captured.encode(&mut |piece| give(Bytes::from(piece)))),
            attachments: files.map(attachment).collect(),
        }
    }

    fn attachments(&self) -> Option<Attachments> {
        Some(self.archive.attachments().clone())
    }

    fn attached(&self) -> BTreeSet<String> {
        self.ledger.read().files().map(|file| file.name.clone()).collect()
    }

    fn restore(&mut self, snapshot: Bytes, index: u64) -> Result<(), RestoreError> {
        let restored = Ledger::restore(&snapshot).map_err(|error| RestoreError(error.to_string()))?;
        let (cluster, reached) = (restored.cluster(), restored.applied());
        if restored.genesis().is_some() && cluster != self.cluster {
            return Err(RestoreError(format!(
                "the snapshot is of cluster {cluster}, not {}",
                self.cluster
            )));
        }
        if reached != Some(index) && !planted!("snapshot-index-ahead") {
            return Err(RestoreError(format!(
                "the snapshot's ledger has applied {reached:?}, not {index}"
            )));
        }
        let origin = Origin::of(&restored);
        let shared = Arc::clone(&self.ledger);
        let mut ledger = shared.write();
        *ledger = restored;
        // Entries that the snapshot skipped may hold what someone here waits for.
        for envelope in self.waiters.pending() {
            if let Some((action, outcome)) = ledger.remembered(&envelope) {
                let receipt = Receipt {
                    index: outcome.index().unwrap_or(index),
                    position: 0,
                    outcome: outcome.clone(),
                    duplicate: true,
                    now: ledger.now(),
                };
                let told = Told {
                    envelope: &envelope,
                    signature: None,
                    action: Some(&action),
                };
                self.waiters.deliver(&told, || receipt);
            }
        }
        self.feed(Fed::Restored(origin));
        self.archive.restored();
        Ok(())
    }
}

/// Whether an entry seals as much as there is to seal.
fn seals_epoch(entry: &Entry) -> bool {
    let Body::Envelopes { envelopes } = &entry.body else {
        return false;
    };
    let seals = |envelope: &ledger::Envelope| matches!(envelope.action, Action::SealEpoch { .. });
    envelopes.iter().any(seals)
}
