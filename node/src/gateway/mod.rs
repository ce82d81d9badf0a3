//! From a request to its receipt: sign, offer to the leader, wait until it is applied here.
//!
//! ```text
//! submit ─ sign ─ register ─┬─ batcher ─ propose (leader) ─ Raft ─┐
//!                           └─ batcher ─ call the leader ─────────┤
//!          receipt ◄─ waiters ◄─────────── state machine here ◄───┘
//! ```
//!
//! What always holds: an answer leaves only after the entry was applied on this node. An envelope whose fate is
//! not certain is offered again, to whoever leads then, until the client's patience ends; the ledger's nonces
//! make that safe. [`Unanswered`] other than `Unknown` promises that nothing happened and nothing will.
//!
//! Absent on purpose: knowledge of what actions mean.

mod assemble;
mod barrier;
mod batcher;
mod merging;
mod orders;
mod peers;
mod protocol;
mod stamp;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use ledger::canonical::Canonical;
use ledger::envelope::LIFETIME_MS;
use ledger::{
    Action, ClusterId, Envelope, EnvelopeRef, Epoch, Ledger, NodeId, Nonce, PublicKey, Refusal, Settlement,
    Signature, Timestamp,
};
use parking_lot::RwLock;
use raft::{BoxFuture, Disk, Replica, Unreadable};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub use crate::api::backend::{Backend, NodeStatus, Receipt, Unanswered};
pub(crate) use batcher::{Batcher, NotProposed, Offer};
pub(crate) use merging::Merging;
pub(crate) use orders::Given;
pub(crate) use peers::Peers;
pub(crate) use waiters::{Place, Told, Waiters};

use crate::actors::{Backlog, Own};
use crate::alarm::Alarms;
use crate::archive::{Archive, ArchiveStatus};
use crate::order::{Done, NotDone, Order};
use crate::seams::Entropy;

/// How long a client waits for this node's signature under a block.
const SIGNATURE_PATIENCE: Duration = Duration::from_secs(1);
/// Entries that the actors may lag behind before the node takes no more writes.
const BACKLOG_LIMIT: u64 = 4_096;
/// Archived epochs that one request may bring back into memory, on every node and before anything else is applied.
const MOST_ARCHIVED: usize = 64;
/// Bytes of their files, if they are more than one: some 250 000 seals, or eight million statements.
const MOST_ARCHIVED_BYTES: u64 = 64 << 20;

/// The gateway of one node; clones are the same one.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

/// What a gateway is made of.
pub(crate) struct Inner {
    pub(crate) replica: Replica,
    pub(crate) ledger: Arc<RwLock<Ledger>>,
    pub(crate) archive: Arc<Archive>,
    pub(crate) cluster: ClusterId,
    /// When the genesis was made: time begins there, though the ledger says so only once it has the genesis.
    pub(crate) created: Timestamp,
    pub(crate) node_key: SigningKey,
    /// Signs unsigned requests; absent where those are refused.
    pub(crate) gateway_key: Option<SigningKey>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) merging: Merging,
    pub(crate) offers: mpsc::Sender<Offer>,
    pub(crate) readers: mpsc::Sender<barrier::Reader>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Asked only for what it counts.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) alarms: Alarms,
    /// The blocks that this process computed and signed.
    pub(crate) signed: watch::Receiver<Option<Own>>,
    /// Entries applied but not yet worked off by the actors.
    pub(crate) backlog: Arc<Backlog>,
    /// See [`NodeStatus::ready_at`].
    pub(crate) ready_at: watch::Sender<Option<u64>>,
    /// Orders that admins have given this process.
    pub(crate) given: Given,
    /// How long a client waits.
    pub(crate) patience: Duration,
}

/// Starts the task that answers readers; returns where to ask.
pub(crate) fn start_barrier(replica: Replica, patience: Duration) -> mpsc::Sender<barrier::Reader> {
    let (readers, queue) = mpsc::channel(1024);
    tokio::spawn(barrier::run(queue, replica, patience));
    readers
}

impl Gateway {
    pub(crate) fn new(inner: Inner) -> Self {
        Gateway {
            inner: Arc::new(inner),
        }
    }

    /// What was committed when the node started, once that is known.
    pub(crate) fn ready_at(&self) -> watch::Receiver<Option<u64>> {
        self.inner.ready_at.subscribe()
    }

