//! The log under every fault that the disk knows: exactly what was acknowledged comes back, or a refusal that
//! says where.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload as Kind;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tokio::time::timeout;

use super::{Failure, Keep, MemoryDisk};
use crate::config::LogPolicy;
use crate::log_store::LogStore;
use crate::types::{AppData, Entry, LeaderId, LogId, TypeConfig, Vote};

const CLUSTER: [u8; 32] = [1; 32];

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq)]
struct Content {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: Vec<(LogId, Bytes)>,
}

/// A log and what it should hold after each record that was asked for.
struct Run {
    log: LogStore,
    /// The content after each record, the first one being what was there at the start.
    history: Vec<Content>,
    /// How far into `history` the disk has confirmed.
    acknowledged: usize,
    term: u64,
    random: u64,
}

fn policy() -> LogPolicy {
    LogPolicy {
        segment_bytes: 8 << 10,
        cache_bytes: 4 << 10,
        max_batch_bytes: 2 << 10,
        ..LogPolicy::default()
    }
}

async fn open_with(disk: &MemoryDisk, poisoned: Arc<AtomicUsize>) -> io::Result<LogStore> {
    let on_poison = Box::new(move |_: &io::Error| {
        poisoned.fetch_add(1, Ordering::SeqCst);
    });
    LogStore::open(Arc::new(disk.clone()), CLUSTER, 1, 99, &policy(), on_poison).await
}

async fn open(disk: &MemoryDisk) -> io::Result<LogStore> {
    open_with(disk, Arc::default()).await
}

async fn content(log: &mut LogStore) -> io::Result<Content> {
    let entries = log.try_get_log_entries(..).await?;
    let payload = |entry: &Entry| match &entry.payload {
        Kind::Normal(data) => data.0.clone(),
        _ => Bytes::new(),
    };
    Ok(Content {
        vote: log.read_vote().await?,
        purged: log.get_log_state().await?.last_purged_log_id,
        entries: entries
            .iter()
            .map(|entry| (entry.log_id, payload(entry)))
            .collect(),
    })
}

