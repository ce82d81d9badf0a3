//! One simulated file: what a reader sees, what a power cut leaves, and the writes that lie between the two.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::pages::{PAGE, Pages};
use crate::rng::{PerMillion, Rng};

/// Drives write whole sectors: a torn write leaves some of them.
const SECTOR: usize = 512;

/// A change that was asked for and not yet synced.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, data: Bytes },
    Length(u64),
}

impl Change {
    fn apply(&self, to: &mut Pages) {
        match self {
            Change::Write { offset, data } => to.write(*offset, data),
            Change::Length(len) => to.set_len(*len),
        }
    }

    /// Applies part of it: a prefix that ends at any byte, or any of its sectors.
    fn apply_torn(&self, to: &mut Pages, rng: &mut Rng) {
        let Change::Write { offset, data } = self else {
            // A length is one number in one inode: all of it or nothing.
            return self.apply(to);
        };
        let end = offset + data.len() as u64;
        if rng.chance(PerMillion::percent(50)) {
            to.write(*offset, &data[..rng.index(data.len() + 1)]);
        } else {
            let mut at = 0;
            while at < data.len() {
                // Sectors are aligned in the file, so the first piece may be shorter.
                let into = usize::try_from((offset + at as u64) % SECTOR as u64).unwrap_or(0);
                let n = (SECTOR - into).min(data.len() - at);
                if rng.chance(PerMillion::percent(50)) {
                    to.write(offset + at as u64, &data[at..at + n]);
                }
                at += n;
            }
        }
        // The length may have reached the inode although the bytes did not reach the sectors.
        if to.len() < end && rng.chance(PerMillion::percent(50)) {
            to.set_len(end);
        }
    }
}

/// What becomes of the changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All are kept: the process died, the machine did not.
    Nothing,
    /// All are lost: nothing had been written back yet.
    Everything,
    /// Each is kept, lost or torn, on its own: some had been.
    Some,
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// What a reader sees: the page cache.
    live: Pages,
    /// What is on the platter.
    durable: Pages,
    /// Between the two, in the order asked, each with its number.
    pending: Vec<(u64, Change)>,
    next: u64,
    /// Pages whose sectors can't be read.
    unreadable: BTreeSet<u64>,
    /// Open handles.
    pub(super) handles: usize,
    /// A fault made it another than was written, and whoever reads it has felt that.
    pub(super) harmed: bool,
}

impl File {
    pub(super) fn len(&self) -> u64 {
        self.live.len()
    }

    /// `None` if a sector of the range is unreadable.
    pub(super) fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let last = (offset + len as u64).saturating_sub(1) / PAGE;
        if self.unreadable.range(offset / PAGE..=last).next().is_some() {
            return None;
        }
        Some(self.live.read(offset, len))
    }

    /// What a power cut would leave, if it lost all that it may.
    pub(super) fn durable(&self) -> &Pages {
        &self.durable
    }

    pub(super) fn write(&mut self, offset: u64, data: Bytes) {
        self.unreadable.retain(|page| {
            // A page that is overwritten whole is mapped to a good sector.
            !(offset <= page * PAGE && (page + 1) * PAGE <= offset + data.len() as u64)
        });
        self.change(Change::Write { offset, data });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.change(Change::Length(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push((self.next, change));
        self.next += 1;
    }

    /// The number below which all changes were asked for by now: what a sync that begins now is for.
    pub(super) fn mark(&self) -> u64 {
        self.next
    }

    /// Bytes of changes not yet synced, below the mark.
    pub(super) fn dirty_bytes(&self, mark: u64) -> u64 {
        let size = |change: &Change| match change {
            Change::Write { data, .. } => data.len() as u64,
            Change::Length(_) => 0,
        };
        self.pending
            .iter()
            .filter(|(n, _)| *n < mark)
            .map(|(_, change)| size(change))
            .sum()
    }

    /// Makes the changes below the mark durable.
    pub(super) fn sync(&mut self, mark: u64) {
        for (_, change) in self.pending.extract_if(.., |(n, _)| *n < mark) {
            change.apply(&mut self.durable);
        }
    }

    /// As Linux does after a failed write-back: some of it may be on the platter, the pages count as clean,
    /// readers go on to see the new bytes, and no later sync will ever write them.
    pub(super) fn fail_sync(&mut self, mark: u64, rng: &mut Rng) {
        for (_, change) in self.pending.extract_if(.., |(n, _)| *n < mark) {
            settle(&change, Loss::Some, &mut self.durable, rng);
        }
    }

    /// A power cut.
    pub(super) fn crash(&mut self, loss: Loss, rng: &mut Rng) {
        for (_, change) in self.pending.drain(..) {
            settle(&change, loss, &mut self.durable, rng);
        }
        self.live = self.durable.clone();
        self.handles = 0;
    }

    /// Flips a bit of what is on the platter, and in the cache.
    pub(super) fn rot(&mut self, offset: u64, bit: u8) {
        self.durable.flip(offset, bit);
        self.live.flip(offset, bit);
    }

    /// Cuts off the end, on the platter and in the cache.
    pub(super) fn lose_end(&mut self, len: u64) {
        self.durable.set_len(len);
        self.live.set_len(len);
    }

    /// Whether all changes are on the platter.
    pub(super) fn is_synced(&self) -> bool {
        self.pending.is_empty()
    }

    /// Makes the page around this byte unreadable until it is overwritten.
    pub(super) fn spoil(&mut self, offset: u64) {
        self.unreadable.insert(offset / PAGE);
    }
}

fn settle(change: &Change, loss: Loss, durable: &mut Pages, rng: &mut Rng) {
    match loss {
        Loss::Nothing => change.apply(durable),
        Loss::Everything => {}
        Loss::Some => match rng.below(3) {
            0 => change.apply(durable),
            1 => change.apply_torn(durable, rng),
            _ => {}
        },
    }
}
