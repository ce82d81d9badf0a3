//! What goes wrong, and when: a schedule that a seed draws before the run begins, so that it can be read, told and
//! shrunk.

pub mod duration;
mod operations;
mod swarm;
pub mod words;

use std::collections::BTreeSet;
use std::fmt;

use crate::disk::Loss;
use crate::rng::{PerMillion, Rng};

/// One thing that happens to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These nodes can't talk to the rest, either way. Clients still reach everyone.
    Partition(BTreeSet<u64>),
    /// What the first sends never reaches the second; the other way works.
    OneWay(u64, u64),
    /// Whoever leads at that moment is cut off from all others.
    IsolateLeader,
    /// The disk of whoever leads at that moment stalls, its machine falls silent [`BLINK_MS`] later and loses all or
    /// some of what it has not synced meanwhile, and is back after so many milliseconds: before anyone has missed it, if they are few.
    BlinkLeader(u64),
    /// All but whoever leads at that moment pause for so many milliseconds: the leader has taken what it is asked, can't commit it, and
    /// may still lead when they go on.
    StallFollowers(u64),
    /// All cuts end.
    Heal,
    /// All connections between two nodes are reset.
    Reset(u64, u64),
    /// A process ends; see [`crate::host::Host::crash`].
    Crash {
        /// Whose.
        node: u64,
        /// The machine goes silent as well.
        silent: bool,
        /// What becomes of unsynced writes; without, the machine lives on.
        loss: Option<Loss>,
    },
    /// A process is started, if none runs.
    Start(u64),
    /// A process does nothing for so many milliseconds.
    Pause(u64, u64),
    /// The next sync of a node fails, and the node with it.
    FailSync(u64),
    /// The same for the next sync among one kind of files beside the log: snapshots, the archive, what was signed last.
    FailFileSync(u64),
    /// Syncs of a node are slow from here on, or healthy again.
    SlowDisk(u64, bool),
    /// A node's wall clock is set by so many milliseconds.
    Clock(u64, i64),
    /// Nothing passes between these two, either way.
    Cut(u64, u64),
    /// Each node reaches only its neighbours by number.
    Ring,
    /// Two halves, and this node between them: no one else reaches both.
    Bridge(u64),
    /// The way from the first to the second is so from here on.
    Link(u64, u64, Way),
    /// A process gets a tenth of its machine, or all of it again.
    SlowNode(u64, bool),
    /// Nothing more fits on a disk, or there is room again.
    FullDisk(u64, bool),
    /// A bit flips on the platter, somewhere in the log or a snapshot.
    Rot(u64),
    /// A sector of the log or a snapshot can't be read any more.
    Latent(u64),
    /// From here on some writes land in the wrong place of their file.
    Misdirect(u64),
    /// A finished file of a node's archive gets a flipped bit, is cut short, or is gone; one that two others have whole, if
    /// there is any. It must be fetched again. Such a node is excused from nothing, unless it halts for want of a file that no
    /// one has any more.
    DamageArchive(u64),
    /// A process is killed, and its disk replaced by an empty one.
    EmptyDisk(u64),
    /// A process is killed, and its disk replaced by a copy of another node's.
    WrongDisk(u64, u64),
    /// A process is asked to end, which hands over and writes down, and is started anew.
    Restart(u64),
    /// A process is killed and started anew as a build that speaks the next version of the peers' protocol, or as the
    /// current one again.
    NewerBuild(u64, bool),
    /// A new node is started, and an admin registers it: it gets the log, and no vote.
    Join(u64),
    /// An admin gives a node its vote.
    Promote(u64),
    /// An admin removes a node for good. Its process goes on and may not know.
    Remove(u64),
    /// An admin removes whoever leads at that moment.
    RemoveLeader,
    /// A node is given a new key file, and an admin registers the key: it signs with it from its next start on.
    RotateKey(u64),
    /// An admin has the leader hand over to a node.
    Transfer(u64),
    /// An admin has a node take a snapshot and drop the log that it covers.
    Snapshot(u64),
}

