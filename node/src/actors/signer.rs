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
use ledger::{Digest, NodeId, PublicKey, Signature};
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
    pub(crate) signed: watch::Sender<Option<Own>>,
}

/// The blocks that this process verified and signed without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// The first one's index.
    first: u64,
    /// The last one's, and its header.
    last: u64,
    header: Digest,
}

impl Own {
    fn one(index: u64, header: Digest) -> Own {
        Own {
            first: index,
            last: index,
            header,
        }
    }

    /// With the next header that was verified. Behind a gap (a snapshot was installed) it begins anew: what lies in it
    /// this node never computed.
    fn and(self, header: &Header) -> Own {
        let next = Own::one(header.index, header.digest());
        match header.previous == self.header {
            true => Own {
                first: self.first,
                ..next
            },
            false => next,
        }
    }

    /// Whether the block at this index is one of them.
    pub(crate) fn contains(&self, index: u64) -> bool {
        (self.first..=self.last).contains(&index)
    }

    /// The last one's index.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }
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
            self.signed.send_replace(Some(Own::one(last.index, last.header)));
        }
        let mut headers = Vec::new();
        let mut strange = false;
        let mut own: Option<Own> = None;
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
            for header in &headers {
                own =
                    Some(own.map_or_else(|| Own::one(header.index, header.digest()), |own| own.and(header)));
            }
            let signatures = headers
                .drain(..)
                .map(|header| (header.index, self.sign(&header)))
                .collect();
            self.signed.send_replace(own);
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

#[cfg(test)]
mod tests {
    use ledger::ClusterId;

    use super::*;

    fn header(index: u64, previous: Digest) -> Header {
        Header {
            cluster: ClusterId::default(),
            index,
            count: 1,
            root: Digest::default(),
            previous,
            state: Digest::default(),
            voters: Digest::default(),
        }
    }

    #[test]
    fn a_node_vouches_for_what_it_computed_without_a_gap() {
        let first = header(10, Digest([7; 32]));
        let second = header(14, first.digest());
        let own = Own::one(first.index, first.digest()).and(&second);
        let within = |own: &Own| [9, 10, 12, 14, 15].map(|index| own.contains(index));
        assert_eq!(within(&own), [false, true, true, true, false]);
        // A snapshot brought all up to 90; the next block does not follow the last one that was computed here.
        let beyond = header(95, Digest([8; 32]));
        let own = own.and(&beyond);
        assert_eq!(
            [14, 60, 95].map(|index| own.contains(index)),
            [false, false, true]
        );
        assert_eq!(own.last(), 95);
    }
}
