//! The archivist: moves epochs out of memory, one at a time, beside everything else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledger::Epoch;
use ledger::frozen::{ArchiveFile, FrozenEpoch};
use raft::{Hold, Pace};
use tokio::sync::{oneshot, watch};

use super::files::{self, Names};
use super::{Archive, Leaving, file};

impl Archive {
    /// Runs until something fails, for which the replica stops: without an archivist memory would have no bound. `ready_at` tells what was committed when the node
    /// started, once that is known: until it is applied, a node has more urgent things to do.
    pub(crate) async fn run(&self, ready_at: watch::Receiver<Option<u64>>) -> io::Error {
        let _resting = Resting(self);
        loop {
            self.due.notified().await;
            if let Err(error) = self.archive_all(&ready_at).await {
                tracing::error!(%error, "nothing is archived any more");
                return error;
            }
        }
    }

    /// Archives everything that should leave memory and can.
    pub(super) async fn archive_all(&self, ready_at: &watch::Receiver<Option<u64>>) -> io::Result<()> {
        while let Some((epoch, pace)) = self.next(ready_at) {
            self.archive(epoch, pace).await?;
        }
        Ok(())
    }

    /// The next epoch to archive, and whether that can give way to everything else.
    pub(super) fn next(&self, ready_at: &watch::Receiver<Option<u64>>) -> Option<(Epoch, Pace)> {
        let ledger = self.ledger.read();
        let epoch = ledger.freezable(&self.limits.policy());
        self.at_work.store(epoch.is_some(), Ordering::Release);
        self.measure(&ledger);
        let ready_at = *ready_at.borrow();
        let ready = ready_at.is_some() && ledger.applied() >= ready_at;
        let held = ledger.held();
        let pace = match self.limits.is_full(held) || (ready && self.limits.is_late(held)) {
            true => Pace::Beside,
            false => Pace::Behind,
        };
        epoch.map(|epoch| (epoch, pace))
    }

    async fn archive(&self, epoch: Epoch, pace: Pace) -> io::Result<()> {
        let Some(lent) = self.ledger.read().share(epoch) else {
            return Ok(());
        };
        let mut lent = raft::elsewhere(pace, || lent.survey()).await?;
        let unchanged = {
            let ledger = self.ledger.read();
            ledger.add_leaves(&mut lent);
            let files = ledger.unchanged(epoch);
            // The ledger refers to them at this moment.
            files.map(|files| {
                let names = files.iter().map(|file| file.name.clone());
                let held = self.attachments.hold(names);
                (files, vec![held])
            })
        };
        let lent = Arc::new(lent);
        let (files, held) = match unchanged {
            Some(unchanged) => unchanged,
            None => self.write(&lent, pace).await?,
        };
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let frozen = self.let_go(Arc::clone(&lent), files).await;
        drop(held);
        tracing::debug!(%epoch, statements = lent.len(), bytes, frozen, "archived");
        // Nobody else may have the book any more: to drop it takes a while.
        raft::elsewhere(pace, || drop(lent)).await
    }

    /// Writes an epoch's files, which are durable then.
    async fn write(&self, lent: &Arc<FrozenEpoch>, pace: Pace) -> io::Result<(Vec<ArchiveFile>, Vec<Hold>)> {
        let (lent, cluster) = (Arc::clone(lent), self.cluster);
        let met = Arc::clone(&lent);
        let mut names = raft::elsewhere(pace, move || Names::meet(&met)).await?;
        raft::aside(|| names.learn(&self.ledger));
        let encoded = raft::elsewhere(pace, move || files::encode(&lent, cluster, &names)).await??;
        let (mut files, mut held) = (Vec::new(), Vec::new());
        for (attachment, content) in encoded {
            held.push(self.attachments.write(&attachment, content).await?);
            files.push(file(&attachment));
        }
        Ok((files, held))
    }

    /// Lets go of a book, unless it has changed, at a moment when no entry is about to be applied: now, or right after
    /// those at hand, since under load there may be no other.
    async fn let_go(&self, book: Arc<FrozenEpoch>, files: Vec<ArchiveFile>) -> bool {
        let (told, answer) = oneshot::channel();
        *self.leaving.lock() = Some(Leaving { book, files, told });
        {
            let mut ledger = self.ledger.write();
            if !self.is_applying() {
                self.leave(&mut ledger);
            }
        }
        answer.await.unwrap_or(false)
    }
}

/// The archivist, as long as it runs: when it ends, nobody will make room any more, so nobody must wait for it.
struct Resting<'a>(&'a Archive);

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        let archive = self.0;
        let ledger = archive.ledger.read();
        archive.at_work.store(false, Ordering::Release);
        archive.measure(&ledger);
    }
}