    /// Learns what was committed when the node started, so that it can say when it is ready.
    pub(crate) async fn learn_ready(&self) {
        loop {
            match self.read_point().await {
                Ok(index) => {
                    self.inner.ready_at.send_replace(Some(index));
                    return;
                }
                Err(Unanswered::Stopping) => return,
                // The round itself waited; the next one may find a leader.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Delivers an action in an envelope of the gateway's own, and gives the action back.
    ///
    /// What is signed here lives as long as the ledger lets it, by the ledger's time as this node knows it. If the node is
    /// behind by more than that, or has no ledger yet and the leader's clock is not that of whoever made the genesis, the
    /// envelope is not let in, and goes again, under the same nonce, with the time at which it was refused.
    async fn deliver_own(
        &self,
        mut action: Action,
        nonce: Option<Nonce>,
        deadline: Instant,
    ) -> (Action, Result<Receipt, Unanswered>) {
        let Some(key) = &self.inner.gateway_key else {
            return (action, Err(Unanswered::UnsignedRefused));
        };
        let nonce = nonce.unwrap_or_else(|| self.inner.entropy.nonce());
        let mut now = self.inner.ledger.read().now().max(self.inner.created);
        loop {
            let not_after = now.plus(LIFETIME_MS);
            let envelope = sign_envelope(key, self.inner.cluster, nonce, not_after, action);
            let delivered = self.deliver(&envelope, deadline).await;
            action = envelope.action;
            match delivered {
                Ok(receipt) if is_untimely(&receipt) && receipt.now != now => now = receipt.now,
                delivered => return (action, delivered),
            }
        }
    }

    /// A place among the requests under way, and when the client's patience ends.
    fn begin(&self) -> Result<(Place, Instant), Unanswered> {
        let place = self.inner.waiters.place().ok_or(Unanswered::Busy {
            retry_after: Duration::from_secs(1),
        })?;
        Ok((place, Instant::now() + self.inner.patience))
    }

    /// Delivers what one client asked.
    async fn deliver_alone(&self, action: Action, nonce: Option<Nonce>) -> Result<Receipt, Unanswered> {
        let (_place, deadline) = self.begin()?;
        self.deliver_own(action, nonce, deadline).await.1
    }

    /// Offers an envelope until it is applied here or the deadline has passed.
    async fn deliver(&self, envelope: &Envelope, deadline: Instant) -> Result<Receipt, Unanswered> {
        let inner = &*self.inner;
        if inner.alarms.raised() {
            let reason = inner
                .alarms
                .list()
                .first()
                .map(|alarm| alarm.message.clone())
                .unwrap_or_default();
            return Err(Unanswered::Alarmed { reason });
        }
        if inner.backlog.messages() > BACKLOG_LIMIT {
            return Err(Unanswered::Busy {
                retry_after: Duration::from_secs(1),
            });
        }
        self.check_archived(&envelope.action)?;
        let bytes = Bytes::from(envelope.to_bytes());
        let mut waiter = inner.waiters.register(envelope, bytes.clone());
        // Until an offer was made whose fate isn't certain, giving up is without effect.
        let mut uncertain = false;
        let mut pause = Duration::from_millis(10);
        loop {
            let offer = self.offer(vec![bytes.clone()], Vec::new());
            let why = tokio::select! {
                biased;
                receipt = &mut waiter.receipt => return receipt.map_err(|_| Unanswered::Unknown),
                offered = offer => offered.err(),
                () = tokio::time::sleep_until(deadline) => return Err(Unanswered::Unknown),
            };
            // An offer that was cut off by the deadline may be under way; so may one that is not answered.
            match why {
                // Committed. It is applied here as soon as this node hears so.
                None => {
                    let receipt = tokio::time::timeout_at(deadline, &mut waiter.receipt).await;
                    return receipt.ok().and_then(Result::ok).ok_or(Unanswered::Unknown);
                }
                Some(NotProposed::TooLarge) if !uncertain => return Err(Unanswered::TooLarge),
                Some(NotProposed::Stopping) if !uncertain => return Err(Unanswered::Stopping),
                Some(NotProposed::TooLarge | NotProposed::Stopping) => return Err(Unanswered::Unknown),
                Some(NotProposed::Unknown) => uncertain = true,
                Some(NotProposed::NoLeader | NotProposed::Busy) => {}
            }
            // Wait for the outcome, a new leader, or a little while; then offer it again.
            let mut status = inner.replica.watch_status();
            let leader = status.borrow_and_update().leader;
            tokio::select! {
                biased;
                receipt = &mut waiter.receipt => return receipt.map_err(|_| Unanswered::Unknown),
                () = tokio::time::sleep_until(deadline) => {
                    return Err(if uncertain { Unanswered::Unknown } else { Unanswered::NoLeader });
                }
                _ = status.wait_for(|status| status.leader != leader) => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Offers envelopes or attestations, in canonical bytes, once, to whoever leads.
    pub(crate) async fn offer(
        &self,
        envelopes: Vec<Bytes>,
        attestations: Vec<Bytes>,
    ) -> Result<(), NotProposed> {
        let (answer, outcome) = oneshot::channel();
        let offer = Offer {
            envelopes,
            attestations,
            forwarded: false,
            answer,
        };
        self.inner
            .offers
            .send(offer)
            .await
            .map_err(|_| NotProposed::Stopping)?;
        outcome.await.unwrap_or(Err(NotProposed::Unknown))
    }

    /// Waits until all is applied here that was committed when the node started.
    pub(crate) async fn wait_ready(&self) -> Result<(), Unanswered> {
        let index = match self.inner.ready_at.subscribe().wait_for(Option::is_some).await {
            Ok(index) => index.unwrap_or(0),
            Err(_) => return Err(Unanswered::Stopping),
        };
        loop {
            match self.inner.replica.wait_applied(index, self.inner.patience).await {
                Ok(()) => return Ok(()),
                Err(raft::WaitError::Stopped) => return Err(Unanswered::Stopping),
                Err(raft::WaitError::Deadline) => {}
            }
        }
    }

    async fn read_point(&self) -> Result<u64, Unanswered> {
        let (reader, point) = oneshot::channel();
        self.inner
            .readers
            .send(reader)
            .await
            .map_err(|_| Unanswered::Stopping)?;
        point.await.map_err(|_| Unanswered::Stopping)?
    }

    /// The replica underneath, for membership and shutdown.
    pub(crate) fn replica(&self) -> &Replica {
        &self.inner.replica
    }

    /// This node's alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.inner.alarms
    }

    /// All requests that wait for their outcome here, by a number that no other of this process has, and whether the ledger has it: those
    /// who waited before it had must be told at once.
    pub fn waiting(&self) -> Vec<(u64, bool)> {
        let ledger = self.inner.ledger.read();
        let action = |envelope: &EnvelopeRef| ledger.remembered(envelope).map(|(action, _)| action);
        self.inner.waiters.waiting(action)
    }

    /// A scheduler's action: signed by the gateway, offered until applied.
    pub(crate) async fn act(&self, action: Action, nonce: Nonce) -> Result<Receipt, Unanswered> {
        self.deliver_alone(action, Some(nonce)).await
    }

    /// Whether any of these settlements is of an archived epoch. Such travel alone: what they need is bounded by request.
    fn is_late(&self, settlements: &[Settlement]) -> bool {
        let ledger = self.inner.ledger.read();
        let is_frozen = |settlement: &Settlement| ledger.frozen_bytes(settlement.epoch).is_some();
        settlements.iter().any(is_frozen)
    }

    /// Whether there is room for the archived epochs that an action needs.
    ///
    /// # Errors
    /// It needs too many, or too many have come back already.
    fn check_archived(&self, action: &Action) -> Result<(), Unanswered> {
        let ledger = self.inner.ledger.read();
        let needed = ledger.needs_of(action);
        let mut bytes = needed.iter().filter_map(|epoch| ledger.frozen_bytes(*epoch));
        let mut left = MOST_ARCHIVED_BYTES;
        let fit = bytes.by_ref().take(MOST_ARCHIVED).take_while(|bytes| {
            let fits = *bytes <= left;
            left = left.saturating_sub(*bytes);
            fits
        });
        let most = fit.count().max(1);
        if needed.len() > most {
            let needed = needed.len();
            return Err(Unanswered::TooManyArchived { needed, most });
        }
        // To seal or correct is how room is made.
        let adds = matches!(action, Action::Settle { .. } | Action::SettleRoster { .. });
        if adds && !needed.is_empty() && !self.inner.archive.has_room_for_late(&ledger) {
            return Err(Unanswered::ArchiveBusy {
                retry_after: Duration::from_secs(5),
            });
        }
        Ok(())
    }

    /// Whether the log has this node's signature under a block.
    fn has_signed(&self, index: u64) -> bool {
        let node = self.inner.replica.status().id;
        let ledger = self.inner.ledger.read();
        ledger
            .block(index)
            .is_some_and(|block| block.signatures.contains_key(&node))
    }

    /// What this envelope would be answered if it were not let in, as far as this node knows.
    fn turn_away(&self, envelope: &Envelope) -> Option<Receipt> {
        let ledger = self.inner.ledger.read();
        let refusal = ledger.check_envelope(envelope).err()?;
        Some(Receipt {
            index: ledger.applied().unwrap_or(0),
            position: 0,
            outcome: refusal.into(),
            duplicate: false,
            now: ledger.now(),
        })
    }
}

/// Whether an envelope was not let in because of its time.
fn is_untimely(receipt: &Receipt) -> bool {
    matches!(
        receipt.outcome.refusal(),
        Some(Refusal::Expired { .. } | Refusal::NotAfterTooFar { .. })
    )
}

/// Signs an action for a cluster.
pub fn sign_envelope(
    key: &SigningKey,
    cluster: ClusterId,
    nonce: Nonce,
    not_after: Timestamp,
    action: Action,
) -> Envelope {
    let signer = PublicKey(key.verifying_key().to_bytes());
    let bytes = ledger::envelope::signing_bytes(cluster, signer, nonce, not_after, &action);
    let signature = Signature(key.sign(&bytes).to_bytes());
    Envelope {
        signer,
        nonce,
        not_after,
        action,
        signature,
    }
}

impl Backend for Gateway {
    fn submit(&self, action: Action, nonce: Option<Nonce>) -> BoxFuture<'_, Result<Receipt, Unanswered>> {
        Box::pin(async move {
            match action {
                Action::Settle { settlements }
                    if nonce.is_none() && merging::merges(&settlements) && !self.is_late(&settlements) =>
                {
                    self.merge(settlements).await
                }
                action => self.deliver_alone(action, nonce).await,
            }
        })
    }

    fn submit_envelope(&self, envelope: Envelope) -> BoxFuture<'_, Result<Receipt, Unanswered>> {
        Box::pin(async move {
            // What can't be let in never reaches the log. Applying it will check the same again.
            if let Some(refused) = self.turn_away(&envelope) {
                // No time and no other signer makes a bad signature good. Else this node may be behind: the signer may have
                // been named since, the time be later, and the envelope be a retry of what was done.
                if refused.outcome.refusal() == Some(&Refusal::BadSignature {}) {
                    return Ok(refused);
                }
                self.barrier().await?;
                if let Some(refused) = self.turn_away(&envelope) {
                    return Ok(refused);
                }
            }
            let (_place, deadline) = self.begin()?;
            self.deliver(&envelope, deadline).await
        })
    }

    fn readable(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), Unanswered>> {
        Box::pin(async move {
            let shown = self.inner.archive.show(epoch).await;
            shown.map_err(|why| match why {
                // A disk that fails ends the node.
                Unreadable::Disk(_) => Unanswered::Stopping,
                Unreadable::Damaged { .. } => Unanswered::Damaged { why: why.to_string() },
            })
        })
    }

    fn archive(&self) -> ArchiveStatus {
        self.inner.archive.status()
    }

    fn barrier(&self) -> BoxFuture<'_, Result<(), Unanswered>> {
        Box::pin(async move {
            if planted!("follower-read-without-barrier") && self.status().leader != Some(self.status().node) {
                return Ok(());
            }
            let index = self.read_point().await?;
            if planted!("read-before-applied") {
                return Ok(());
            }
            let index = index.saturating_sub(u64::from(planted!("read-one-short")));
            let applied = self.inner.replica.wait_applied(index, self.inner.patience).await;
            applied.map_err(|error| match error {
                raft::WaitError::Stopped => Unanswered::Stopping,
                raft::WaitError::Deadline => Unanswered::NoLeader,
            })
        })
    }

    fn ledger(&self) -> &Arc<RwLock<Ledger>> {
        &self.inner.ledger
    }

    fn status(&self) -> NodeStatus {
        let status = self.inner.replica.status();
        let voters: std::collections::BTreeSet<NodeId> = status.voters.iter().flatten().copied().collect();
        NodeStatus {
            node: status.id,
            leader: status.leader,
            term: status.term,
            applied: status.applied.unwrap_or(0),
            committed: status.committed.unwrap_or(0),
            ready_at: *self.inner.ready_at.borrow(),
            voters: voters.into_iter().collect(),
            configs: status.voters,
            learners: status.learners.into_iter().collect(),
            alarms: self
                .inner
                .alarms
                .list()
                .into_iter()
                .map(|alarm| alarm.message)
                .collect(),
            pending: self.inner.waiters.len(),
            backlog: self.inner.backlog.messages(),
            disk: self.inner.disk.work(),
        }
    }

    fn signed(&self, index: u64) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let mut signed = self.inner.signed.clone();
            let mut alarmed = self.inner.alarms.watch();
            tokio::select! {
                biased;
                _ = alarmed.wait_for(|raised| *raised) => false,
                reached = signed.wait_for(|own| own.is_some_and(|own| own.last() >= index)) => {
                    let own = reached.is_ok_and(|own| own.is_some_and(|own| own.contains(index)));
                    own || self.has_signed(index)
                }
                () = tokio::time::sleep(SIGNATURE_PATIENCE) => false,
            }
        })
    }

    fn obey(&self, order: Order) -> BoxFuture<'_, Result<Done, NotDone>> {
        Box::pin(async move {
            let now = self.inner.ledger.read().now();
            if !self.inner.given.is_new(order.digest(), order.not_after, now) {
                return Err(NotDone::Repeated);
            }
            tracing::info!(task = ?order.order, nonce = order.nonce, "an admin's order");
            orders::carry_out(&self.inner.replica, order.order).await
        })
    }

    fn node_key(&self) -> PublicKey {
        PublicKey(self.inner.node_key.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.inner.node_key.sign(message).to_bytes())
    }

    fn nonce(&self) -> Nonce {
        self.inner.entropy.nonce()
    }
}
