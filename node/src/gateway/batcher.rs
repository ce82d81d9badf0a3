//! Group commit: what arrives while batches are under way leaves together as the next one.
//!
//! On the leader a batch becomes one log entry of envelopes (and one of attestations), stamped with the
//! ledger's time; elsewhere it is one request to the leader. No timer delays anyone: an idle batcher sends a
//! lone envelope at once, a busy one fills up by itself.
//!
//! Absent on purpose: retries. Whoever offers learns what is certain and decides ([`super::Gateway`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use ledger::{Body, Entry, Genesis, Ledger, Timestamp};
use parking_lot::RwLock;
use raft::{BoxFuture, CallError, ProposeError, Replica, Role};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::assemble::{self, Parts};
use super::protocol::{self, Request, Response};
use super::stamp::Stamper;
use crate::seams::Clock;

/// Batches under way at once. Two keep disk and network busy in turn; more only queue.
const IN_FLIGHT: usize = 3;
/// Bytes of one batch, unless a single offer has more.
const BATCH_BYTES: usize = 1 << 20;
/// An idle leader moves the ledger's time on at least this often, so that a client which reads `now` can
/// choose a `not_after` that holds.
const TICK: Duration = Duration::from_secs(20);
/// A fresh leader that could not propose yet tries again after this.
const AGAIN: Duration = Duration::from_millis(50);
/// How long the leader may take to commit what another node forwards.
const FORWARD: Duration = Duration::from_secs(5);

/// Something to be proposed: canonical bytes, decodable (checked by whoever offers), signed.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Of `ledger::Envelope`s.
    pub(crate) envelopes: Vec<Bytes>,
    /// Of `ledger::block::Attestation`s.
    pub(crate) attestations: Vec<Bytes>,
    /// It came from another node: propose or refuse it, never pass it on, or two nodes that take each other
    /// for the leader would play ball with it.
    pub(crate) forwarded: bool,
    /// What became of it.
    pub(crate) answer: oneshot::Sender<Result<(), NotProposed>>,
}

impl Offer {
    fn bytes(&self) -> usize {
        self.envelopes
            .iter()
            .chain(&self.attestations)
            .map(Bytes::len)
            .sum()
    }
}

/// Why an offer was not proposed, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotProposed {
    /// Certainly not: this node does not lead, and knows no one who does, or was not to ask them.
    NoLeader,
    /// Certainly not: it has more bytes than a log entry may have.
    TooLarge,
    /// Certainly not: the leader has too much under way.
    Busy,
    /// It may commit, now or later.
    Unknown,
    /// The node stops.
    Stopping,
}

/// What the batcher works with.
pub(crate) struct Batcher {
    pub(crate) replica: Replica,
    pub(crate) ledger: Arc<RwLock<Ledger>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Proposed by the first leader.
    pub(crate) genesis: Genesis,
    pub(crate) offers: mpsc::Receiver<Offer>,
    /// With an alarm this node proposes nothing.
    pub(crate) alarmed: watch::Receiver<bool>,
}

type Answers = Vec<oneshot::Sender<Result<(), NotProposed>>>;
/// A batch under way: who waits for it, and what became of it.
type Flight = BoxFuture<'static, (Answers, Result<(), NotProposed>)>;

/// Parts of one batch.
#[derive(Default)]
struct Batch {
    envelopes: Vec<Bytes>,
    attestations: Vec<Bytes>,
    answers: Answers,
}

impl Batch {
    fn add(&mut self, mut offer: Offer) {
        self.envelopes.append(&mut offer.envelopes);
        self.attestations.append(&mut offer.attestations);
        self.answers.push(offer.answer);
    }
}