impl Fault {
    /// Whether it is an admin's order, which takes its way through the cluster; all else just happens.
    pub fn is_order(&self) -> bool {
        matches!(
            self,
            Fault::Join(_)
                | Fault::Promote(_)
                | Fault::Remove(_)
                | Fault::RemoveLeader
                | Fault::RotateKey(_)
                | Fault::Transfer(_)
                | Fault::Snapshot(_)
        )
    }
}

/// How long the disk of a leader stalls before [`Fault::BlinkLeader`] takes its machine: long enough for others to
/// commit what it has not synced, too short for a sync to end that began with it.
pub const BLINK_MS: u64 = 100;

/// How one direction of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As on a good local network.
    Good,
    /// Every segment takes 50 to 300 ms.
    Slow,
    /// A fifth of the segments is lost, and comes later.
    Lossy,
    /// Connections break in the middle of what is being sent.
    Breaking,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Partition(side) => write!(f, "partition: {} | the rest", list(side)),
            Fault::OneWay(from, to) => write!(f, "cut one way: n{from} > n{to}"),
            Fault::IsolateLeader => f.write_str("the leader is cut off"),
            Fault::BlinkLeader(ms) => write!(
                f,
                "the disk of the leader stalls; in {BLINK_MS} ms it loses power, and is back {ms} ms later"
            ),
            Fault::StallFollowers(ms) => write!(f, "all but the leader pause for {ms} ms"),
            Fault::Heal => f.write_str("all cuts heal"),
            Fault::Reset(a, b) => write!(f, "connections reset: n{a}, n{b}"),
            Fault::Crash { node, silent, loss } => {
                let how = if *silent { "loses power" } else { "is killed" };
                match loss {
                    Some(loss) => write!(f, "n{node} {how}; unsynced writes lost: {loss:?}"),
                    None => write!(f, "n{node} {how}; the page cache stays"),
                }
            }
            Fault::Start(node) => write!(f, "n{node} is started"),
            Fault::Pause(node, ms) => write!(f, "n{node} pauses for {ms} ms"),
            Fault::FailSync(node) => write!(f, "the next sync of n{node} will fail"),
            Fault::FailFileSync(node) => write!(
                f,
                "the next sync of one kind of files of n{node} beside its log will fail"
            ),
            Fault::SlowDisk(node, true) => write!(f, "the disk of n{node} becomes slow"),
            Fault::SlowDisk(node, false) => write!(f, "the disk of n{node} is well again"),
            Fault::Clock(node, ms) => write!(f, "the clock of n{node} jumps by {ms} ms"),
            Fault::Cut(a, b) => write!(f, "nothing passes between n{a} and n{b}"),
            Fault::Ring => f.write_str("each node reaches only its neighbours in a ring"),
            Fault::Bridge(node) => write!(f, "only n{node} reaches both halves"),
            Fault::Link(from, to, way) => write!(
                f,
                "the way n{from} > n{to} is {}",
                format!("{way:?}").to_lowercase()
            ),
            Fault::SlowNode(node, true) => write!(f, "n{node} becomes ten times slower"),
            Fault::SlowNode(node, false) => write!(f, "n{node} has its whole machine again"),
            Fault::FullDisk(node, true) => write!(f, "the disk of n{node} is full"),
            Fault::FullDisk(node, false) => write!(f, "there is room on the disk of n{node} again"),
            Fault::Rot(node) => write!(f, "a bit flips on the disk of n{node}"),
            Fault::Latent(node) => write!(f, "a sector on the disk of n{node} can't be read any more"),
            Fault::Misdirect(node) => write!(f, "the disk of n{node} writes to wrong places"),
            Fault::DamageArchive(node) => write!(f, "a file of the archive of n{node} is damaged"),
            Fault::EmptyDisk(node) => write!(f, "n{node} is killed and gets an empty disk"),
            Fault::WrongDisk(node, other) => {
                write!(f, "n{node} is killed and gets a copy of n{other}'s disk")
            }
            Fault::Restart(node) => write!(f, "n{node} is asked to end, and started anew"),
            Fault::NewerBuild(node, true) => write!(f, "n{node} is replaced by a newer build"),
            Fault::NewerBuild(node, false) => write!(f, "n{node} is replaced by the current build"),
            Fault::Join(node) => write!(f, "n{node} is started, and to join without a vote"),
            Fault::Promote(node) => write!(f, "n{node} is to be given a vote"),
            Fault::Remove(node) => write!(f, "n{node} is to be removed"),
            Fault::RemoveLeader => f.write_str("the leader is to be removed"),
            Fault::RotateKey(node) => write!(f, "n{node} gets a new key, which is to be registered"),
            Fault::Transfer(node) => write!(f, "n{node} is to lead"),
            Fault::Snapshot(node) => write!(f, "n{node} is to take a snapshot and drop its log"),
        }
    }
}

