//! Watching a cluster from outside while it runs: what becomes durable on each disk, what each node shows. Everything that
//! a checker wants to know of a run beside the clients' [`History`] comes through here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::attestation::Attestations;
use super::isolation::Isolation;
use super::progress::{self, Stability};
use super::raft::{Found, Raft};
use super::recovery::{Recovery, View};
use super::replay::{self, Files, Snapshots};
use super::states::States;
use super::wal::{self, Platter, Record, Tail};
use super::{answers, coverage, once, soundness, upstream};
use crate::Violation;
use crate::history::{History, Outcome};
use crate::oracle::digest::Hash;
use crate::oracle::judge::{Judgement, Kind, Payload};
use crate::subject::Subject;

/// Complaints of one checker that are kept: a broken promise is often broken a thousand times.
const KEPT: usize = 5;

#[derive(Default)]
struct Disk {
    tail: Tail,
    version: Option<u64>,
    snapshots: BTreeSet<u64>,
}

/// A cluster as seen from outside.
#[derive(Default)]
pub struct Watch {
    /// It looks at what is left, and can't tell any more what came before what.
    afterwards: bool,
    excused: BTreeSet<u64>,
    /// Nodes whose ledgers compute wrongly.
    wrong: BTreeSet<u64>,
    /// Nodes that can't go on, as they should not.
    halted: BTreeSet<u64>,
    disks: BTreeMap<u64, Disk>,
    raft: Raft,
    attestations: Attestations,
    recovery: Recovery,
    states: States,
    /// When a majority was left in peace.
    pub stability: Stability,
    /// When nodes could not hear from one.
    pub isolation: Isolation,
    snapshots: Snapshots,
    /// Who votes by each node's snapshots.
    memberships: BTreeMap<(u64, u64), replay::Membership>,
    files: Files,
    violations: Vec<Violation>,
    seen: BTreeMap<&'static str, u64>,
}

/// What a running node shows of itself at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Glance {
    /// The term in which it takes itself for the leader.
    pub leads: Option<u64>,
    /// How far it has applied the log.
    pub applied: Option<u64>,
    /// The running digest of its ledger there.
    pub state: Option<Hash>,
    /// Which of its lives this is: a process that starts has applied nothing yet.
    pub life: u64,
}

/// What is known of a run once it is over.
pub struct Conclusion {
    /// What was found broken, in the order noticed.
    pub violations: Vec<Violation>,
    /// States that were reached, and how often.
    pub reached: BTreeMap<&'static str, u64>,
    /// How many entries of the log were replayed beside the oracle; none, if its beginning is not known.
    pub replayed: Option<u64>,
}

impl Watch {
    /// Nothing seen yet. Of the excused nodes, whose disks are damaged on purpose, nothing is asked. Of those whose ledgers
    /// compute wrongly on purpose neither states nor snapshots are looked at; all the more what they sign.
    pub fn new(excused: BTreeSet<u64>, wrong: BTreeSet<u64>) -> Self {
        Watch {
            wrong,
            raft: Raft::new(excused.clone()),
            attestations: Attestations::new(excused.clone()),
            excused,
            ..Watch::default()
        }
    }

    /// A cluster that nobody watched while it ran: its disks when all processes are gone, and what clients saw of it. What
    /// depends on the order of events can't be judged then; the rest can, and all that follows from the log if no node
    /// has purged its beginning.
    pub fn post_mortem<'a, S: Subject>(
        at_ms: u64,
        disks: impl IntoIterator<Item = (u64, &'a dyn Platter)>,
        history: &History,
    ) -> Conclusion {
        let mut watch = Watch {
            afterwards: true,
            raft: Raft::post_mortem(),
            ..Watch::default()
        };
        watch.look_at_disks(at_ms, disks.into_iter().map(|(node, platter)| (node, 0, platter)));
        for (node, shown) in &history.shown {
            let glance = Glance {
                applied: shown.status["applied"].as_u64(),
                ..Glance::default()
            };
            watch.look_at_node(at_ms, *node, &glance);
        }
        watch.raft.end();
        watch.collect(at_ms);
        watch.conclude::<S>(at_ms, history)
    }

    /// Whether anything was found broken so far.
    pub fn is_broken(&self) -> bool {
        !self.violations.is_empty()
    }

