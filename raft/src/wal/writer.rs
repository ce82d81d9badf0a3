//! The one task that writes: takes what is queued, writes it as one batch with one sync, and tells everyone.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::frame::{self, FRAME_OVERHEAD};
use super::record::{Checkpoint, Record};
use super::recovery::Kept;
use super::segment::{self, Identity, Place, Segment};
use super::{DIR, Recovered};
use crate::codec;
use crate::disk::{Disk, DiskFile};
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes gathered for one batch before it is written; more is left for the next.
const BATCH_BYTES: usize = 8 << 20;

/// Zeros written and synced at once when a segment is prepared.
const PREPARE_BYTES: u64 = 1 << 20;

/// How long a commit mark may wait for a batch to ride on, about.
const COMMIT_LINGER: Duration = Duration::from_millis(100);

/// One change to make durable, and whom to tell.
pub(crate) enum Op {
    Vote(Vote, oneshot::Sender<io::Result<()>>),
    Append(Vec<Entry>, IOFlushed<TypeConfig>),
    /// The last entry that stays.
    Truncate(Option<LogId>),
    /// The last entry that goes.
    Purge(LogId),
    /// Answers when all before it is durable.
    Flush(oneshot::Sender<io::Result<()>>),
    /// Answers as `Flush`, after which the writer has ended and touches the disk no more.
    Close(oneshot::Sender<io::Result<()>>),
}

/// What the log is told when entries have been written, so that they need not stay in memory.
pub(crate) type OnWritten = Box<dyn Fn(Vec<(LogId, Place)>) + Send>;

/// What the owner is told when the disk has failed.
pub(crate) type OnPoison = Box<dyn Fn(&io::Error) + Send>;

/// The writing end of the log.
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    identity: Identity,
    segment_bytes: u64,
    /// What the next segment's checkpoint says.
    state: Checkpoint,
    marks: Marks,
    /// Changes taken from the queue.
    received: u64,
    /// A commit mark that no batch has carried yet.
    unsaved_commit: bool,
    /// The last entry written since the opening.
    last_written: Option<u64>,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Kept>,
    offset: u64,
    next_segment: u64,
    next_seq: u64,
    spare: Option<JoinHandle<io::Result<Spare>>>,
    on_written: OnWritten,
    on_poison: OnPoison,
}

/// A file of zeros, ready to become a segment.
struct Spare {
    path: String,
    file: Arc<dyn DiskFile>,
}

/// The newest commit mark, beside the queue: it rides on the next batch and must wake nobody. It stands behind all
/// changes that were queued before it, for a mark must not be on disk before what it marks.
type Marks = Arc<Mutex<Mark>>;

#[derive(Default)]
struct Mark {
    /// Changes queued so far.
    sent: u64,
    /// The mark, and how many changes were queued before it.
    committed: Option<(u64, LogId)>,
}

/// The queue to the writer, which ends with the last of them, or when it is told to close.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    queue: mpsc::UnboundedSender<Op>,
    marks: Marks,
}

impl WriterHandle {
    /// Queues a change. Not bounded: openraft bounds what is under way by its own windows and waits for
    /// votes; what is queued here is in memory already.
    pub(crate) fn send(&self, op: Op) -> io::Result<()> {
        // Counted first: a mark that is set meanwhile waits for one change more, never for one less.
        self.marks.lock().sent += 1;
        self.queue
            .send(op)
            .map_err(|_| io::Error::other("the log's writer has stopped"))
    }

    /// Says what is committed; only the newest counts.
    pub(crate) fn committed(&self, log_id: LogId) -> io::Result<()> {
        let mut marks = self.marks.lock();
        marks.committed = Some((marks.sent, log_id));
        if self.queue.is_closed() {
            return Err(io::Error::other("the log's writer has stopped"));
        }
        Ok(())
    }
}

