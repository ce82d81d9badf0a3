//! Who waits for which envelope's outcome on this node.
//!
//! An answer leaves only after the entry was applied *here*: the state machine hands every outcome to this
//! table, which knows whether someone is waiting. Two requests may bear one name, `(signer, nonce)`: a retry, which gets what
//! the first one got, and a mistake or a forgery, which must not. So a request is handed what its very own envelope was
//! told, and what another of its name was told only if that asked for the same and was let in. Requests are bounded by places; one that was merged with others
//! has a place of its own and no registration. Who has a place is never dropped for a newcomer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ledger::canonical::Canonical as _;
use ledger::{Digest, Envelope, EnvelopeRef, Signature};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Receipt;

/// The table; shared between the gateway (who registers) and the state machine (who delivers).
#[derive(Debug)]
pub(crate) struct Waiters {
    limit: usize,
    places: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By envelope; the number tells registrations of one envelope apart.
    waiting: BTreeMap<EnvelopeRef, BTreeMap<u64, Waiting>>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    signature: Signature,
    /// The whole envelope.
    bytes: Bytes,
    receipt: oneshot::Sender<Receipt>,
}

impl Waiting {
    fn is_told(&self, told: &Told<'_>) -> bool {
        planted!("told-by-name-alone")
            || told.signature == Some(&self.signature)
            // Seldom asked: mostly the envelope is one's own.
            || told.action.is_some_and(|action| {
                Envelope::from_bytes(&self.bytes).is_ok_and(|ours| ours.action_digest() == *action)
            })
    }
}

/// Whom an outcome concerns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// The name.
    pub(crate) envelope: &'a EnvelopeRef,
    /// Whoever waits for the envelope with this signature.
    pub(crate) signature: Option<&'a Signature>,
    /// Whoever asked for the action with this digest.
    pub(crate) action: Option<&'a Digest>,
}

/// One request under way. Dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Place(Arc<Waiters>);

/// One registration. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Waiter {
    waiters: Arc<Waiters>,
    envelope: EnvelopeRef,
    number: u64,
    /// The receipt, once it is applied here.
    pub(crate) receipt: oneshot::Receiver<Receipt>,
}

