//! The alarm: this node's own recomputation, or a certificate, contradicts its ledger.
//!
//! Once raised it stays until the process ends. The node then signs nothing, gives up leadership, sends no
//! snapshots and refuses sealed reads; each of them asks this board. Whoever repairs the node starts it anew on
//! an empty disk and under a new id.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

/// One contradiction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// The log index at which it was found.
    pub index: u64,
    /// What contradicts what.
    pub message: String,
}

/// Where alarms are raised and seen. Clones share it.
#[derive(Clone, Debug)]
pub struct Alarms {
    list: Arc<Mutex<Vec<Alarm>>>,
    raised: Arc<watch::Sender<bool>>,
}

/// More say nothing new.
const MOST: usize = 16;

impl Default for Alarms {
    fn default() -> Self {
        Alarms {
            list: Arc::default(),
            raised: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Alarms {
    /// Raises one.
    pub fn raise(&self, index: u64, message: impl Into<String>) {
        let message = message.into();
        tracing::error!(
            index,
            message,
            "ALARM: this node disagrees with itself or with a certificate"
        );
        if planted!("alarm-not-raised") {
            return;
        }
        let mut list = self.list.lock();
        if list.len() < MOST {
            list.push(Alarm { index, message });
        }
        self.raised.send_replace(true);
    }

    /// Whether one was raised.
    pub fn raised(&self) -> bool {
        *self.raised.borrow()
    }

    /// All that were raised, oldest first; at most 16 are kept.
    pub fn list(&self) -> Vec<Alarm> {
        self.list.lock().clone()
    }

    /// Becomes `true` once.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.raised.subscribe()
    }
}
