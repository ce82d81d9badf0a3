//! Who waits for which envelope's outcome on this node.
//!
//! An answer leaves only after the entry was applied *here*: the state machine hands every outcome to this
//! table, which knows whether someone is waiting. Requests are bounded by places; one that was merged with others
//! has a place of its own and no registration. Who has a place is never dropped for a newcomer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ledger::EnvelopeRef;
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
    waiting: BTreeMap<EnvelopeRef, BTreeMap<u64, oneshot::Sender<Receipt>>>,
    next: u64,
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

    /// Waits for an envelope. Several may wait for one envelope: retries.
    pub(crate) fn register(self: &Arc<Self>, envelope: EnvelopeRef) -> Waiter {
        let (sender, receipt) = oneshot::channel();
        let mut table = self.table.lock();
        let number = table.next;
        table.next += 1;
        table.waiting.entry(envelope).or_default().insert(number, sender);
        Waiter {
            waiters: Arc::clone(self),
            envelope,
            number,
            receipt,
        }
    }

    /// Hands an outcome to all who wait for it. `receipt` is made only if someone does.
    pub(crate) fn deliver(&self, envelope: &EnvelopeRef, receipt: impl FnOnce() -> Receipt) {
        let senders = {
            let mut table = self.table.lock();
            let mut whose = *envelope;
            if planted!("answers-taken-in-order") && table.waiting.contains_key(envelope) {
                // Whoever has waited longest comes first.
                let first = |senders: &BTreeMap<u64, _>| senders.keys().next().copied();
                let oldest = table.waiting.iter().min_by_key(|(_, senders)| first(senders));
                whose = oldest.map_or(whose, |(oldest, _)| *oldest);
            }
            table.waiting.remove(&whose)
        };
        let Some(senders) = senders else {
            return;
        };
        let receipt = receipt();
        for sender in senders.into_values() {
            // A waiter that gave up meanwhile is no failure.
            let _ = sender.send(receipt.clone());
        }
    }

    /// All envelopes that someone waits for, in order.
    pub(crate) fn pending(&self) -> Vec<EnvelopeRef> {
        self.table.lock().waiting.keys().copied().collect()
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
}