impl Batcher {
    /// Runs until no one can offer any more, or the replica is gone.
    pub(crate) async fn run(mut self) {
        let id = self.replica.status().id;
        let mut status = self.replica.watch_status();
        let mut flights: FuturesUnordered<Flight> = FuturesUnordered::new();
        let mut queue: VecDeque<Offer> = VecDeque::new();
        let mut leading: Option<Stamper> = None;
        // When the first entry of a leadership was last proposed.
        let mut began = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut ticked = false;
            tokio::select! {
                biased;
                Some((answers, result)) = flights.next() => tell(answers, result),
                changed = status.changed() => {
                    if changed.is_err() { return; }
                }
                offer = self.offers.recv(), if flights.len() < IN_FLIGHT => {
                    let Some(offer) = offer else { return };
                    self.gather(offer, &mut queue);
                }
                _ = tick.tick() => ticked = true,
                () = tokio::time::sleep_until(began + AGAIN), if leading.is_some() && flights.is_empty() && !self.begun() => {}
            }
            let (role, leader) = {
                let status = status.borrow_and_update();
                (status.role, status.leader)
            };
            let leads = role == Role::Leader && leader == Some(id) && !*self.alarmed.borrow();
            match &leading {
                Some(_) if !leads => leading = None,
                None if leads => {
                    // Time begins when the genesis was made: from 1970 it would never catch up.
                    let mut base = self.ledger.read().now().max(self.genesis.created);
                    if planted!("time-from-genesis") {
                        base = self.genesis.created;
                    }
                    let stamper = Stamper::new(base, Instant::now());
                    flights.push(self.begin(&stamper));
                    leading = Some(stamper);
                    began = Instant::now();
                }
                Some(stamper) if flights.is_empty() && !self.begun() && began.elapsed() >= AGAIN => {
                    flights.push(self.begin(stamper));
                    began = Instant::now();
                }
                Some(stamper) if ticked && flights.is_empty() => flights.extend(self.tick(stamper)),
                _ => {}
            }
            // Nothing goes before the genesis: the ledger would refuse it.
            let open = leading.is_none() || self.begun();
            while open && !queue.is_empty() && flights.len() < IN_FLIGHT {
                let offers = take(&mut queue);
                flights.extend(match &leading {
                    Some(stamper) => Some(self.propose(stamper, offers)),
                    None => self.forward(leader.filter(|leader| *leader != id), offers),
                });
            }
        }
    }

    /// Takes what else is waiting, as much as fits into one batch.
    fn gather(&mut self, first: Offer, queue: &mut VecDeque<Offer>) {
        let mut bytes = first.bytes();
        queue.push_back(first);
        while bytes < BATCH_BYTES
            && let Ok(offer) = self.offers.try_recv()
        {
            bytes += offer.bytes();
            queue.push_back(offer);
        }
    }

    fn stamp(&self, stamper: &Stamper) -> Timestamp {
        stamper.stamp(self.clock.now(), Instant::now(), self.ledger.read().now())
    }

    fn begun(&self) -> bool {
        self.ledger.read().genesis().is_some()
    }

    /// The first thing a leader says: the genesis, if the log has none yet, else the time.
    fn begin(&self, stamper: &Stamper) -> Flight {
        let body = if self.begun() {
            Body::Tick {}
        } else {
            Body::Genesis {
                genesis: self.genesis.clone(),
            }
        };
        let entry = Entry {
            at: self.stamp(stamper),
            body,
        };
        self.entries(vec![entry.encode().into()], Vec::new())
    }

    /// Moves time on if the ledger's lags behind by a tick.
    fn tick(&self, stamper: &Stamper) -> Option<Flight> {
        let at = self.stamp(stamper);
        let lag = Duration::from_millis(at.get().saturating_sub(self.ledger.read().now().get()));
        (lag >= TICK && !planted!("time-stands-still")).then(|| {
            self.entries(
                vec![
                    Entry {
                        at,
                        body: Body::Tick {},
                    }
                    .encode()
                    .into(),
                ],
                Vec::new(),
            )
        })
    }

    fn propose(&self, stamper: &Stamper, offers: Vec<Offer>) -> Flight {
        let at = self.stamp(stamper);
        let mut batch = Batch::default();
        offers.into_iter().for_each(|offer| batch.add(offer));
        let mut entries = Vec::new();
        if !batch.envelopes.is_empty() {
            entries.push(assemble::entry(at, Parts::Envelopes, &batch.envelopes));
        }
        if !batch.attestations.is_empty() {
            entries.push(assemble::entry(at, Parts::Attestations, &batch.attestations));
        }
        self.entries(entries, batch.answers)
    }

    fn entries(&self, entries: Vec<Bytes>, answers: Answers) -> Flight {
        let replica = self.replica.clone();
        Box::pin(async move {
            let result = match replica.propose(entries).await {
                Ok(_) => Ok(()),
                Err(ProposeError::NotLeader { .. }) => Err(NotProposed::NoLeader),
                Err(ProposeError::TooLarge { .. }) => Err(NotProposed::TooLarge),
                // What was under way when the replica stopped may be in the log.
                Err(ProposeError::Unknown(_) | ProposeError::Stopped) => Err(NotProposed::Unknown),
            };
            (answers, result)
        })
    }

    fn forward(&self, leader: Option<u64>, offers: Vec<Offer>) -> Option<Flight> {
        let mut batch = Batch::default();
        for offer in offers {
            if offer.forwarded || leader.is_none() {
                tell(vec![offer.answer], Err(NotProposed::NoLeader));
            } else {
                batch.add(offer);
            }
        }
        let leader = leader.filter(|_| !batch.answers.is_empty())?;
        let Batch {
            envelopes,
            attestations,
            answers,
        } = batch;
        let request = protocol::encode(&Request::Propose {
            envelopes,
            attestations,
        });
        let replica = self.replica.clone();
        Some(Box::pin(async move {
            // A dead leader must not hold a place until the deadline: whoever offered asks the next one.
            let mut status = replica.watch_status();
            let result = tokio::select! {
                called = replica.call(leader, request, FORWARD) => understand(called),
                _ = status.wait_for(|status| status.leader != Some(leader)) => Err(NotProposed::Unknown),
            };
            (answers, result)
        }))
    }
}

