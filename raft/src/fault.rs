//! The one place where a replica's end is announced: the first fault counts.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Fault, FaultKind};

/// Reports faults; all clones report to the same place.
#[derive(Clone)]
pub(crate) struct Faults(Arc<watch::Sender<Option<Fault>>>);

impl Faults {
    pub(crate) fn new() -> Self {
        Faults(Arc::new(watch::Sender::new(None)))
    }

    /// Reports a fault, unless there is one already.
    pub(crate) fn report(&self, fault: Fault) {
        self.0.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!(%fault, "the replica stops");
                *known = Some(fault);
            }
            first
        });
    }

    /// Reports a disk that failed.
    pub(crate) fn disk(&self, error: &io::Error) {
        self.report(Fault {
            kind: FaultKind::Disk,
            message: error.to_string(),
        });
    }

    /// Waits for a fault.
    pub(crate) async fn any(&self) {
        // The sender lives in `self`.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Fault>> {
        self.0.subscribe()
    }
}
