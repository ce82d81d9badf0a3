//! Who waits for which envelope's outcome on this node.
//!
//! An answer leaves only after the entry was applied *here*: the state machine hands every outcome to this
//! table, which knows whether someone is waiting. Bounded: a full table refuses newcomers, never drops anyone.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::EnvelopeRef;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Receipt;

/// The table; shared between the gateway (who registers) and the state machine (who delivers).
#[derive(Debug)]
pub(crate) struct Waiters {
    limit: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By envelope; the number tells registrations of one envelope apart.
    waiting: BTreeMap<EnvelopeRef, BTreeMap<u64, oneshot::Sender<Receipt>>>,
    registered: usize,
    next: u64,
}

/// One registration. Dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Waiter {
    waiters: Arc<Waiters>,
    envelope: EnvelopeRef,
    number: u64,
    /// The receipt, once it is applied here.
    pub(crate) receipt: oneshot::Receiver<Receipt>,
}

impl Waiters {
    /// A table for at most `limit` registrations.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Waiters {
            limit,
            table: Mutex::default(),
        })
    }

    /// Waits for an envelope; `None` if the table is full. Several may wait for one envelope: retries.
    pub(crate) fn register(self: &Arc<Self>, envelope: EnvelopeRef) -> Option<Waiter> {
        let (sender, receipt) = oneshot::channel();
        let mut table = self.table.lock();
        if table.registered >= self.limit {
            return None;
        }
        let number = table.next;
        table.next += 1;
        table.registered += 1;
        table.waiting.entry(envelope).or_default().insert(number, sender);
        Some(Waiter {
            waiters: Arc::clone(self),
            envelope,
            number,
            receipt,
        })
    }

    /// Hands an outcome to all who wait for it. `receipt` is made only if someone does.
    pub(crate) fn deliver(&self, envelope: &EnvelopeRef, receipt: impl FnOnce() -> Receipt) {
        let senders = {
            let mut table = self.table.lock();
            let Some(senders) = table.waiting.remove(envelope) else {
                return;
            };
            table.registered -= senders.len();
            senders
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

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().registered
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.waiters.table.lock();
        let Some(senders) = table.waiting.get_mut(&self.envelope) else {
            return;
        };
        if senders.remove(&self.number).is_some() {
            let empty = senders.is_empty();
            table.registered -= 1;
            if empty {
                table.waiting.remove(&self.envelope);
            }
        }
    }
}
