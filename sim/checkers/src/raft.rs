//! Raft's own promises: at most one history is ever committed, each of its entries is on the synced disks of a majority
//! when it is applied anywhere, no leader lacks one, and what a disk has said it never takes back.
//!
//! It is told, as they happen, of the records that become durable on each disk, of what each node applies, and of
//! whom a node takes itself for; nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::wal::{Leader, LogId, Record, Vote};
use crate::oracle::judge::Payload;

/// A promise that was found broken: the checker's name, and what happened.
pub type Found = (&'static str, String);

/// What one disk holds.
#[derive(Clone, Debug, Default)]
struct Disk {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// Up to here a snapshot stands for the log.
    covered: Option<u64>,
    entries: BTreeMap<u64, LogId>,
}

impl Disk {
    /// Whether it stands for the entry, by the entry itself or by a snapshot that covers it.
    fn holds(&self, id: LogId) -> bool {
        self.covered.is_some_and(|covered| id.index <= covered) || self.entries.get(&id.index) == Some(&id)
    }
}

/// An entry.
#[derive(Clone, Debug)]
struct Known {
    payload: Payload,
    /// The one before it.
    before: Option<LogId>,
    /// The membership in force behind it, in its own log.
    membership: Option<LogId>,
}

/// All disks, and what is known of the log they make.
#[derive(Clone, Debug, Default)]
pub struct Raft {
    /// Nobody saw what came before what between two disks.
    afterwards: bool,
    excused: BTreeSet<u64>,
    disks: BTreeMap<u64, Disk>,
    /// Every entry that ever was on a disk.
    known: BTreeMap<LogId, Known>,
    /// Where the membership changes, in any log.
    memberships: BTreeMap<LogId, Vec<BTreeSet<u64>>>,
    leaders: BTreeSet<Leader>,
    committed: BTreeMap<u64, LogId>,
    /// The first entry that was applied somewhere and was not on a quorum of disks.
    hasty: Option<u64>,
    found: Vec<Found>,
    seen: BTreeMap<&'static str, u64>,
}

impl Raft {
    /// Nothing seen yet. Excused disks are damaged on purpose: nobody looks at them, and they may hold anything.
    pub fn new(excused: BTreeSet<u64>) -> Self {
        Raft {
            excused,
            ..Raft::default()
        }
    }

    /// For disks that are read one after the other when all is over. What is committed follows from what they say
    /// themselves; see [`Raft::end`].
    pub fn post_mortem() -> Self {
        Raft {
            afterwards: true,
            ..Raft::default()
        }
    }

    /// What was found broken since the last call.
    pub fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    /// How often what occurred.
    pub fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }

    /// How far the log is committed, as far as anyone has shown.
    pub fn committed_to(&self) -> Option<u64> {
        self.committed.last_key_value().map(|(index, _)| *index)
    }

    /// How far it is committed in truth: a node that applies what no quorum has on its disks shows nothing.
    pub fn backed_to(&self) -> Option<u64> {
        match self.hasty {
            Some(first) => first.checked_sub(1),
            None => self.committed_to(),
        }
    }

    /// The committed log, if all of it is known.
    pub fn committed_log(&self) -> Option<BTreeMap<u64, Payload>> {
        let dense = self
            .committed
            .keys()
            .zip(0..)
            .all(|(index, expected)| *index == expected);
        let log: BTreeMap<u64, Payload> = self
            .committed
            .iter()
            .filter_map(|(i, id)| Some((*i, self.known.get(id)?.payload.clone())))
            .collect();
        (dense && log.len() == self.committed.len()).then_some(log)
    }

    /// A record became durable on a node's disk.
    pub fn record(&mut self, node: u64, record: &Record) {
        match record {
            Record::Checkpoint {
                vote,
                purged,
                committed,
            } => {
                vote.iter().for_each(|vote| self.vote(node, *vote));
                committed.iter().for_each(|mark| self.mark(node, *mark));
                purged.iter().for_each(|upto| self.purge(node, *upto));
                committed.iter().for_each(|mark| self.reaches(node, *mark));
            }
            Record::Vote(vote) => self.vote(node, *vote),
            Record::Committed(mark) => {
                self.mark(node, *mark);
                self.reaches(node, *mark);
            }
            Record::Purge(upto) => self.purge(node, *upto),
            Record::Entry(id, payload) => self.append(node, *id, payload),
            Record::Truncate(last) => self.truncate(node, *last),
        }
    }

    /// A snapshot that covers the log up to here became durable on a node's disk.
    pub fn snapshot(&mut self, node: u64, index: u64) {
        let disk = self.disks.entry(node).or_default();
        let behind = disk
            .entries
            .last_key_value()
            .is_none_or(|(last, _)| *last < index);
        disk.covered = disk.covered.max(Some(index));
        *self
            .seen
            .entry(if behind {
                "a snapshot installed"
            } else {
                "a snapshot taken"
            })
            .or_default() += 1;
    }

    /// A disk does not continue what was on it.
    pub fn broken(&mut self, node: u64, what: &str) {
        self.found
            .push(("fail-stop", format!("the log of n{node}: {what}")));
    }

    /// A node shows that it has applied everything up to here.
    pub fn applied(&mut self, node: u64, index: u64) {
        let first = self.committed_to().map_or(0, |committed| committed + 1);
        for i in first..=index {
            let mut holders: BTreeMap<LogId, BTreeSet<u64>> = BTreeMap::new();
            for (holder, disk) in &self.disks {
                if let Some(id) = disk.entries.get(&i) {
                    holders.entry(*id).or_default().insert(*holder);
                }
            }
            let covering = |id: &LogId| -> BTreeSet<u64> {
                self.disks
                    .iter()
                    .filter(|(_, disk)| disk.holds(*id))
                    .map(|(holder, _)| *holder)
                    .collect()
            };
            let best = holders.keys().copied().max_by_key(|id| covering(id).len());
            let on = best.as_ref().map(&covering).unwrap_or_default();
            if !self.is_backed(i, best, &on) {
                let what =
                    format!("n{node} has applied entry {i}, which is on the synced disks of {on:?} only");
                self.found.push(("durability", what));
                self.hasty.get_or_insert(i);
            }
            match best {
                Some(id) => {
                    self.committed.insert(i, id);
                    let gone = |configs: &Vec<BTreeSet<u64>>| {
                        !configs.iter().any(|config| config.contains(&id.leader.node))
                    };
                    // Nobody leads when the first membership is written.
                    if i > 0 && self.memberships.get(&id).is_some_and(gone) {
                        self.count("a leader removed while it led");
                    }
                }
                None => return,
            }
        }
    }

    /// A node takes itself for the leader of a term.
    pub fn leads(&mut self, node: u64, term: u64) {
        let leader = Leader { term, node };
        if !self.leaders.insert(leader) {
            return;
        }
        self.count("a leader elected");
        let voters: BTreeSet<u64> = self
            .disks
            .iter()
            .filter(|(_, disk)| disk.vote.is_some_and(|(voted, _)| voted >= leader))
            .map(|(voter, _)| *voter)
            .collect();
        let last = self
            .disks
            .get(&node)
            .and_then(|disk| disk.entries.last_key_value())
            .map(|(index, id)| (*index, *id));
        let (index, last) = last.unzip();
        if !self.is_quorum(index.unwrap_or(0), last, &voters) {
            let what =
                format!("n{node} leads term {term}, and only {voters:?} have a vote for it on their disks");
            self.found.push(("election safety", what));
        }
    }

    /// All disks have been read, of processes that are gone: whatever any of them holds for committed is on a majority.
    pub fn end(&mut self) {
        for (index, id) in &self.committed {
            let on: BTreeSet<u64> = self
                .disks
                .iter()
                .filter(|(_, disk)| disk.holds(*id))
                .map(|(holder, _)| *holder)
                .collect();
            if !self.is_quorum(*index, Some(*id), &on) {
                let what = format!("entry {id} is committed, and in the end on the disks of {on:?} only");
                self.found.push(("durability", what));
            }
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Whether these are a majority of every configuration in force at an index, in the log of the entry there, or of
    /// one made later.
    fn is_quorum(&self, index: u64, entry: Option<LogId>, nodes: &BTreeSet<u64>) -> bool {
        let before = self.in_force(index, entry);
        let later = self.memberships.iter().filter(|(id, _)| id.index > index);
        // Before there is a first membership nobody can say what a majority is.
        before.is_none()
            || before
                .into_iter()
                .chain(later)
                .any(|(_, configs)| self.is_majority(configs, nodes))
    }

    /// Whether these nodes' disks commit an entry.
    ///
    /// Once a joint configuration is committed, its leader counts by the one that follows as soon as that is in its own
    /// log, on no disk yet. No leader without the entry can be elected then, for whoever has not seen the end of the
    /// joint one still needs a majority of both.
    fn is_backed(&self, index: u64, entry: Option<LogId>, nodes: &BTreeSet<u64>) -> bool {
        let before = self.in_force(index, entry);
        let joint = before.filter(|(id, _)| self.committed.get(&id.index) == Some(id));
        let next = joint.and_then(|(_, configs)| configs.last());
        self.is_quorum(index, entry, nodes)
            || next.is_some_and(|next| self.is_majority(std::slice::from_ref(next), nodes))
    }

    fn is_majority(&self, configs: &[BTreeSet<u64>], nodes: &BTreeSet<u64>) -> bool {
        let counts = |node: &&u64| nodes.contains(node) || self.excused.contains(node);
        configs
            .iter()
            .all(|config| 2 * config.iter().filter(counts).count() > config.len())
    }

    /// The membership in force at an index, in the log of the entry there.
    fn in_force(&self, index: u64, entry: Option<LogId>) -> Option<(&LogId, &Vec<BTreeSet<u64>>)> {
        match entry.and_then(|id| self.known.get(&id)?.membership) {
            Some(own) => self.memberships.get_key_value(&own),
            // What stands before the entry is not known: it was in a snapshot.
            None => self
                .memberships
                .iter()
                .filter(|(id, _)| id.index <= index)
                .max_by_key(|(id, _)| (id.index, id.leader)),
        }
    }

    fn vote(&mut self, node: u64, vote: Vote) {
        let disk = self.disks.entry(node).or_default();
        if let Some(before) = disk.vote.filter(|before| *before > vote) {
            self.found.push((
                "monotonic",
                format!("the vote of n{node} went from {before:?} back to {vote:?}"),
            ));
        }
        disk.vote = Some(vote);
    }

    fn mark(&mut self, node: u64, mark: LogId) {
        let disk = self.disks.entry(node).or_default();
        if let Some(before) = disk.committed.filter(|before| before.index > mark.index) {
            self.found.push((
                "monotonic",
                format!("the commit mark of n{node} went from {before} back to {mark}"),
            ));
        }
        let first = disk.committed.replace(mark).map_or(0, |before| before.index + 1);
        // What stands before the mark on the same disk is committed with it.
        let entries = disk.entries.range(first.min(mark.index)..mark.index);
        let claimed: Vec<LogId> = entries.map(|(_, id)| *id).chain([mark]).collect();
        for id in claimed {
            match self.committed.get(&id.index) {
                Some(known) if *known != id => {
                    let what = format!("n{node} holds {id} for committed, but {known} is");
                    self.found.push(("state machine safety", what));
                }
                None if self.afterwards && self.known.contains_key(&id) => {
                    self.committed.insert(id.index, id);
                }
                _ => {}
            }
        }
    }

    /// What a disk holds for committed is on that disk already: a mark that comes before its entries stands for nothing, if they
    /// never come.
    fn reaches(&mut self, node: u64, mark: LogId) {
        let disk = self.disks.entry(node).or_default();
        let last = disk.entries.last_key_value().map(|(index, _)| *index);
        if last.max(disk.covered) < Some(mark.index) {
            let what =
                format!("n{node} holds {mark} for committed, and the last that its disk has is {last:?}");
            self.found.push(("state machine safety", what));
        }
    }

    fn purge(&mut self, node: u64, upto: LogId) {
        let disk = self.disks.entry(node).or_default();
        let first_time = disk
            .entries
            .first_key_value()
            .is_some_and(|(first, _)| *first <= upto.index);
        if first_time && disk.covered.is_none_or(|covered| covered < upto.index) {
            let what = format!("n{node} drops its log up to {upto}, and no snapshot on its disk covers that");
            self.found.push(("durability", what));
        }
        if first_time {
            *self.seen.entry("a log purged").or_default() += 1;
        }
        disk.covered = disk.covered.max(Some(upto.index));
        disk.entries = disk.entries.split_off(&(upto.index + 1));
    }

    fn append(&mut self, node: u64, id: LogId, payload: &Payload) {
        let disk = self.disks.entry(node).or_default();
        let before = disk.entries.last_key_value().map(|(_, id)| *id);
        match before {
            Some(last) if last.index + 1 != id.index => {
                self.found.push((
                    "log matching",
                    format!("on the disk of n{node}, {id} follows {last}"),
                ));
            }
            Some(last) if last.leader > id.leader => {
                self.found.push((
                    "log matching",
                    format!("on the disk of n{node}, {id} follows the younger {last}"),
                ));
            }
            _ => {}
        }
        disk.entries.insert(id.index, id);
        let membership = match payload {
            Payload::Membership(configs) => {
                self.memberships.insert(id, configs.clone());
                Some(id)
            }
            _ => before.and_then(|before| self.known.get(&before)?.membership),
        };
        match self.known.get_mut(&id) {
            None => {
                let payload = payload.clone();
                self.known.insert(
                    id,
                    Known {
                        payload,
                        before,
                        membership,
                    },
                );
            }
            Some(known) if known.payload != *payload => {
                self.found.push((
                    "log matching",
                    format!("n{node} holds another command as {id} than was there before"),
                ));
            }
            Some(known) if before.is_some() && known.before.is_some() && known.before != before => {
                let stands = known.before;
                self.found.push((
                    "log matching",
                    format!("before {id} stands {stands:?}, and on n{node} {before:?}"),
                ));
            }
            Some(known) => {
                known.before = known.before.or(before);
                known.membership = known.membership.or(membership);
            }
        }
        self.complete(node, id);
    }

    /// Whoever extends the log behind a newer leader has all that was committed under older ones.
    fn complete(&mut self, node: u64, id: LogId) {
        let Some((index, committed)) = self.committed.last_key_value().map(|(index, id)| (*index, *id))
        else {
            return;
        };
        if committed.leader >= id.leader {
            return;
        }
        let lacks = id.index <= index || !self.disks.get(&node).is_some_and(|disk| disk.holds(committed));
        if lacks {
            let what = format!("n{node} takes {id}, but of what was committed before it lacks {committed}");
            self.found.push(("leader completeness", what));
        }
    }

    fn truncate(&mut self, node: u64, last: Option<LogId>) {
        let disk = self.disks.entry(node).or_default();
        let gone = disk.entries.split_off(&last.map_or(0, |last| last.index + 1));
        let mark = disk.committed;
        // A disk that is read when all is over may have dropped what was committed only later. While things happen: whoever
        // is sent a snapshot that another leader committed without it first drops whatever it has beyond what it knows to be
        // committed, some of which may be, unknown to it. That others have it for certain is what makes it right.
        let needed = |index: u64, id: LogId| {
            let on = self.disks.iter().filter(|(_, disk)| disk.holds(id));
            let on: BTreeSet<u64> = on.map(|(holder, _)| *holder).collect();
            self.committed.get(&index) == Some(&id) && !self.is_backed(index, Some(id), &on)
        };
        let committed = |(index, id): &(&u64, &LogId)| {
            mark.is_some_and(|mark| **index <= mark.index) || !self.afterwards && needed(**index, **id)
        };
        if let Some((index, id)) = gone.iter().find(committed) {
            let what = format!("n{node} drops entry {index} ({id}), which is committed");
            self.found.push(("state machine safety", what));
        }
        let commands = gone
            .values()
            .filter(|id| {
                matches!(
                    self.known.get(id),
                    Some(Known {
                        payload: Payload::App(_),
                        ..
                    })
                )
            })
            .count();
        if commands > 0 {
            *self
                .seen
                .entry("a leader changed with a batch in flight")
                .or_default() += 1;
        }
        let disk = self.disks.entry(node).or_default();
        if disk.entries.last_key_value().map(|(_, id)| *id) != last
            && last.is_some()
            && !disk.entries.is_empty()
        {
            let what = format!("n{node} truncates behind {last:?}, which it does not have");
            self.found.push(("log matching", what));
        }
    }
}