fn list(nodes: &BTreeSet<u64>) -> String {
    nodes
        .iter()
        .map(|n| format!("n{n}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// What happens when. Ends with everything healed and started.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In order of time, in milliseconds.
    pub steps: Vec<(u64, Fault)>,
    /// Nothing goes wrong from here on.
    pub quiet_from_ms: u64,
}

/// The nodes that join in these steps.
pub fn joiners(steps: &[(u64, Fault)]) -> BTreeSet<u64> {
    let joiners = steps.iter().filter_map(|(_, fault)| match fault {
        Fault::Join(node) => Some(*node),
        _ => None,
    });
    joiners.collect()
}

/// Which classes of faults a seed has, each with probability one half.
#[derive(Clone, Copy, Debug)]
struct Swarm {
    partitions: bool,
    one_way: bool,
    resets: bool,
    crashes: bool,
    all_at_once: bool,
    pauses: bool,
    sync_errors: bool,
    slow_disks: bool,
    clocks: bool,
}

impl Swarm {
    fn draw(rng: &mut Rng) -> Self {
        let mut half = || rng.chance(PerMillion::percent(50));
        Swarm {
            partitions: half(),
            one_way: half(),
            resets: half(),
            crashes: half(),
            all_at_once: half() && half() && half(),
            pauses: half(),
            sync_errors: half(),
            slow_disks: half(),
            clocks: half(),
        }
    }
}

impl Plan {
    /// All machines lose power at once, everything that was not synced with it, and come back a second later.
    pub fn blackout(nodes: u64, at_ms: u64, end_ms: u64) -> Self {
        let loss = Some(Loss::Everything);
        let crashes = (1..=nodes).map(|node| {
            (
                at_ms,
                Fault::Crash {
                    node,
                    silent: true,
                    loss,
                },
            )
        });
        let starts = (1..=nodes).map(|node| (at_ms + 1_000, Fault::Start(node)));
        Plan {
            steps: crashes.chain(starts).collect(),
            quiet_from_ms: end_ms.max(at_ms + 1_000),
        }
    }

    /// Draws a plan for nodes 1 to `nodes`, in which things go wrong from 3 s on until the end.
    ///
    /// Every plan has at least one partition that leaves a majority, heals, and one crash that loses unsynced
    /// writes: the rest comes from the swarm.
    pub fn draw(seed: u64, nodes: u64, end_ms: u64) -> Self {
        let rng = &mut Rng::fork(seed, "faults");
        let swarm = Swarm::draw(rng);
        let mut plan = Plan {
            steps: Vec::new(),
            quiet_from_ms: end_ms,
        };
        let start = 3_000.min(end_ms / 4);
        let span = start..=end_ms.saturating_sub(1).max(start);

        let cuts = if swarm.partitions {
            1 + (end_ms - start) / 10_000
        } else {
            1
        };
        for _ in 0..cuts {
            let at = rng.within(span.clone());
            plan.cut(rng, nodes, at, end_ms, swarm.one_way);
        }
        let crashes = if swarm.crashes {
            1 + (end_ms - start) / 12_000
        } else {
            1
        };
        for _ in 0..crashes {
            let at = rng.within(span.clone());
            let node = rng.within(1..=nodes);
            let down = rng.within(0..=10_000);
            plan.crash(rng, node, at, at + down, end_ms);
        }
        if swarm.all_at_once {
            let at = rng.within(span.clone());
            for node in 1..=nodes {
                let down = rng.within(0..=3_000);
                plan.crash(rng, node, at, at + down, end_ms);
            }
        }
        plan.small_faults(rng, swarm, nodes, span);
        swarm::more(&mut plan, seed, nodes, start, end_ms);
        plan.finish(nodes);
        plan
    }

    fn small_faults(&mut self, rng: &mut Rng, swarm: Swarm, nodes: u64, span: std::ops::RangeInclusive<u64>) {
        let some = (span.end() - span.start()) / 5_000 + 1;
        let node = |rng: &mut Rng| rng.within(1..=nodes);
        for _ in 0..some {
            let at = rng.within(span.clone());
            if swarm.resets {
                let (a, b) = (node(rng), node(rng));
                if a != b {
                    self.steps.push((at, Fault::Reset(a, b)));
                }
            }
            let at = rng.within(span.clone());
            if swarm.pauses {
                let longest = *rng.pick(&[1_000, 5_000, 20_000]);
                let ms = rng.within(100..=longest);
                self.steps
                    .push((at, Fault::Pause(node(rng), ms.min(span.end() - at))));
            }
            let at = rng.within(span.clone());
            if swarm.slow_disks {
                let node = node(rng);
                self.steps.push((at, Fault::SlowDisk(node, true)));
                self.steps
                    .push((rng.within(at..=*span.end()), Fault::SlowDisk(node, false)));
            }
            let at = rng.within(span.clone());
            if swarm.clocks {
                let ms = i64::try_from(rng.below(7_200_000)).unwrap_or(0) - 3_600_000;
                self.steps.push((at, Fault::Clock(node(rng), ms)));
            }
        }
        if swarm.sync_errors {
            for _ in 0..rng.within(1..=3) {
                let (node, at) = (node(rng), rng.within(span.clone()));
                let fault = match rng.below(2) {
                    0 => Fault::FailSync(node),
                    _ => Fault::FailFileSync(node),
                };
                self.steps.push((at, fault));
            }
        }
    }

    fn cut(&mut self, rng: &mut Rng, nodes: u64, at: u64, end_ms: u64, one_way: bool) {
        let fault = match rng.below(4) {
            0 if one_way => {
                let from = rng.within(1..=nodes);
                let to = 1 + (from - 1 + rng.within(1..=nodes.saturating_sub(1).max(1))) % nodes;
                Fault::OneWay(from, to)
            }
            1 => Fault::IsolateLeader,
            _ => {
                let mut ids: Vec<u64> = (1..=nodes).collect();
                rng.shuffle(&mut ids);
                ids.truncate(
                    usize::try_from(rng.within(1..=nodes.saturating_sub(1).max(1) / 2)).unwrap_or(1),
                );
                Fault::Partition(ids.into_iter().collect())
            }
        };
        self.steps.push((at, fault));
        self.steps
            .push(((at + rng.within(500..=20_000)).min(end_ms), Fault::Heal));
    }

    fn crash(&mut self, rng: &mut Rng, node: u64, at: u64, up: u64, end_ms: u64) {
        let loss = *rng.pick(&[None, Some(Loss::Everything), Some(Loss::Some), Some(Loss::Some)]);
        let silent = loss.is_some() && rng.chance(PerMillion::percent(50));
        self.steps.push((at, Fault::Crash { node, silent, loss }));
        self.steps.push((up.min(end_ms), Fault::Start(node)));
    }

    /// As [`Plan::draw`], with what admins do meanwhile: members come and go, leaders hand over, keys are replaced,
    /// processes restarted.
    pub fn draw_with_operations(seed: u64, nodes: u64, end_ms: u64) -> Self {
        let mut plan = Plan::draw(seed, nodes, end_ms);
        operations::more(&mut plan, seed, nodes, end_ms);
        plan.finish(nodes);
        plan
    }

    /// Adds a node that joins, is given its vote, and then a key that it does not use before it is started anew; not
    /// in every seed as far as that.
    pub fn add_joiner(&mut self, seed: u64, nodes: u64) {
        operations::joiner(self, seed, nodes);
        self.finish(nodes);
    }

    /// Nodes that are no founders.
    pub fn joiners(&self) -> BTreeSet<u64> {
        joiners(&self.steps)
    }

    /// An admin's orders, in order of time.
    pub fn orders(&self) -> Vec<(u64, Fault)> {
        let orders = self.steps.iter().filter(|(_, fault)| fault.is_order());
        orders.cloned().collect()
    }

    /// Nodes whose disk lost or changed what had been synced. Such a node must halt rather than serve it, and may
    /// never come back under its old name: nothing is asked of it when the faults are over.
    pub fn damaged(&self) -> BTreeSet<u64> {
        let damaged = self.steps.iter().filter_map(|(_, fault)| match fault {
            Fault::Rot(node)
            | Fault::Latent(node)
            | Fault::Misdirect(node)
            | Fault::EmptyDisk(node)
            | Fault::WrongDisk(node, _) => Some(*node),
            _ => None,
        });
        damaged.collect()
    }

    /// Nodes that may never come back: the [`Plan::damaged`], and those that halt because something in their archive is damaged
    /// that no one has any more. Of these everything is asked, unless it comes to that.
    pub fn at_risk(&self) -> BTreeSet<u64> {
        let archives = self.steps.iter().filter_map(|(_, fault)| match fault {
            Fault::DamageArchive(node) => Some(*node),
            _ => None,
        });
        archives.chain(self.damaged()).collect()
    }

    /// Puts the steps in order, and adds what makes everything well at the end; again and again does no harm.
    pub fn finish(&mut self, nodes: u64) {
        let end_ms = self.quiet_from_ms;
        self.steps.sort_by_key(|(at, _)| *at);
        let mut well = vec![Fault::Heal];
        for node in (1..=nodes).chain(self.joiners()) {
            well.extend([
                Fault::SlowNode(node, false),
                Fault::FullDisk(node, false),
                Fault::SlowDisk(node, false),
                Fault::NewerBuild(node, false),
            ]);
            // A key that came after the process had begun is not in use; a file that it had read before is not read again.
            let last = self.steps.iter().rev().find(|(_, fault)| match fault {
                Fault::RotateKey(of)
                | Fault::DamageArchive(of)
                | Fault::Restart(of)
                | Fault::Crash { node: of, .. } => *of == node,
                _ => false,
            });
            if matches!(last, Some((_, Fault::RotateKey(_) | Fault::DamageArchive(_)))) {
                well.push(Fault::Restart(node));
            }
            well.push(Fault::Start(node));
        }
        for fault in well {
            let step = (end_ms, fault);
            if !self.steps.contains(&step) {
                self.steps.push(step);
            }
        }
        self.steps.sort_by_key(|(at, _)| *at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_end_well_and_always_cut_and_crash() {
        let mut all_at_once = 0;
        for seed in 0..300 {
            let plan = Plan::draw(seed, 5, 30_000);
            assert!(plan.steps.is_sorted_by_key(|(at, _)| *at));
            assert!(
                plan.steps.iter().all(|(at, _)| *at <= plan.quiet_from_ms),
                "seed {seed}"
            );
            assert!(
                plan.steps
                    .iter()
                    .any(|(_, fault)| matches!(fault, Fault::Crash { .. }))
            );
            let mut cut = false;
            for (_, fault) in &plan.steps {
                if let Fault::Partition(side) = fault {
                    assert!(
                        (1..=2).contains(&side.len()),
                        "seed {seed}: no majority is left by {fault}"
                    );
                }
                cut |= matches!(
                    fault,
                    Fault::Partition(_) | Fault::OneWay(..) | Fault::IsolateLeader
                );
            }
            assert!(cut);
            let crashed_at: Vec<u64> = plan
                .steps
                .iter()
                .filter_map(|(at, fault)| matches!(fault, Fault::Crash { .. }).then_some(*at))
                .collect();
            all_at_once += usize::from(crashed_at.windows(5).any(|w| w[0] == w[4]));
        }
        assert!((10..100).contains(&all_at_once), "{all_at_once} of 300");
    }
}
