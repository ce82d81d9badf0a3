//! A disk that forgets and a network of pipes, for this crate's own tests. The simulator's are its own.

mod attachments;
mod conformance;
mod disk;
mod log_faults;
mod network;
mod replica_faults;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::machine::{Capture, Committed, Payload, RestoreError, StateMachine};

pub(crate) use disk::{Failure, Keep, MemoryDisk};
pub(crate) use network::MemoryNetwork;

/// Remembers every payload with its index; a snapshot of it is postcard.
#[derive(Clone, Default)]
pub(crate) struct Journal(pub(crate) Arc<Mutex<BTreeMap<u64, Bytes>>>);

impl StateMachine for Journal {
    fn apply(&mut self, batch: Vec<Committed>) {
        for entry in batch {
            if let Payload::App(payload) = entry.payload {
                self.0.lock().insert(entry.index, payload);
            }
        }
    }

    fn snapshot(&mut self) -> Capture {
        let journal = self.0.lock().clone();
        Capture::new(move || crate::codec::encode_postcard(&journal))
    }

    fn restore(&mut self, snapshot: Bytes, _index: u64) -> Result<(), RestoreError> {
        *self.0.lock() = postcard::from_bytes(&snapshot).map_err(|e| RestoreError(e.to_string()))?;
        Ok(())
    }
}
