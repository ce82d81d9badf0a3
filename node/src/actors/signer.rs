//! The signer: from verified headers to signatures in the log.
//!
//! What always holds: a header is signed only if this node's own actors verified it; the last one is durable
//! before any signature of its batch leaves ([`Record`]); and before the first signature after a start the
//! record must stand in this node's chain, or the disk is not the one that the node signed with, and the alarm
//! is raised. Headers of one chain are signed in its order, so a newer record covers its ancestors. Where the record
//! can't be written the node stops, as it does when its log can't.
//!
//! A signature that may not have reached the log is offered again until the ledger has it or the block is
//! certified without it.

use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use ledger::block::{Attestation, Header};
use ledger::canonical::Canonical;
use ledger::jws::thumbprint;
use ledger::{NodeId, PublicKey, Signature};
use tokio::sync::{mpsc, watch};

use super::signed::{Record, Signed};
use crate::alarm::Alarms;
use crate::gateway::Backend as _;
use crate::gateway::Gateway;

/// Signatures offered at once.
const BATCH: usize = 1024;
/// Before an offer that found no leader is repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// What the signer works with.
pub(crate) struct Signer {
    pub(crate) node: NodeId,
    pub(crate) key: SigningKey,
    pub(crate) record: Record,
    pub(crate) verified: mpsc::UnboundedReceiver<Header>,
    pub(crate) gateway: Gateway,
    pub(crate) alarms: Alarms,
    /// Highest block index signed, or whose descendant is.
    pub(crate) signed: watch::Sender<Option<u64>>,
}

impl Signer {
    /// Runs until the attestor is gone, an alarm is raised, or the disk fails.
    pub(crate) async fn run(mut self) {
        let mut alarmed = self.alarms.watch();
        tokio::select! {
            _ = alarmed.wait_for(|raised| *raised) => {}
            () = self.sign_all() => {}
        }
    }

    async fn sign_all(&mut self) {
        // What was replayed may be signed already: the log says so once all of it is here.
        if !planted!("signature-before-commit") && self.gateway.wait_ready().await.is_err() {
            return;
        }
        if let Some(last) = self.record.last()
            && !planted!("signature-before-commit")
        {
            let known = self
                .gateway
                .ledger()
                .read()
                .block(last.index)
                .map(|block| block.digest);
            if known != Some(last.header) {
                self.alarms.raise(
                    last.index,
                    format!(
                        "this node signed header {}, but its ledger has {known:?} there",
                        last.header
                    ),
                );
                return;
            }
            self.signed.send_replace(Some(last.index));
        }
        let mut headers = Vec::new();
        let mut strange = false;
        while self.verified.recv_many(&mut headers, BATCH).await > 0 {
            let Some(last) = headers.last() else { continue };
            // Its signatures count for nothing then. Whoever replaces a key is told so, once.
            let known = self.gateway.ledger().read().node_keys().get(&self.node).copied();
            let is_strange = known.is_some_and(|known| known != self.public());
            if is_strange && !strange {
                tracing::warn!(
                    signs_with = thumbprint(&self.public()),
                    registered = known.map(|known| thumbprint(&known)),
                    "this node's key is not the one registered for it: its signatures count for nothing"
                );
            }
            strange = is_strange;
            let last = Signed {
                index: last.index,
                header: last.digest(),
            };
            if self.record.last().is_none_or(|before| before.index < last.index)
                && let Err(error) = self.record.put(last).await
            {
                // Not a disagreement, so no alarm: the disk is lost, and the node with it.
                tracing::error!(index = last.index, %error, "can't record what is signed");
                self.gateway.replica().disk_failed(&error);
                return;
            }
            let signatures = headers
                .drain(..)
                .map(|header| (header.index, self.sign(&header)))
                .collect();
            self.signed.send_if_modified(|signed| {
                let newer = signed.is_none_or(|before| before < last.index);
                if newer {
                    *signed = Some(last.index);
                }
                newer
            });
            self.place(signatures).await;
        }
    }

    fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    fn sign(&self, header: &Header) -> Attestation {
        let public = self.public();
        let signature = Signature(self.key.sign(header.signing_input(&public).as_bytes()).to_bytes());
        Attestation {
            node: self.node,
            index: header.index,
            header: header.digest(),
            signature,
        }
    }

    /// Offers signatures until each is in the log or not needed any more.
    async fn place(&self, mut signatures: BTreeMap<u64, Attestation>) {
        loop {
            {
                let ledger = self.gateway.ledger().read();
                signatures.retain(|index, _| {
                    ledger.block(*index).is_some_and(|block| {
                        // A learner's signature counts for nothing, so it is kept to itself.
                        let mut counts = block.voters.contains(self.node);
                        if planted!("learner-counted") {
                            counts = true;
                        }
                        if planted!("todays-voters") {
                            counts |= ledger.voters().contains(self.node);
                        }
                        counts && !block.certified && !block.signatures.contains_key(&self.node)
                    })
                });
            }
            if signatures.is_empty() {
                return;
            }
            let offer = self.gateway.offer(
                Vec::new(),
                signatures
                    .values()
                    .map(|signed| signed.to_bytes().into())
                    .collect(),
            );
            match offer.await {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}
