//! What is in the log and where: in memory, on disk, or both.

use std::collections::VecDeque;
use std::io;

use crate::codec;
use crate::types::{Entry, LogId, Vote};
use crate::wal::{Place, Recovered};

/// One entry of the log.
struct Slot {
    log_id: LogId,
    /// On disk, once written.
    place: Option<Place>,
    /// In memory, until evicted.
    entry: Option<Entry>,
    bytes: usize,
}

/// An entry that was asked for.
pub(super) enum Found {
    Here(Entry),
    OnDisk(LogId, Place),
}

/// The entries behind `purged`, without a gap, and the votes and marks beside them.
pub(super) struct Index {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    purged: Option<LogId>,
    slots: VecDeque<Slot>,
    /// Slots from this position on may be in memory; none before it is.
    cached_from: usize,
    cached_bytes: usize,
    cache_limit: usize,
}

impl Index {
    pub(super) fn new(recovered: &mut Recovered, cache_limit: usize) -> Self {
        let slots: VecDeque<Slot> = std::mem::take(&mut recovered.entries)
            .into_iter()
            .map(|(log_id, place)| Slot {
                log_id,
                bytes: place.len as usize,
                place: Some(place),
                entry: None,
            })
            .collect();
        Index {
            vote: recovered.state.vote,
            committed: recovered.state.committed,
            purged: recovered.state.purged,
            cached_from: slots.len(),
            slots,
            cached_bytes: 0,
            cache_limit,
        }
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub(super) fn last_log_id(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.purged)
    }

    /// The index of the first slot.
    fn first(&self) -> u64 {
        self.slots
            .front()
            .map_or_else(|| self.next(), |slot| slot.log_id.index())
    }

    /// The index that the next entry must have.
    fn next(&self) -> u64 {
        self.last_log_id().map_or(0, |last| last.index() + 1)
    }

    /// The position of an index at or behind the first slot; past the end for what is not there.
    fn position(&self, index: u64) -> usize {
        usize::try_from(index.saturating_sub(self.first()))
            .unwrap_or(usize::MAX)
            .min(self.slots.len())
    }

    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        for entry in entries {
            let (index, next) = (entry.log_id.index(), self.next());
            let gap = index != next && !planted!("truncate-does-nothing");
            if gap && !(self.slots.is_empty() && self.purged.is_none()) {
                return Err(io::Error::other(format!(
                    "entry {index} appended where {next} comes next"
                )));
            }
            let bytes = codec::entry_bytes(entry);
            self.cached_bytes += bytes;
            self.slots.push_back(Slot {
                log_id: entry.log_id,
                place: None,
                entry: Some(entry.clone()),
                bytes,
            });
        }
        Ok(())
    }

    pub(super) fn truncate_after(&mut self, last: Option<LogId>) {
        if planted!("truncate-does-nothing") {
            return;
        }
        let keep = last.map_or(0, |last| self.position(last.index() + 1));
        while self.slots.len() > keep {
            self.drop_cached(self.slots.len() - 1);
            self.slots.pop_back();
        }
        self.cached_from = self.cached_from.min(self.slots.len());
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index() >= upto.index()) {
            return;
        }
        for _ in 0..self.position(upto.index() + 1) {
            self.drop_cached(0);
            self.slots.pop_front();
            self.cached_from = self.cached_from.saturating_sub(1);
        }
        self.purged = Some(upto);
    }

    /// The last entry that may go if about `bytes` are to stay up to `last`; none, if there are no more.
    pub(super) fn beyond(&self, last: u64, bytes: usize) -> Option<u64> {
        let mut kept = 0usize;
        let slots = self.slots.range(..self.position(last.saturating_add(1)));
        slots.rev().find_map(|slot| {
            kept = kept.saturating_add(slot.bytes);
            (kept > bytes).then(|| slot.log_id.index())
        })
    }

    /// Entries are on disk: they may leave memory when it runs short.
    pub(super) fn written(&mut self, places: Vec<(LogId, Place)>) {
        for (log_id, place) in places {
            // It may have been truncated or purged meanwhile, and replaced.
            let position = self.position(log_id.index());
            if log_id.index() >= self.first()
                && let Some(slot) = self.slots.get_mut(position)
                && slot.log_id == log_id
            {
                slot.place = Some(place);
            }
        }
        while self.cached_bytes > self.cache_limit
            && self
                .slots
                .get(self.cached_from)
                .is_some_and(|slot| slot.place.is_some())
        {
            self.drop_cached(self.cached_from);
            self.cached_from += 1;
        }
    }

    fn drop_cached(&mut self, position: usize) {
        if let Some(slot) = self.slots.get_mut(position)
            && slot.entry.take().is_some()
        {
            self.cached_bytes -= slot.bytes;
        }
    }

    /// The entries of `start..end` that exist, up to about `max_bytes` but at least one.
    pub(super) fn find(&self, start: u64, end: u64, max_bytes: usize) -> Vec<Found> {
        let from = self.position(start);
        let to = if end < self.first() { 0 } else { self.position(end) };
        let mut bytes = 0usize;
        let mut found = Vec::new();
        for slot in self.slots.range(from..to.max(from)) {
            bytes = bytes.saturating_add(slot.bytes);
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            match (&slot.entry, &slot.place) {
                (Some(entry), _) => found.push(Found::Here(entry.clone())),
                (None, Some(place)) => found.push(Found::OnDisk(slot.log_id, place.clone())),
                // Memory is given up only for what is on disk.
                (None, None) => unreachable!("entry {} is neither in memory nor on disk", slot.log_id),
            }
        }
        found
    }
}
