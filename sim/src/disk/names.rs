//! The names in one directory: those a process sees, those a power cut leaves, and the changes between.

use std::collections::BTreeMap;

use super::file::Loss;
use crate::rng::{PerMillion, Rng};

/// The number of a file, whatever its name.
pub(super) type FileId = u64;

#[derive(Clone, Debug)]
enum Change {
    Link(String, FileId),
    Unlink(String),
    /// Both names change in one step, or neither.
    Move {
        from: String,
        to: String,
        file: FileId,
    },
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Change::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Change::Unlink(name) => {
                names.remove(name);
            }
            Change::Move { from, to, file } => {
                // When the creation of `from` was lost, its move may still have been kept.
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// A directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    live: BTreeMap<String, FileId>,
    durable: BTreeMap<String, FileId>,
    pending: Vec<(u64, Change)>,
    next: u64,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<FileId> {
        self.live.get(name).copied()
    }

    /// What a power cut would leave, if it lost all that it may.
    pub(super) fn durable(&self) -> &BTreeMap<String, FileId> {
        &self.durable
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.live.keys().cloned().collect()
    }

    pub(super) fn link(&mut self, name: &str, file: FileId) {
        self.change(Change::Link(name.to_owned(), file));
    }

    pub(super) fn unlink(&mut self, name: &str) {
        self.change(Change::Unlink(name.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, file: FileId) {
        self.change(Change::Move {
            from: from.to_owned(),
            to: to.to_owned(),
            file,
        });
    }

    /// A name is gone, on the platter and in the cache, without anyone having asked for it.
    pub(super) fn lose(&mut self, name: &str) {
        self.live.remove(name);
        self.durable.remove(name);
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push((self.next, change));
        self.next += 1;
    }

    /// What a sync that begins now is for.
    pub(super) fn mark(&self) -> u64 {
        self.next
    }

    pub(super) fn sync(&mut self, mark: u64) {
        for (_, change) in self.pending.extract_if(.., |(n, _)| *n < mark) {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn fail_sync(&mut self, mark: u64, rng: &mut Rng) {
        for (_, change) in self.pending.extract_if(.., |(n, _)| *n < mark) {
            if rng.chance(PerMillion::percent(50)) {
                change.apply(&mut self.durable);
            }
        }
    }

    /// A power cut. Half of the time a prefix of the changes is kept, as a journaling file system does;
    /// else any of them, which is all that POSIX promises.
    pub(super) fn crash(&mut self, loss: Loss, rng: &mut Rng) {
        let pending: Vec<_> = self.pending.drain(..).collect();
        let prefix = rng
            .chance(PerMillion::percent(50))
            .then(|| rng.index(pending.len() + 1));
        for (i, (_, change)) in pending.iter().enumerate() {
            let keep = match (loss, prefix) {
                (Loss::Nothing, _) => true,
                (Loss::Everything, _) => false,
                (Loss::Some, Some(prefix)) => i < prefix,
                (Loss::Some, None) => rng.chance(PerMillion::percent(50)),
            };
            if keep {
                change.apply(&mut self.durable);
            }
        }
        self.live = self.durable.clone();
    }

    /// Every file that has a name here, or may have one after a crash.
    pub(super) fn referenced(&self) -> impl Iterator<Item = FileId> {
        let pending = self.pending.iter().filter_map(|(_, change)| match change {
            Change::Link(_, file) | Change::Move { file, .. } => Some(*file),
            Change::Unlink(_) => None,
        });
        self.live
            .values()
            .chain(self.durable.values())
            .copied()
            .chain(pending)
    }
}