fn understand(called: Result<Bytes, CallError>) -> Result<(), NotProposed> {
    match called {
        Ok(bytes) => match protocol::decode(&bytes) {
            Some(Response::Proposed) => Ok(()),
            Some(Response::NotLeader) => Err(NotProposed::NoLeader),
            Some(Response::Busy) => Err(NotProposed::Busy),
            Some(Response::TooLarge) => Err(NotProposed::TooLarge),
            _ => Err(NotProposed::Unknown),
        },
        Err(CallError::UnknownPeer(_)) => Err(NotProposed::NoLeader),
        Err(CallError::TooLarge(_)) => Err(NotProposed::TooLarge),
        Err(CallError::Stopped) if planted!("cut-off-had-no-effect") => Err(NotProposed::Stopping),
        // The leader may have it, whoever of the two stopped before the answer.
        Err(CallError::Unreachable { .. } | CallError::Deadline(_) | CallError::Stopped) => {
            Err(NotProposed::Unknown)
        }
    }
}

/// Takes offers up to the size of one batch, at least one.
fn take(queue: &mut VecDeque<Offer>) -> Vec<Offer> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    while let Some(offer) = queue.front() {
        bytes += offer.bytes();
        if !taken.is_empty() && bytes > BATCH_BYTES {
            break;
        }
        taken.extend(queue.pop_front());
    }
    taken
}

fn tell(answers: Answers, result: Result<(), NotProposed>) {
    for answer in answers {
        // Whoever offered may have given up; the outcome reaches the ledger all the same.
        let _ = answer.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_to_the_leader_and_not_answered_may_have_an_effect() {
        let unreachable = CallError::Unreachable {
            peer: 2,
            message: "the connection broke".into(),
        };
        for error in [unreachable, CallError::Deadline(2), CallError::Stopped] {
            assert_eq!(understand(Err(error)), Err(NotProposed::Unknown));
        }
        assert_eq!(
            understand(Err(CallError::UnknownPeer(2))),
            Err(NotProposed::NoLeader)
        );
    }
}