impl Run {
    fn new(log: LogStore, start: Content) -> Self {
        let term = start.vote.map_or(1, |vote| vote.leader_id.term);
        Run {
            log,
            history: vec![start],
            acknowledged: 0,
            term,
            random: 42,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % below
    }

    fn now(&self) -> Content {
        self.history.last().expect("the start").clone()
    }

    fn log_id(&self, index: u64) -> LogId {
        LogId::new(
            LeaderId {
                term: self.term,
                node_id: 1,
            },
            index,
        )
    }

    async fn vote(&mut self) -> io::Result<()> {
        self.term += 1;
        let vote = Vote {
            leader_id: LeaderId {
                term: self.term,
                node_id: 1,
            },
            committed: true,
        };
        self.history.push(Content {
            vote: Some(vote),
            ..self.now()
        });
        self.log.save_vote(&vote).await?;
        self.acknowledged = self.history.len() - 1;
        Ok(())
    }

    async fn append(&mut self, count: u64) -> io::Result<()> {
        let mut entries = Vec::new();
        for _ in 0..count {
            let mut content = self.now();
            let last = content
                .entries
                .last()
                .map(|(log_id, _)| *log_id)
                .or(content.purged);
            let log_id = self.log_id(last.map_or(0, |last| last.index() + 1));
            let size = usize::try_from(self.random(1500)).expect("small");
            let payload: Vec<u8> = (0..size)
                .map(|_| u8::try_from(self.random(255) + 1).expect("a byte"))
                .collect();
            let payload = Bytes::from(payload);
            content.entries.push((log_id, payload.clone()));
            entries.push(Entry {
                log_id,
                payload: Kind::Normal(AppData(payload)),
            });
            self.history.push(content);
        }
        let (tx, rx) = TypeConfig::oneshot();
        self.log.append(entries, IOFlushed::signal(tx)).await?;
        rx.await.unwrap_or_else(|_| Err(io::Error::other("dropped")))?;
        self.acknowledged = self.history.len() - 1;
        Ok(())
    }

    async fn truncate(&mut self, keep: usize) -> io::Result<()> {
        let mut content = self.now();
        content.entries.truncate(keep);
        let last = content
            .entries
            .last()
            .map(|(log_id, _)| *log_id)
            .or(content.purged);
        self.history.push(content);
        self.log.truncate_after(last).await
    }

    async fn purge(&mut self, count: usize) -> io::Result<()> {
        let mut content = self.now();
        let Some((upto, _)) = content.entries.get(count) else {
            return Ok(());
        };
        content.purged = Some(*upto);
        let upto = *upto;
        content.entries.drain(..=count);
        self.history.push(content);
        self.log.purge(upto).await?;
        self.log.save_committed(Some(upto)).await
    }

    /// Some of everything, across several segments.
    async fn work(&mut self) -> io::Result<()> {
        self.vote().await?;
        for round in 0..12 {
            let count = 1 + self.random(3);
            self.append(count).await?;
            match round % 4 {
                1 => self.truncate(self.now().entries.len().saturating_sub(2)).await?,
                2 => self.vote().await?,
                3 => self.purge(3).await?,
                _ => {}
            }
        }
        self.append(3).await
    }

    /// Runs until done, failed, or stuck in a crash.
    async fn work_until_it_ends(&mut self) -> Option<io::Result<()>> {
        timeout(Duration::from_secs(5), self.work()).await.ok()
    }

    fn allowed(&self) -> &[Content] {
        &self.history[self.acknowledged..]
    }
}

async fn fresh() -> (MemoryDisk, Run) {
    let disk = MemoryDisk::default();
    let log = open(&disk).await.expect("an empty disk");
    (disk, Run::new(log, Content::default()))
}

/// A disk after undisturbed work and an orderly end, and what it holds.
async fn worked() -> (MemoryDisk, Content) {
    let (disk, mut run) = fresh().await;
    run.work().await.expect("nothing fails");
    run.log.close().await.expect("nothing fails");
    (disk, run.now())
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_read_back() {
    let (disk, expected) = worked().await;
    assert!(
        disk.paths().len() > 2,
        "the work fills several segments: {:?}",
        disk.paths()
    );
    for _ in 0..3 {
        let mut log = open(&disk).await.expect("a whole log");
        assert_eq!(content(&mut log).await.expect("readable"), expected);
        log.close().await.expect("nothing fails");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    let total = worked().await.0.operations();
    assert!(
        total > 60,
        "the work is too small to mean much: {total} operations"
    );
    for at in 1..=total {
        let disk = MemoryDisk::default();
        disk.fail_at(at, Failure::Crash);
        let mut allowed = vec![Content::default()];
        if let Ok(log) = timeout(Duration::from_secs(5), open(&disk)).await {
            let mut run = Run::new(log.expect("an empty disk"), Content::default());
            let _ = run.work_until_it_ends().await;
            allowed = run.allowed().to_vec();
        }
        for keep in [
            Keep::Nothing,
            Keep::Everything,
            Keep::Some(at),
            Keep::Some(!at),
            Keep::Some(at << 20),
        ] {
            let survivor = disk.after_crash(keep);
            let mut log = match open(&survivor).await {
                Ok(log) => log,
                Err(error) => panic!("crash at {at}, {keep:?}: {error}"),
            };
            let found = content(&mut log).await.expect("readable");
            assert!(
                allowed.contains(&found),
                "crash at {at}, {keep:?}: found {found:?}"
            );

            // And it goes on from there, crashing again at once.
            let mut run = Run::new(log, found);
            run.vote().await.expect("a healthy disk");
            run.append(2).await.expect("a healthy disk");
            let again = survivor.after_crash(Keep::Some(at));
            let mut log = open(&again)
                .await
                .unwrap_or_else(|e| panic!("second crash after {at}, {keep:?}: {e}"));
            assert_eq!(
                content(&mut log).await.expect("readable"),
                run.now(),
                "second crash after {at}, {keep:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_recovering_from_a_crash_loses_nothing_either() {
    let (disk, mut run) = fresh().await;
    disk.fail_at(70, Failure::Crash);
    let _ = run.work_until_it_ends().await;
    for at in 1..12 {
        let survivor = disk.after_crash(Keep::Some(at));
        survivor.fail_at(at, Failure::Crash);
        let _ = timeout(Duration::from_secs(5), open(&survivor)).await;
        for keep in [Keep::Nothing, Keep::Everything, Keep::Some(at)] {
            let mut log = open(&survivor.after_crash(keep))
                .await
                .expect("recovery can be repeated");
            let found = content(&mut log).await.expect("readable");
            assert!(run.allowed().contains(&found), "second crash at {at}, {keep:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_any_operation_poisons_the_log_for_good() {
    let total = worked().await.0.operations();
    for at in 1..=total {
        let disk = MemoryDisk::default();
        disk.fail_at(at, Failure::Error);
        let poisoned = Arc::new(AtomicUsize::new(0));
        let Ok(log) = open_with(&disk, Arc::clone(&poisoned)).await else {
            continue;
        };
        let mut run = Run::new(log, Content::default());
        let ended = run
            .work_until_it_ends()
            .await
            .unwrap_or_else(|| panic!("error at {at}: stuck"));
        let closed = run.log.close().await;
        if ended.is_err() || closed.is_err() {
            assert_eq!(poisoned.load(Ordering::SeqCst), 1, "error at {at}: said once");
            let before = disk.operations();
            assert!(run.vote().await.is_err(), "error at {at}: the log goes on");
            assert_eq!(disk.operations(), before, "error at {at}: it was tried again");
        }
        for keep in [Keep::Nothing, Keep::Everything] {
            let mut log = match open(&disk.after_crash(keep)).await {
                Ok(log) => log,
                Err(error) => panic!("error at {at}, {keep:?}: {error}"),
            };
            let found = content(&mut log).await.expect("readable");
            assert!(
                run.allowed().contains(&found),
                "error at {at}, {keep:?}: found {found:?}"
            );
        }
    }
}

/// The newest segment and the offset and length of its last frame.
fn last_frame(disk: &MemoryDisk) -> (String, usize, usize) {
    let path = disk
        .paths()
        .into_iter()
        .rfind(|path| path.ends_with(".wal"))
        .expect("a log has segments");
    let end = disk.with(&path, |bytes| {
        bytes.iter().rposition(|byte| *byte != 0).expect("frames") + 1
    });
    let start = disk.with(&path, |bytes| {
        // A frame's head ends in its marker, 29 bytes in; its length leads to the end.
        (0..end - 30)
            .rfind(|at| {
                let len = u32::from_be_bytes(bytes[*at..at + 4].try_into().expect("four bytes")) as usize;
                bytes[at + 28] == 0xF7 && at + 30 + len == end
            })
            .expect("a last frame")
    });
    (path, start, end - start)
}

#[tokio::test(start_paused = true)]
async fn a_last_frame_torn_at_any_byte_is_cut_off() {
    let (disk, mut run) = fresh().await;
    run.work().await.expect("nothing fails");
    run.append(1).await.expect("nothing fails");
    let (path, start, len) = last_frame(&disk);
    let without = run.history[run.history.len() - 2].clone();
    for kept in 0..=len {
        let torn = disk.copy();
        torn.with(&path, |bytes| bytes[start + kept..].fill(0));
        let mut log = open(&torn)
            .await
            .unwrap_or_else(|e| panic!("torn after {kept} of {len} bytes: {e}"));
        let found = content(&mut log).await.expect("readable");
        assert_eq!(
            found,
            if kept == len { run.now() } else { without.clone() },
            "after {kept} of {len} bytes"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_anywhere_changes_nothing_or_is_refused_with_its_place() {
    let (disk, mut run) = fresh().await;
    run.work().await.expect("nothing fails");
    let expected = run.now();
    let mut refused = 0;
    for path in disk.paths().into_iter().filter(|path| path.ends_with(".wal")) {
        let len = disk.with(&path, |bytes| bytes.len());
        for at in 0..len {
            let rotten = disk.copy();
            rotten.with(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            match open(&rotten).await {
                Ok(mut log) => {
                    let found = content(&mut log).await.expect("readable");
                    assert_eq!(found, expected, "a bit flipped in {path} at {at} went unnoticed");
                }
                Err(error) => {
                    refused += 1;
                    assert!(
                        error.to_string().contains(&format!("{path} at ")),
                        "no place in: {error}"
                    );
                }
            }
        }
    }
    assert!(refused > 5_000, "only {refused} flips were refused");
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_is_noticed() {
    let (disk, expected) = worked().await;
    let segments: Vec<String> = disk
        .paths()
        .into_iter()
        .filter(|path| path.ends_with(".wal"))
        .collect();
    for path in &segments[..segments.len() - 1] {
        let hole = disk.copy();
        hole.delete(path);
        match open(&hole).await {
            Err(error) => assert!(error.to_string().contains("missing"), "{error}"),
            // It held nothing that is needed any more.
            Ok(mut log) => assert_eq!(
                content(&mut log).await.expect("readable"),
                expected,
                "without {path}"
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rot_in_an_entry_that_left_memory_is_found_when_it_is_read() {
    let (disk, mut run) = fresh().await;
    run.append(8).await.expect("nothing fails");
    let path = disk
        .paths()
        .into_iter()
        .find(|path| path.ends_with(".wal"))
        .expect("a segment");
    disk.with(&path, |bytes| bytes[400] ^= 1);
    let error = run
        .log
        .try_get_log_entries(0..2)
        .await
        .expect_err("the first entries are not cached");
    assert!(error.to_string().contains(&path), "{error}");
}
