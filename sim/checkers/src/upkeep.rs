//! Upkeep: what a node no longer needs leaves its disk, or the disk fills over a long life; and what it needs stays.

use std::collections::{BTreeMap, BTreeSet};

use crate::wal::{self, Platter, Record};

/// Snapshots that may lie on a disk at once: the newest, the one that it replaces, whose removal need not be durable yet, and
/// one that was still being built when a newer one was received.
const SNAPSHOTS: usize = 3;
/// Segments of the log of which nothing is needed: one may have been filled since the log was last purged.
const SPENT: usize = 1;

/// Looks at disks, at any moment.
#[derive(Clone, Debug, Default)]
pub struct Upkeep {
    /// What each node's newest snapshot covers, and the files of the archive that it names.
    newest: BTreeMap<u64, (u64, Vec<String>)>,
    /// Files that were taken away on purpose, and have not come back.
    taken: BTreeMap<u64, BTreeSet<String>>,
}

impl Upkeep {
    /// A file of a node's archive was taken away on purpose, or may have been.
    pub fn taken(&mut self, node: u64, name: &str) {
        self.taken.entry(node).or_default().insert(name.to_owned());
    }

    /// Looks at a node's.
    pub fn look(&mut self, node: u64, platter: &dyn Platter) -> Option<String> {
        let covered = wal::snapshots(platter);
        if covered.len() > SNAPSHOTS {
            let finished = covered.len();
            return Some(format!(
                "n{node} keeps {finished} snapshots, {covered:?}, though each stands for all before it"
            ));
        }
        let newest = *covered.last()?;
        let files = platter.list("archive");
        let known = self.newest.get(&node).is_some_and(|(index, _)| *index == newest);
        if !known && let Some(snapshot) = wal::snapshot(platter, newest) {
            self.newest.insert(node, (newest, named(&snapshot.body)));
        }
        let taken = self.taken.entry(node).or_default();
        taken.retain(|name| !files.contains(name));
        let (index, named) = self.newest.get(&node)?;
        // Another snapshot may name it again, before another node has given it.
        let is_gone = |name: &&String| !files.contains(name) && !taken.contains(*name);
        let gone = named.iter().find(is_gone)?;
        Some(format!(
            "n{node} has no {gone} any more, which its newest snapshot, of {index} entries, names"
        ))
    }
}

/// The files of an archive that the newest snapshot names.
pub fn of_newest_snapshot(platter: &dyn Platter) -> Vec<String> {
    let newest = wal::snapshots(platter).last().copied();
    let snapshot = newest.and_then(|newest| wal::snapshot(platter, newest));
    snapshot.map_or_else(Vec::new, |snapshot| named(&snapshot.body))
}

/// The files of the archive that a snapshot names: an epoch of 13 digits, what is in it, and 16 digits of its digest.
fn named(snapshot: &[u8]) -> Vec<String> {
    const ENDING: &[u8] = b".parquet";
    let ends = snapshot.windows(ENDING.len()).enumerate();
    let ends = ends.filter(|(_, bytes)| *bytes == ENDING).map(|(start, _)| start);
    let name = |end: usize| {
        let digest = end.checked_sub(16)?;
        let table = snapshot[..digest].strip_suffix(b"-")?;
        let letters = table.iter().rev().take_while(|byte| byte.is_ascii_lowercase());
        let dash = table.len().checked_sub(letters.count() + 1)?;
        let name = &snapshot[dash.checked_sub(13)?..end];
        let is_epoch = name[..13].iter().all(u8::is_ascii_digit) && name[13] == b'-';
        let name = str::from_utf8(name).ok().filter(|_| is_epoch)?;
        Some(format!("{name}.parquet"))
    };
    ends.filter_map(name).collect()
}

/// Looks at the disk of a node that was told to take a snapshot and to drop the log that it covers, and was asked for nothing
/// since. Of that log at most `keep` entries stay: a leader drops the last only with the next entry. `shown` are the files that its
/// archive has, those aside whose removal a power cut would undo until the next start, and `needed` those that its ledger refers to;
/// what it referred to then may lie there as well.
pub fn at_rest(
    node: u64,
    platter: &dyn Platter,
    keep: u64,
    shown: &[String],
    needed: &BTreeSet<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    let Some(covered) = wal::snapshots(platter).last().copied() else {
        return vec![format!("n{node} has no snapshot, though it was told to take one")];
    };
    let segments = wal::segments(platter);
    let purged = purged(&segments);
    if purged.map_or(0, |last| last + 1) + keep < covered + 1 {
        found.push(format!(
            "n{node} has dropped its log up to {purged:?} only, and its snapshot covers {covered} entries"
        ));
    }
    let spent = spent(&segments, purged);
    if spent.len() > SPENT {
        found.push(format!(
            "n{node} keeps the segments {spent:?} of its log, of which nothing is needed"
        ));
    }
    let named = of_newest_snapshot(platter);
    let mut idle = shown
        .iter()
        .filter(|name| !needed.contains(*name) && !named.contains(name));
    if let Some(first) = idle.next() {
        found.push(format!(
            "n{node} keeps {first} and {} more files to which neither its ledger nor its snapshot refers",
            idle.count()
        ));
    }
    let durable = platter.list("archive");
    if let Some(gone) = needed.iter().find(|name| !durable.contains(name)) {
        found.push(format!("n{node} has no {gone}, to which its ledger refers"));
    }
    found
}

/// The last entry that is gone.
fn purged(segments: &[(u64, Vec<Record>)]) -> Option<u64> {
    let records = segments.iter().flat_map(|(_, records)| records);
    let purged = records.filter_map(|record| match record {
        Record::Purge(last)
        | Record::Checkpoint {
            purged: Some(last), ..
        } => Some(last.index),
        _ => None,
    });
    purged.max()
}

/// Segments before the last one whose entries are all gone.
fn spent(segments: &[(u64, Vec<Record>)], purged: Option<u64>) -> Vec<u64> {
    let is_gone = |record: &Record| match record {
        Record::Entry(id, _) => Some(id.index) <= purged,
        _ => true,
    };
    let before_last = segments.len().saturating_sub(1);
    segments
        .iter()
        .take(before_last)
        .filter(|(_, records)| records.iter().all(is_gone))
        .map(|(id, _)| *id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_says_itself_which_files_it_names() {
        let names = [
            "0000000001003-statements-0123456789abcdef",
            "0000000001004-seals-fedcba9876543210",
        ];
        let mut snapshot = b"13".to_vec();
        for name in names {
            snapshot.push(b'9');
            snapshot.extend(name.as_bytes());
            snapshot.extend(b".parquet");
        }
        snapshot.extend(b"x.parquet");
        assert_eq!(named(&snapshot), names.map(|name| format!("{name}.parquet")));
        assert_eq!(named(b".parquet"), Vec::<String>::new());
    }
}
