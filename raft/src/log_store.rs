//! openraft's view of the log: entries readable as soon as they are appended, durable when the writer says so.
//!
//! # What always holds
//!
//! - Every change goes to the one queue of `wal::Writer` in the order in which openraft asked for it, while the
//!   index in memory changes at once. Nothing in the index can be evicted from memory before it is on disk.
//! - A vote is on disk before `save_vote` returns. `append` returns at once; its callback comes after the
//!   sync. Truncations and purges return at once too: whatever is reported durable after them lies behind them
//!   in the queue.
//! - `save_committed` wakes nobody: it rides on the next batch, or is written after a tenth of a second of idleness. After a
//!   crash the machine is brought up to the last mark that was saved; a node that wants more must ask the
//!   leader ([`crate::Replica::read_barrier`]).

mod index;
mod read;

use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use futures::stream;
use openraft::OptionalSend;
use openraft::errors::LeaderChanged;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::index::Index;
use crate::config::LogPolicy;
use crate::disk::Disk;
use crate::types::{Entry, LeaderId, LogId, TypeConfig, Vote};
use crate::wal::{self, Identity, Op, Writer, WriterHandle};

/// A handle to the log; all clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    index: Arc<Mutex<Index>>,
    writer: WriterHandle,
    identity: Identity,
    /// Payload bytes read at once.
    chunk_bytes: usize,
}

/// What is told of a disk that failed.
pub(crate) type OnPoison = Box<dyn Fn(&io::Error) + Send>;

impl LogStore {
    /// Recovers the log and starts its writer. `new_disk` names the disk if it is empty.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` with file and offset if the log is damaged or foreign.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        cluster: [u8; 32],
        node: u64,
        new_disk: u128,
        policy: &LogPolicy,
        on_poison: OnPoison,
    ) -> io::Result<LogStore> {
        let mut recovered = wal::recover(&disk, &cluster, node).await?;
        let identity = recovered.identity.unwrap_or(Identity {
            cluster,
            node,
            disk: new_disk,
        });
        let index = Arc::new(Mutex::new(Index::new(&mut recovered, policy.cache_bytes)));
        let written = Arc::clone(&index);
        let (writer, task) = Writer::open(
            Arc::clone(&disk),
            identity,
            policy.segment_bytes,
            &mut recovered,
            Box::new(move |places| written.lock().written(places)),
            on_poison,
        )
        .await?;
        disk.run_writer(Box::pin(task))?;
        Ok(LogStore {
            index,
            writer,
            identity,
            chunk_bytes: policy.max_batch_bytes,
        })
    }

    /// The last entry that may go if about `bytes` are to stay up to `last`; none, if there are no more.
    pub(crate) fn beyond(&self, last: u64, bytes: usize) -> Option<u64> {
        self.index.lock().beyond(last, bytes)
    }

    /// Whose log it is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Makes everything queued durable, commit mark included, and ends the writer.
    ///
    /// # Errors
    /// Why something never will be.
    pub(crate) async fn close(&self) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.writer.send(Op::Close(tx))?;
        rx.await.map_err(|_| gone())?
    }

    /// The entries of a range that exist, up to about `max_bytes` of payload but at least one.
    async fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let found = self.index.lock().find(start, end, max_bytes);
        read::load(found).await
    }
}

fn gone() -> io::Error {
    io::Error::other("the log's writer has stopped")
}

/// A range as `start..end`.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, self.chunk_bytes).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.index.lock().vote)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let log = self.clone();
        Box::pin(chunks(start, move |next| {
            let log = log.clone();
            async move { log.read(next, end, log.chunk_bytes).await }
        }))
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let log = self.clone();
        Box::pin(chunks(start, move |next| {
            let log = log.clone();
            async move {
                let leads =
                    |vote: Option<Vote>| vote.is_some_and(|vote| vote.leader_id == leader && vote.committed);
                let check = || {
                    let vote = log.index.lock().vote;
                    if leads(vote) {
                        Ok(())
                    } else {
                        Err(LeaderChanged::new(leader, vote))
                    }
                };
                check()?;
                let entries = log.read(next, end, log.chunk_bytes).await?;
                // What was read belongs to this leader only if it still leads.
                check()?;
                Ok::<_, LeaderBoundedStreamError<TypeConfig>>(entries)
            }
        }))
    }
}

/// Streams entries from `start` on, chunk by chunk, until a chunk is empty or fails.
fn chunks<E, F>(start: u64, read: impl Fn(u64) -> F) -> impl Stream<Item = Result<Entry, E>>
where
    F: Future<Output = Result<Vec<Entry>, E>>,
{
    let state = (Some(start), Vec::new().into_iter(), read);
    stream::unfold(state, |(mut next, mut chunk, read)| async move {
        loop {
            if let Some(entry) = chunk.next() {
                return Some((Ok(entry), (next, chunk, read)));
            }
            match read(next?).await {
                Ok(entries) => {
                    next = Some(entries.last()?.log_id.index() + 1);
                    chunk = entries.into_iter();
                }
                Err(error) => return Some((Err(error), (None, chunk, read))),
            }
        }
    })
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let index = self.index.lock();
        Ok(LogState {
            last_purged_log_id: index.purged(),
            last_log_id: index.last_log_id(),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        if planted!("vote-not-persisted") {
            self.index.lock().vote = Some(*vote);
            return Ok(());
        }
        let (tx, rx) = oneshot::channel();
        if planted!("vote-behind-appends") {
            // Appends are hot and votes are rare, so votes wait for a quiet moment.
            let (writer, vote) = (self.writer.clone(), *vote);
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                writer.send(Op::Vote(vote, tx))
            });
            self.index.lock().vote = Some(vote);
            return Ok(());
        }
        self.writer.send(Op::Vote(*vote, tx))?;
        rx.await.map_err(|_| gone())??;
        self.index.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        self.index.lock().committed = Some(committed);
        self.writer.committed(committed)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        if planted!("signature-before-commit") {
            return Ok(self.index.lock().last_log_id());
        }
        Ok(self.index.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.index.lock().append(&entries)?;
        self.writer.send(Op::Append(entries, callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.index.lock().truncate_after(last);
        self.writer.send(Op::Truncate(last))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.index.lock().purge(upto);
        self.writer.send(Op::Purge(upto))
    }
}