    /// What was found broken so far, in the order noticed.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How far the log is committed, as far as anyone has shown.
    pub fn committed_to(&self) -> Option<u64> {
        self.raft.committed_to()
    }

    /// What was durable in a node's archive, under this name, before it was damaged on purpose. A snapshot may refer to it all the
    /// same: the node is to fetch it again.
    pub fn was_durable(&mut self, node: u64, name: &str, content: Bytes) {
        self.files.insert((node, name.to_owned()), content);
    }

    /// A node needs what is damaged and what no one else has: it halts, rather than serve it, and is not asked to get well.
    pub fn halted(&mut self, node: u64) {
        self.halted.insert(node);
    }

    /// What is durable on the disks now; the version tells whether one may have changed since the last look.
    pub fn look_at_disks<'a>(
        &mut self,
        at_ms: u64,
        disks: impl IntoIterator<Item = (u64, u64, &'a dyn Platter)>,
    ) {
        let committed = if self.afterwards {
            Some(u64::MAX)
        } else {
            self.raft.backed_to()
        };
        let mut changed = Vec::new();
        for (node, version, platter) in disks {
            let disk = self.disks.entry(node).or_default();
            if !self.excused.contains(&node) && disk.version.replace(version) != Some(version) {
                changed.push((node, platter));
            }
        }
        // What nodes say they have signed comes first: it must be there before the signature is anywhere else.
        for (node, platter) in &changed {
            if let Some((index, header)) = wal::signed(*platter) {
                self.attestations.on_disk(*node, index, header, committed);
            }
        }
        for (node, platter) in changed {
            let disk = self.disks.entry(node).or_default();
            for index in wal::snapshots(platter).difference(&disk.snapshots.clone()) {
                // A name alone covers nothing: what it names must be durable too.
                let Some(snapshot) = wal::snapshot(platter, *index) else {
                    continue;
                };
                disk.snapshots.insert(*index);
                self.raft.snapshot(node, *index);
                // What it refers to is durable already: it must be here now.
                let finished = |name: &String| !name.ends_with(".draft");
                for name in platter.list("archive").into_iter().filter(finished) {
                    let file = self.files.entry((node, name));
                    if let Entry::Vacant(vacant) = file {
                        let content = platter.read(&format!("archive/{}", vacant.key().1), 0, usize::MAX);
                        vacant.insert(content.into());
                    }
                }
                self.memberships.insert((node, *index), snapshot.membership);
                if !self.wrong.contains(&node) {
                    keep(&mut self.snapshots, node, *index, snapshot.body);
                }
            }
            let news = disk.tail.news(platter);
            news.breaks.iter().for_each(|what| self.raft.broken(node, what));
            for record in &news.records {
                if let Record::Entry(_, Payload::App(bytes)) = record {
                    self.attestations.entry(bytes, committed);
                }
                self.raft.record(node, record);
            }
        }
        self.collect(at_ms);
    }

    /// What a running node shows of itself.
    pub fn look_at_node(&mut self, at_ms: u64, node: u64, glance: &Glance) {
        if self.excused.contains(&node) {
            return;
        }
        if let Some(term) = glance.leads {
            self.raft.leads(node, term);
        }
        if let Some(applied) = glance.applied {
            if self.raft.committed_to().is_none_or(|known| known < applied) {
                self.raft.applied(node, applied);
            }
            if !self.wrong.contains(&node) {
                let found = self.states.look(node, glance.life, applied, glance.state);
                self.note(at_ms, found);
            }
        }
        self.collect(at_ms);
    }

    /// All nodes, once faults have ended; `None` while they last, or while one of those that count doesn't run.
    pub fn look_at_all(&mut self, at_ms: u64, nodes: Option<&BTreeMap<u64, View>>) {
        let counting = nodes.map(|nodes| {
            nodes
                .iter()
                .filter(|(node, _)| {
                    ![&self.excused, &self.wrong, &self.halted]
                        .iter()
                        .any(|of| of.contains(node))
                })
                .map(|(node, view)| (*node, view.clone()))
                .collect()
        });
        let found = self.recovery.look(at_ms, counting.as_ref());
        self.note(at_ms, found);
    }

    /// Notes what a checker that is asked elsewhere has found.
    pub fn complain(&mut self, at_ms: u64, checker: &'static str, what: Option<String>) {
        self.note(at_ms, what.into_iter().map(|what| (checker, what)).collect());
    }