impl Waiters {
    /// A table with places for `limit` requests.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Waiters {
            limit,
            places: AtomicUsize::new(0),
            table: Mutex::default(),
        })
    }

    /// A place for one more request; `None` if all are taken.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        let taken = self.places.fetch_add(1, Ordering::Relaxed);
        // Counted before it is checked, so that two can't take the last one; the drop gives it back.
        let place = Place(Arc::clone(self));
        (taken < self.limit).then_some(place)
    }

    /// Waits for an envelope, whose bytes these are. Several may wait under one name: retries.
    pub(crate) fn register(self: &Arc<Self>, envelope: &Envelope, bytes: Bytes) -> Waiter {
        let (sender, receipt) = oneshot::channel();
        let waiting = Waiting {
            signature: envelope.signature,
            bytes,
            receipt: sender,
        };
        let envelope = envelope.id();
        let mut table = self.table.lock();
        let number = table.next;
        table.next += 1;
        table.waiting.entry(envelope).or_default().insert(number, waiting);
        Waiter {
            waiters: Arc::clone(self),
            envelope,
            number,
            receipt,
        }
    }

    /// Hands an outcome to all whom it concerns. `receipt` is made only if someone waits.
    pub(crate) fn deliver(&self, told: &Told<'_>, receipt: impl FnOnce() -> Receipt) {
        let concerned = {
            let mut table = self.table.lock();
            let mut whose = *told.envelope;
            if planted!("answers-taken-in-order") && table.waiting.contains_key(&whose) {
                // Whoever has waited longest comes first.
                let first = |waiting: &BTreeMap<u64, _>| waiting.keys().next().copied();
                let oldest = table.waiting.iter().min_by_key(|(_, waiting)| first(waiting));
                whose = oldest.map_or(whose, |(oldest, _)| *oldest);
            }
            let Some(waiting) = table.waiting.get_mut(&whose) else {
                return;
            };
            let anyone = planted!("answers-taken-in-order");
            let concerned: Vec<Waiting> = waiting
                .extract_if(.., |_, waiting| anyone || waiting.is_told(told))
                .map(|(_, waiting)| waiting)
                .collect();
            if waiting.is_empty() {
                table.waiting.remove(&whose);
            }
            concerned
        };
        if concerned.is_empty() {
            return;
        }
        let receipt = receipt();
        for waiting in concerned {
            // A waiter that gave up meanwhile is no failure.
            let _ = waiting.receipt.send(receipt.clone());
        }
    }

    /// All envelopes that someone waits for, in order.
    pub(crate) fn pending(&self) -> Vec<EnvelopeRef> {
        self.table.lock().waiting.keys().copied().collect()
    }

    /// All who wait, by number, and whether they are to have what `outcome` says of their envelopes' names: the digest of the
    /// action that it is of.
    pub(crate) fn waiting(&self, outcome: impl Fn(&EnvelopeRef) -> Option<Digest>) -> Vec<(u64, bool)> {
        let table = self.table.lock();
        let all = table.waiting.iter().flat_map(|(envelope, waiting)| {
            let action = outcome(envelope);
            waiting.iter().map(move |(number, waiting)| {
                let told = Told {
                    envelope,
                    signature: None,
                    action: action.as_ref(),
                };
                (*number, action.is_some() && waiting.is_told(&told))
            })
        });
        all.collect()
    }

    /// How many requests have a place.
    pub(crate) fn len(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.waiters.table.lock();
        let Some(senders) = table.waiting.get_mut(&self.envelope) else {
            return;
        };
        if senders.remove(&self.number).is_some() && senders.is_empty() {
            table.waiting.remove(&self.envelope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_refuses_the_next_and_takes_it_when_one_has_left() {
        let waiters = Waiters::new(2);
        let first = waiters.place().expect("room for two");
        let second = waiters.place().expect("room for two");
        assert!(waiters.place().is_none());
        assert!(waiters.place().is_none(), "a refusal takes no place");
        drop(first);
        let third = waiters.place().expect("one has left");
        assert_eq!(waiters.len(), 2);
        drop((second, third));
        assert_eq!(waiters.len(), 0);
    }

    /// A request of this name and until this time.
    fn envelope(seals: u64, not_after: u64) -> Envelope {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let action = ledger::Action::SealEpoch {
            epoch: ledger::Epoch::new(seals).expect("an epoch"),
            under: None,
        };
        let not_after = ledger::Timestamp::new(not_after).expect("a time");
        super::super::sign_envelope(&key, Digest::ZERO, [1; 16], not_after, action)
    }

    #[test]
    fn nobody_is_told_what_became_of_another_request_of_the_same_name() {
        let waiters = Waiters::new(9);
        let wait = |envelope: &Envelope| waiters.register(envelope, envelope.to_bytes().into());
        let (first, retry, other) = (envelope(5, 100), envelope(5, 200), envelope(6, 100));
        assert!(first.id() == retry.id() && first.id() == other.id());
        let receipt = |index| Receipt {
            index,
            position: 0,
            outcome: ledger::Refusal::NonceReused {}.into(),
            duplicate: false,
            now: ledger::Timestamp::ZERO,
        };
        let tell = |envelope: &Envelope, let_in: bool, index| {
            let (id, action) = (envelope.id(), envelope.action_digest());
            let told = Told {
                envelope: &id,
                signature: Some(&envelope.signature),
                action: let_in.then_some(&action),
            };
            waiters.deliver(&told, || receipt(index));
        };
        let index = |waiter: &mut Waiter| waiter.receipt.try_recv().ok().map(|receipt| receipt.index);

        let (mut a, mut b, mut c) = (wait(&first), wait(&retry), wait(&other));
        tell(&first, false, 1);
        assert_eq!(
            [index(&mut a), index(&mut b), index(&mut c)],
            [Some(1), None, None]
        );
        let mut a = wait(&first);
        // Two of the three ask for what the ledger knows to have been done under that name.
        let action = first.action_digest();
        let known = waiters.waiting(|id| (*id == first.id()).then_some(action));
        assert_eq!(
            known.iter().map(|(_, known)| *known).collect::<Vec<_>>(),
            [true, false, true]
        );
        assert!(waiters.waiting(|_| None).iter().all(|(_, known)| !known));
        tell(&retry, true, 2);
        assert_eq!(
            [index(&mut a), index(&mut b), index(&mut c)],
            [Some(2), Some(2), None]
        );
        tell(&other, false, 3);
        assert_eq!(index(&mut c), Some(3));
        assert!(waiters.pending().is_empty());
    }
}
