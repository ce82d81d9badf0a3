//! The archivist: moves epochs out of memory, one at a time, beside everything else.

use std::io;
use std::sync::Arc;

use ledger::Epoch;
use ledger::frozen::{ArchiveFile, FrozenEpoch};
use raft::Hold;
use tokio::sync::oneshot;

use super::files::{self, Names};
use super::{Archive, Leaving, file};

impl Archive {
    /// Runs until the disk fails, for which the replica stops.
    pub(crate) async fn run(&self) {
        loop {
            self.due.notified().await;
            if let Err(error) = self.archive_all().await {
                tracing::error!(%error, "nothing is archived any more");
                return;
            }
        }
    }

    /// Archives everything that should leave memory and can.
    async fn archive_all(&self) -> io::Result<()> {
        loop {
            let epoch = self.ledger.read().freezable(&self.policy);
            match epoch {
                Some(epoch) => self.archive(epoch).await?,
                None => return Ok(()),
            }
        }
    }

    async fn archive(&self, epoch: Epoch) -> io::Result<()> {
        let Some(lent) = self.ledger.read().share(epoch) else {
            return Ok(());
        };
        let mut lent = raft::behind(|| lent.survey()).await;
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
            None => self.write(&lent).await?,
        };
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let frozen = self.let_go(Arc::clone(&lent), files).await;
        drop(held);
        tracing::debug!(%epoch, statements = lent.len(), bytes, frozen, "archived");
        // Nobody else may have the book any more: to drop it takes a while.
        raft::behind(|| drop(lent)).await;
        Ok(())
    }

    /// Writes an epoch's files, which are durable then.
    async fn write(&self, lent: &Arc<FrozenEpoch>) -> io::Result<(Vec<ArchiveFile>, Vec<Hold>)> {
        let (lent, cluster) = (Arc::clone(lent), self.cluster);
        let met = Arc::clone(&lent);
        let mut names = raft::behind(move || Names::meet(&met)).await;
        raft::aside(|| names.learn(&self.ledger));
        let encoded = raft::behind(move || files::encode(&lent, cluster, &names)).await?;
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