    /// Counts a state that was reached.
    pub fn count(&mut self, what: &'static str, times: u64) {
        *self.seen.entry(what).or_default() += times;
    }

    /// The run is over: everything that follows from the whole of the log.
    pub fn conclude<S: Subject>(mut self, at_ms: u64, history: &History) -> Conclusion {
        self.stability.end(at_ms);
        for (at_ms, what) in progress::check(history, &self.stability) {
            self.note(at_ms, vec![("majority progress", what)]);
        }
        for (at_ms, what) in std::mem::take(&mut self.isolation).check(at_ms, history) {
            self.note(at_ms, vec![("isolation", what)]);
        }
        for (state, times) in self.raft.seen().clone() {
            self.count(state, times);
        }
        let unanswered = history
            .operations
            .iter()
            .filter(|operation| operation.outcome == Outcome::Unknown)
            .count();
        self.count("a client gave up without an answer", unanswered as u64);
        // Without the log's beginning there is nothing to replay; that is for whoever runs this to arrange.
        let log = self.raft.committed_log().filter(|log| !log.is_empty());
        if let Some(log) = &log {
            self.replay::<S>(at_ms, history, log);
        }
        Conclusion {
            reached: coverage::of(&self.seen),
            violations: self.violations,
            replayed: log.map(|log| log.len() as u64),
        }
    }

    fn replay<S: Subject>(&mut self, at_ms: u64, history: &History, log: &BTreeMap<u64, Payload>) {
        let (judgement, differences) = replay::check::<S>(log, &self.snapshots, &self.files);
        self.note(
            at_ms,
            differences.into_iter().map(|what| ("replay", what)).collect(),
        );
        let found = replay::memberships(log, &self.memberships);
        self.note(at_ms, found.into_iter().map(|what| ("replay", what)).collect());
        self.note(at_ms, differing(&judgement));
        self.note(at_ms, self.attestations.check(&judgement.book));
        let covered = |node| self.disks.get(&node)?.snapshots.last().copied();
        let idle = self.attestations.idle(history, covered);
        self.note(at_ms, idle);
        let found = self.states.check(&judgement.states);
        self.note(at_ms, found);
        let found = upstream::check(&judgement.book);
        self.note(at_ms, found.into_iter().map(|what| ("upstream", what)).collect());
        self.note(
            at_ms,
            replay::shown(history, &judgement)
                .into_iter()
                .map(|what| ("replay", what))
                .collect(),
        );
        let found = answers::check(history, &judgement.book);
        self.note(at_ms, found.into_iter().map(|what| ("answers", what)).collect());
        self.note(
            at_ms,
            soundness::check(history, &judgement.book)
                .into_iter()
                .map(|what| ("certificate soundness", what))
                .collect(),
        );
        for (at_ms, checker, what) in once::check(history, &judgement) {
            self.note(at_ms, vec![(checker, what)]);
        }
        for (state, times) in &judgement.seen {
            self.count(state, *times);
        }
    }

    fn collect(&mut self, at_ms: u64) {
        let found = self.raft.take_found();
        self.note(at_ms, found);
        let found = self.attestations.take_found();
        self.note(at_ms, found);
    }

    fn note(&mut self, at_ms: u64, found: Vec<Found>) {
        for (checker, what) in found {
            if self
                .violations
                .iter()
                .filter(|violation| violation.checker == checker)
                .count()
                < KEPT
            {
                self.violations.push(Violation { at_ms, checker, what });
            }
        }
    }
}

/// Keeps a snapshot, once for all nodes that have the same.
fn keep(snapshots: &mut Snapshots, node: u64, index: u64, body: Bytes) {
    let of = snapshots.entry(index).or_default();
    let same = of
        .iter()
        .find(|(_, known)| *known == body)
        .map(|(_, known)| known.clone());
    of.push((node, same.unwrap_or(body)));
}

fn differing<S>(judgement: &Judgement<S>) -> Vec<Found> {
    let checker = |kind| match kind {
        Kind::Result => "oracle",
        Kind::Authority => "authority",
        Kind::Once => "exactly once",
        Kind::Certificate => "certificate soundness",
    };
    judgement
        .differences
        .iter()
        .map(|d| (checker(d.kind), format!("at {}: {}", d.index, d.what)))
        .collect()
}