impl Writer {
    /// Begins a new segment behind what was recovered, and returns the queue to the task to run.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        identity: Identity,
        segment_bytes: u64,
        recovered: &mut Recovered,
        on_written: OnWritten,
        on_poison: OnPoison,
    ) -> io::Result<(WriterHandle, impl Future<Output = ()> + Send + 'static)> {
        let mut writer = Writer {
            disk,
            identity,
            segment_bytes,
            state: recovered.state.clone(),
            marks: Marks::default(),
            received: 0,
            unsaved_commit: false,
            last_written: None,
            segments: std::mem::take(&mut recovered.segments),
            offset: 0,
            next_segment: recovered.next_segment,
            next_seq: recovered.next_seq,
            spare: None,
            on_written,
            on_poison,
        };
        writer.rotate().await?;
        let (tx, rx) = mpsc::unbounded_channel();
        let handle = WriterHandle {
            queue: tx,
            marks: Arc::clone(&writer.marks),
        };
        Ok((handle, writer.run(rx)))
    }

    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Op>) {
        loop {
            let first = if self.awaits_commit() {
                tokio::time::timeout(COMMIT_LINGER, queue.recv()).await
            } else {
                Ok(queue.recv().await)
            };
            let (ops, close) = match first {
                Ok(None) => break,
                Ok(Some(first)) => {
                    let (ops, close) = gather(first, &mut queue);
                    self.received += ops.len() as u64;
                    (ops, close)
                }
                // No batch came by for the mark to ride on.
                Err(_) if self.take_mark() => (vec![Op::Flush(oneshot::channel().0)], None),
                Err(_) => continue,
            };
            if let Err(error) = self.write(ops).await {
                self.drop_spare().await;
                return poisoned(error, close, queue).await;
            }
            if let Some(closed) = close {
                self.drop_spare().await;
                // Who asked may be gone; then nobody waits.
                let _ = closed.send(Ok(()));
                return;
            }
        }
        // The last handle is gone: a crash, for all we know. A commit mark may be lost.
        self.drop_spare().await;
    }

    /// Whether a commit mark is unsaved, or should come: what was written is to be committed.
    fn awaits_commit(&self) -> bool {
        self.unsaved_commit || self.last_written > self.state.committed.map(|committed| committed.index())
    }

    /// Takes a new commit mark over, if all that was queued before it is written or in the batch at hand; whether
    /// one is unsaved.
    fn take_mark(&mut self) -> bool {
        let mut marks = self.marks.lock();
        if let Some((before, log_id)) = marks.committed
            && (before <= self.received || planted!("mark-before-entries"))
        {
            marks.committed = None;
            self.unsaved_commit |= self.state.committed != Some(log_id);
            self.state.committed = Some(log_id);
        }
        self.unsaved_commit
    }

    async fn drop_spare(&mut self) {
        if let Some(task) = self.spare.take() {
            task.abort();
            // Aborted or done: it is over now.
            let _ = task.await;
        }
    }

    /// Writes one batch, syncs it, and tells.
    async fn write(&mut self, ops: Vec<Op>) -> io::Result<()> {
        let result = self
            .write_records(&ops)
            .await
            .map(|written| (self.on_written)(written));
        if let Err(error) = &result {
            (self.on_poison)(error);
        }
        let mut purged = false;
        for op in ops {
            purged |= matches!(op, Op::Purge(_));
            tell(op, result.as_ref().err());
        }
        result?;
        if purged {
            self.unlink().await.inspect_err(|error| (self.on_poison)(error))?;
        }
        Ok(())
    }

    async fn write_records(&mut self, ops: &[Op]) -> io::Result<Vec<(LogId, Place)>> {
        let bytes = ops.iter().map(op_bytes).sum::<usize>() + 128;
        let used = self.offset > (segment::HEAD_BYTES + 128) as u64;
        if used && self.offset + bytes as u64 > self.segment_bytes {
            self.rotate().await?;
        }
        // Not before the new segment has its checkpoint: that is on disk before this batch.
        self.take_mark();

        let mut batch = Batch {
            buffer: BytesMut::with_capacity(bytes),
            base: self.offset,
            seq: self.next_seq,
            segment: Arc::clone(&self.current().segment),
        };
        let mut written = Vec::new();
        for op in ops {
            match op {
                Op::Vote(vote, _) => {
                    batch.put(&Record::Vote(*vote));
                    self.state.vote = Some(*vote);
                }
                Op::Append(entries, _) => {
                    for entry in entries {
                        let place = batch.put(&Record::Entry(entry.clone()));
                        written.push((entry.log_id, place));
                        self.last_written = Some(entry.log_id.index());
                    }
                }
                Op::Truncate(last) => {
                    batch.put(&Record::Truncate(*last));
                    self.last_written = last.map(|last| last.index());
                }
                Op::Purge(upto) => {
                    batch.put(&Record::Purge(*upto));
                    self.state.purged = Some(*upto);
                }
                Op::Flush(_) | Op::Close(_) => {}
            }
        }
        let ride = !batch.buffer.is_empty() || ops.iter().any(|op| matches!(op, Op::Flush(_)));
        if self.unsaved_commit
            && ride
            && let Some(committed) = self.state.committed
        {
            batch.put(&Record::Committed(committed));
            self.unsaved_commit = false;
        }
        if batch.buffer.is_empty() {
            return Ok(written);
        }

        let file = Arc::clone(&self.current().segment.file);
        self.next_seq = batch.seq;
        self.offset += batch.buffer.len() as u64;
        if planted!("acknowledged-before-sync") {
            file.write_at(batch.base, batch.buffer.freeze()).await?;
        } else {
            let synced = file.write_and_sync(batch.base, batch.buffer.freeze()).await;
            if planted!("sync-error-ignored")
                && let Err(error) = &synced
            {
                tracing::warn!(%error, "a sync failed");
            } else if planted!("sync-error-retried") && synced.is_err() {
                file.sync().await?;
            } else {
                synced?;
            }
        }
        if let Some((log_id, _)) = written.iter().max_by_key(|(log_id, _)| log_id.index()) {
            let kept = self.current();
            kept.last_index = kept.last_index.max(Some(log_id.index()));
        }
        Ok(written)
    }

    fn current(&mut self) -> &mut Kept {
        // `open` begins the first segment before anything else can happen.
        self.segments
            .back_mut()
            .expect("a log has a segment from its opening on")
    }

    /// Begins the next segment; everything in the one before is synced.
    async fn rotate(&mut self) -> io::Result<()> {
        let id = self.next_segment;
        let spare = match self.spare.take() {
            Some(task) => task.await.map_err(io::Error::other)??,
            None => prepare(Arc::clone(&self.disk), id, self.segment_bytes).await?,
        };
        let salt = self.identity.salt(id);
        let mut head = segment::encode_head(&self.identity, id, self.next_seq);
        let base = head.len() as u64;
        frame::put(
            &mut head,
            salt,
            self.next_seq,
            base,
            &Record::Checkpoint(self.state.clone()),
        );
        let offset = head.len() as u64;
        spare.file.write_and_sync(0, head.freeze()).await?;

        let segment = Segment {
            id,
            salt,
            file: spare.file,
        };
        self.disk.rename(&spare.path, &segment.path()).await?;
        if !planted!("directory-not-synced") {
            self.disk.sync_dir(DIR).await?;
        }

        self.segments.push_back(Kept {
            segment: Arc::new(segment),
            last_index: None,
        });
        self.offset = offset;
        self.next_segment = id + 1;
        self.next_seq += 1;
        self.unsaved_commit = false;
        self.spare = Some(tokio::spawn(prepare(
            Arc::clone(&self.disk),
            id + 1,
            self.segment_bytes,
        )));
        Ok(())
    }

    /// Removes segments that hold nothing but what a synced purge covers: oldest first, and each one for good
    /// before the next, for a crash must not bring one back without its successor.
    async fn unlink(&mut self) -> io::Result<()> {
        let purged = self.state.purged.map(|purged| purged.index());
        while self.segments.len() > 1
            && self
                .segments
                .front()
                .is_some_and(|kept| kept.last_index <= purged)
        {
            let Some(kept) = self.segments.front() else { break };
            let path = kept.segment.path();
            // It is only space: left behind it is found again at the next start, and tried at the next purge.
            if let Err(error) = self.disk.remove(&path).await {
                tracing::warn!(%path, %error, "can't remove a purged segment");
                break;
            }
            self.disk.sync_dir(DIR).await?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// A batch in the making.
struct Batch {
    buffer: BytesMut,
    /// Where it will begin.
    base: u64,
    seq: u64,
    segment: Arc<Segment>,
}

impl Batch {
    fn put(&mut self, record: &Record) -> Place {
        let offset = self.base + self.buffer.len() as u64;
        let len = frame::put(&mut self.buffer, self.segment.salt, self.seq, self.base, record);
        self.seq += 1;
        // One frame holds one bounded payload.
        let len = u32::try_from(len).expect("a frame fits 32 bits");
        Place {
            segment: Arc::clone(&self.segment),
            offset,
            len,
        }
    }
}

/// Makes a file of zeros. Its name need not be durable; the rename's directory sync covers it.
async fn prepare(disk: Arc<dyn Disk>, id: u64, bytes: u64) -> io::Result<Spare> {
    let path = format!("{DIR}/{id:016x}.spare");
    let file = disk.open(&path, true).await?;
    // In steps, for the log's own syncs wait behind these.
    let mut end = 0;
    while end < bytes {
        end = (end + PREPARE_BYTES).min(bytes);
        file.allocate(end).await?;
        file.sync().await?;
    }
    Ok(Spare { path, file })
}

/// What is queued already, up to a batch, or up to a wish to close, which ends the queue.
fn gather(
    first: Op,
    queue: &mut mpsc::UnboundedReceiver<Op>,
) -> (Vec<Op>, Option<oneshot::Sender<io::Result<()>>>) {
    let mut bytes = 0;
    let mut ops = Vec::new();
    let mut next = Some(first);
    while let Some(op) = next {
        if let Op::Close(closed) = op {
            ops.push(Op::Flush(oneshot::channel().0));
            return (ops, Some(closed));
        }
        bytes += op_bytes(&op);
        ops.push(op);
        next = if bytes < BATCH_BYTES {
            queue.try_recv().ok()
        } else {
            None
        };
    }
    (ops, None)
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Append(entries, _) => entries
            .iter()
            .map(|entry| codec::entry_bytes(entry) + FRAME_OVERHEAD + 1)
            .sum(),
        _ => 64,
    }
}

fn tell(op: Op, error: Option<&io::Error>) {
    let result = match error {
        None => Ok(()),
        Some(error) => Err(copy(error)),
    };
    match op {
        // Who asked may be gone; then nobody waits.
        Op::Vote(_, tx) | Op::Flush(tx) | Op::Close(tx) => drop(tx.send(result)),
        Op::Append(_, flushed) => flushed.io_completed(result),
        Op::Truncate(_) | Op::Purge(_) => {}
    }
}

/// Refuses everything from now on, until it is told to close.
async fn poisoned(
    error: io::Error,
    close: Option<oneshot::Sender<io::Result<()>>>,
    mut queue: mpsc::UnboundedReceiver<Op>,
) {
    let mut next = match close {
        Some(closed) => Some(Op::Close(closed)),
        None => queue.recv().await,
    };
    while let Some(op) = next {
        let last = matches!(op, Op::Close(_));
        tell(op, Some(&error));
        next = if last { None } else { queue.recv().await };
    }
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
