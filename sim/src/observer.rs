//! What the checkers are shown of a simulated cluster: its disks whenever they change, its nodes every millisecond.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use checkers::Violation;
use checkers::archive;
use checkers::failstop::{self, Damaged, FailStop};
use checkers::forgotten::Forgotten;
use checkers::history::History;
use checkers::oracle::digest::Hash;
use checkers::progress::{self, Leading, Pace};
use checkers::recovery::View;
use checkers::upkeep::{self, Upkeep};
use checkers::wal::Platter;
use checkers::watch::{Conclusion, Glance, Watch};
use gridseal::api::backend::NodeStatus;
use gridseal::archive::ArchiveStatus;
use gridseal::gateway::Backend as _;
use ledger::frozen::FreezePolicy;

use crate::clock::EPOCH_MS;
use crate::cluster::{Seen, Shared};
use crate::host::{self, Host, SPINS};
use crate::product::Product;
use crate::trace;
use crate::workload::roster;
use crate::world::World;

/// How long Raft may take to get where the ledger wants it once faults and orders are over, in milliseconds.
const SETTLED_WITHIN_MS: u64 = 15_000;
/// How often what costs more than a glance is looked at, in milliseconds.
const CLOSELY_MS: u64 = 10;
/// How often disks are looked through for what should have gone, in milliseconds.
const UPKEEP_MS: u64 = 1_000;

/// Looks at a world on behalf of a [`Watch`].
pub struct Observer {
    /// What it has seen.
    pub watch: Watch,
    seen: Shared,
    next_ms: u64,
    next_upkeep_ms: u64,
    upkeep: Upkeep,
    forgotten: Forgotten,
    pace: Pace,
    fail_stop: FailStop,
    damaged: Damaged,
    excused: BTreeSet<u64>,
    /// Nodes whose ledgers compute wrongly.
    wrong: BTreeSet<u64>,
    /// How many complaints stand in the trace.
    told: usize,
    roster: roster::Shared,
    /// Who votes, as was last seen.
    configs: Vec<BTreeSet<u64>>,
    /// Who ran and could be heard by whom, at the last look.
    reach: Reach,
    /// Since when faults and orders are over and the membership is still not what admins said.
    unsettled_ms: Option<u64>,
    /// Stops of processes that were looked at.
    stops: usize,
    /// What the nodes' archives had at the last look.
    archives: BTreeMap<u64, ArchiveStatus>,
    /// Damages to archives that were looked at.
    marred: usize,
}

impl Observer {
    /// One that has seen nothing yet; see [`Watch::new`].
    pub fn new(excused: BTreeSet<u64>, wrong: BTreeSet<u64>, seen: Shared, roster: roster::Shared) -> Self {
        Observer {
            watch: Watch::new(excused.clone(), wrong.clone()),
            seen,
            next_ms: 0,
            next_upkeep_ms: UPKEEP_MS,
            upkeep: Upkeep::default(),
            forgotten: Forgotten::default(),
            pace: Pace::default(),
            fail_stop: FailStop::default(),
            damaged: Damaged::default(),
            excused,
            wrong,
            told: 0,
            roster,
            configs: Vec::new(),
            reach: Reach::default(),
            unsettled_ms: None,
            stops: 0,
            archives: BTreeMap::new(),
            marred: 0,
        }
    }

    /// Looks at everything that may have changed.
    pub fn look(&mut self, world: &World) {
        let now = world.now_ms();
        for marred in &world.marred()[self.marred..] {
            let (node, name) = (marred.node, marred.name.as_str());
            self.watch.was_durable(node, name, marred.content.clone());
            // A copy of its disk lacks the file as well.
            for of in self.excused.iter().chain([&node]) {
                self.upkeep.taken(*of, name);
            }
        }
        self.marred = world.marred().len();
        let disks = world.nodes().iter().map(|host| {
            (
                host.id(),
                host.disk().durable_version(),
                host.disk() as &dyn Platter,
            )
        });
        self.watch.look_at_disks(now, disks);
        for stop in &world.stops()[self.stops..] {
            let node = stop.node;
            if let Some(name) = archive::wanting(&stop.why)
                && self.is_nowhere(world, node, name)
            {
                self.roster.lock().halted.insert(node);
                self.watch.halted(node);
            }
            if stop.why.starts_with(SPINS) {
                let what = format!("n{node} {}", stop.why);
                self.watch.complain(stop.at_ms, "liveness", Some(what));
            } else if !self.excused.contains(&node) {
                let found = failstop::stopped(node, stop.felt_disk, &stop.why);
                self.watch.complain(stop.at_ms, "fail-stop", found);
            }
        }
        self.stops = world.stops().len();
        let closely = now >= self.next_ms;
        if closely {
            self.next_ms = now + CLOSELY_MS;
        }
        if closely {
            for host in world.nodes().iter().filter(|host| host.is_running()) {
                let found =
                    self.fail_stop
                        .look(now, host.id(), host.disk().sync_failed(), host.is_awake(now));
                self.watch.complain(now, "fail-stop", found);
                if self.excused.contains(&host.id()) {
                    self.watch
                        .complain(now, "fail-stop", self.damaged.look(host.id(), host.disk()));
                }
            }
        }
        if now >= self.next_upkeep_ms {
            self.next_upkeep_ms = now + UPKEEP_MS;
            for host in world.nodes() {
                let found = self.upkeep.look(host.id(), host.disk());
                self.watch.complain(now, "upkeep", found);
            }
        }
        let shared = std::sync::Arc::clone(&self.seen);
        let seen = shared.lock();
        for host in world.nodes().iter().filter(|host| host.is_running()) {
            let Some(gateway) = seen.gateway(host.id()) else {
                continue;
            };
            let (applied, state, time) = {
                let ledger = gateway.ledger().read();
                (ledger.applied(), ledger.state().0, ledger.now())
            };
            let passed = time.get().saturating_sub(EPOCH_MS);
            self.watch
                .complain(now, "time", progress::too_fast(host.id(), passed, now));
            if closely {
                // Who sleeps can't tell anyone.
                let waiting = match host.is_awake(now) {
                    true => gateway.waiting(),
                    false => Vec::new(),
                };
                let found = self
                    .forgotten
                    .look(now, host.id(), seen.life(host.id()), &waiting);
                self.watch.complain(now, "liveness", found);
            }
            let news = applied > self.watch.committed_to();
            if news || closely {
                let status = gateway.status();
                let glance = Glance {
                    leads: (status.leader == Some(host.id())).then_some(status.term),
                    applied,
                    state: Some(state),
                    life: seen.life(host.id()),
                };
                self.watch.look_at_node(now, host.id(), &glance);
                self.look_at_archive(host.id(), gateway.archive());
            }
        }
        if closely {
            self.look_at_all(world, &seen);
            let leading = self.leading(world, &seen);
            let found = self.pace.look(now, leading);
            self.watch.complain(now, "time", found);
        }
        let reach = Reach::of(world);
        if reach != self.reach {
            let isolated = reach.isolated(world, &self.configs);
            self.watch.isolation.look(now, &isolated);
            self.reach = reach;
        }
        self.tell(self.watch.violations());
        self.told = self.watch.violations().len();
    }

    /// Looks at the disks of members that are well: they were told to tidy up, and are idle since.
    pub fn look_at_rest(&mut self, world: &World, keep_entries: u64, policy: &FreezePolicy) {
        let now = world.now_ms();
        let members = self.roster.lock().members.clone();
        let halted = self.roster.lock().halted.clone();
        let is_well =
            |node: &u64| !self.excused.contains(node) && !self.wrong.contains(node) && !halted.contains(node);
        let well: BTreeSet<u64> = members.into_iter().filter(is_well).collect();
        for host in world.nodes().iter().filter(|host| well.contains(&host.id())) {
            let Some(gateway) = self.seen.lock().gateway(host.id()).cloned() else {
                continue;
            };
            let ledger = gateway.ledger().read();
            let noted: BTreeMap<String, Hash> = ledger
                .files()
                .map(|file| (file.name.clone(), file.digest.0))
                .collect();
            let stays = ledger.freezable(policy);
            drop(ledger);
            if let Some(epoch) = stays {
                let what = format!(
                    "n{} keeps epoch {epoch} in memory, which should have been archived",
                    host.id()
                );
                self.watch.complain(now, "upkeep", Some(what));
            }
            for what in archive::at_rest(host.id(), host.disk(), &noted) {
                self.watch.complain(now, "archive", Some(what));
            }
            let needed = noted.into_keys().collect();
            let files = host.disk().files();
            let archived = files.iter().filter_map(|(path, _)| path.strip_prefix("archive/"));
            let shown: Vec<String> = archived.map(str::to_owned).collect();
            for what in upkeep::at_rest(host.id(), host.disk(), keep_entries, &shown, &needed) {
                self.watch.complain(now, "upkeep", Some(what));
            }
        }
    }

    /// Whether a file of a node's archive was damaged that no other has as it was: it can't be mended.
    fn is_nowhere(&self, world: &World, node: u64, name: &str) -> bool {
        let damage = world
            .marred()
            .iter()
            .find(|marred| (marred.node, &*marred.name) == (node, name));
        let Some(damage) = damage else { return false };
        let path = format!("archive/{name}");
        let left = self.roster.lock().left.clone();
        let gives = |id: u64| id != node && !self.excused.contains(&id) && !left.contains(&id);
        let mut others = world.nodes().iter().filter(|host| gives(host.id()));
        !others.any(|host| host.disk().settled(&path).as_ref() == Some(&damage.content))
    }

    /// Counts what an archive did since the last look.
    fn look_at_archive(&mut self, node: u64, now: ArchiveStatus) {
        let before = self.archives.insert(node, now).unwrap_or_default();
        for (state, now, before) in [
            ("an epoch archived", now.epochs, before.epochs),
            ("an archived epoch read", now.loads, before.loads),
            ("an archived epoch thawed", now.thaws, before.thaws),
            ("entries waited for the archive", now.waits, before.waits),
            ("a damaged archive file fetched again", now.mended, before.mended),
        ] {
            self.watch.count(state, now.saturating_sub(before));
        }
    }

    /// The run is over; see [`Watch::conclude`].
    pub fn conclude(mut self, at_ms: u64, history: &History) -> Conclusion {
        let watch = std::mem::take(&mut self.watch);
        let conclusion = watch.conclude::<Product>(at_ms, history);
        self.tell(&conclusion.violations);
        conclusion
    }

    /// Complaints stand in the trace where they are made.
    fn tell(&self, violations: &[Violation]) {
        for Violation { checker, what, .. } in violations.iter().skip(self.told) {
            trace::record(format_args!("VIOLATION {checker}: {what}"));
        }
    }

    fn look_at_all(&mut self, world: &World, seen: &Seen) {
        let now = world.now_ms();
        let running = || world.nodes().iter().filter(|host| host.is_running());
        let gateways = || running().filter_map(|host| seen.gateway(host.id()));
        // Whoever knows most knows who the members are; one that was removed learns no more.
        let (newest, status) = gateways()
            .map(|gateway| (Some(gateway), gateway.status()))
            .max_by_key(|(_, status)| (status.term, status.leader == Some(status.node), status.applied))
            .unwrap_or_default();
        if status.configs != self.configs {
            // Another majority counts from here on.
            self.watch.stability.end(now);
            self.watch.isolation.forget();
            self.reach = Reach::default();
            self.configs.clone_from(&status.configs);
        }
        let majority = majority(world, &self.configs);
        self.watch.stability.look(now, majority.as_deref());
        self.count_strays(seen, &status, running().map(Host::id));
        for host in running().filter(|host| host.is_newer()) {
            let applied = seen
                .gateway(host.id())
                .map(|gateway| gateway.ledger().read().applied());
            if applied.is_some_and(|applied| applied < self.watch.committed_to()) {
                self.watch.count("a newer build that gets nothing of the log", 1);
            }
        }

        let quiet = now >= world.quiet_from_ms()
            && self.roster.lock().open == 0
            && gateways().count() == world.nodes().len();
        let settled = newest.is_some_and(|gateway| is_settled(gateway, &status));
        let complete = (quiet && settled).then(|| {
            let members = [&status.voters[..], &status.learners[..]].concat();
            gateways()
                .map(|gateway| (gateway.status().node, view(gateway)))
                // Only members are asked to get well: a node outside follows nobody.
                .filter(|(node, _)| members.contains(node))
                .collect()
        });
        self.watch.look_at_all(now, complete.as_ref());
        if !quiet || settled {
            self.unsettled_ms = None;
        } else if now > *self.unsettled_ms.get_or_insert(now) + SETTLED_WITHIN_MS {
            let what = format!(
                "{SETTLED_WITHIN_MS} ms after the faults and orders, with all nodes up, the membership is {:?} and learners {:?}",
                status.configs, status.learners
            );
            self.unsettled_ms = Some(u64::MAX - SETTLED_WITHIN_MS);
            self.watch.complain(now, "recovery", Some(what));
        }
    }

    /// Whoever leads a majority that runs and can talk to each other, and computes rightly.
    fn leading(&self, world: &World, seen: &Seen) -> Option<Leading> {
        let node = seen.leader()?;
        let host = world.nodes().iter().find(|host| host.id() == node)?;
        let gateway = seen.gateway(node)?;
        let status = gateway.status();
        let in_peace = self.watch.stability.majority().contains(&node) && !self.wrong.contains(&node);
        if status.leader != Some(node) || !status.alarms.is_empty() || !in_peace {
            return None;
        }
        let ledger = gateway.ledger().read();
        Some(Leading {
            node,
            term: status.term,
            clock_ms: host.clock().now_ms().saturating_sub(EPOCH_MS),
            ledger_ms: ledger.now().get().saturating_sub(EPOCH_MS),
            state: ledger.state().0,
        })
    }

    /// Counts nodes that were removed and don't know it: they ask for votes, in vain.
    fn count_strays(&mut self, seen: &Seen, status: &NodeStatus, running: impl Iterator<Item = u64>) {
        let left = self.roster.lock().left.clone();
        for node in running.filter(|node| left.contains(node) && !status.voters.contains(node)) {
            let stray = seen.gateway(node).map(|gateway| gateway.status());
            if stray.is_some_and(|stray| stray.voters.contains(&node)) {
                self.watch.count("a removed node which thinks that it votes", 1);
            }
        }
    }
}

/// Which nodes run, and which links are cut: who can be heard by whom changes only with it.
#[derive(Default, PartialEq, Eq)]
struct Reach {
    awake: Vec<u64>,
    cuts_version: u64,
}

impl Reach {
    fn of(world: &World) -> Self {
        let now = world.now_ms();
        let awake = world.nodes().iter().filter(|host| host.is_awake(now));
        Reach {
            awake: awake.map(Host::id).collect(),
            cuts_version: world.net().cuts_version(),
        }
    }

    /// The nodes that can't hear from a majority, not even over others.
    fn isolated(&self, world: &World, configs: &[BTreeSet<u64>]) -> BTreeSet<u64> {
        let connected = connected(world);
        let mut isolated: BTreeSet<u64> = world.nodes().iter().map(Host::id).collect();
        for node in &self.awake {
            let mut heard = BTreeSet::from([*node]);
            let mut news = vec![*node];
            while let Some(from) = news.pop() {
                let next = self.awake.iter().filter(|to| connected(from, **to));
                news.extend(next.filter(|to| heard.insert(**to)));
            }
            let is_majority = |config: &BTreeSet<u64>| 2 * config.intersection(&heard).count() > config.len();
            if configs.is_empty() || configs.iter().any(is_majority) {
                isolated.remove(node);
            }
        }
        isolated
    }
}

/// Whether two nodes can talk to each other.
fn connected(world: &World) -> impl Fn(u64, u64) -> bool {
    let cuts = world.net().cuts();
    move |a, b| {
        let (a, b) = (host::ip(a), host::ip(b));
        !cuts.contains(&(a, b)) && !cuts.contains(&(b, a))
    }
}

/// Whether Raft's membership is what the ledger wants.
fn is_settled(gateway: &gridseal::gateway::Gateway, status: &NodeStatus) -> bool {
    let ledger = gateway.ledger().read();
    let wanted = ledger.members();
    let is_member = |node: &u64| status.voters.contains(node) || status.learners.contains(node);
    status.configs == [wanted.voters.clone()]
        && wanted.joined.keys().all(is_member)
        && !wanted.removed.iter().any(is_member)
}

fn view(gateway: &gridseal::gateway::Gateway) -> View {
    let status = gateway.status();
    let ledger = gateway.ledger().read();
    View {
        term: status.term,
        leader: status.leader,
        applied: ledger.applied(),
        state: ledger.state().0,
        newest_block: ledger.head().map(|block| block.header.index),
        certified: ledger.certified(),
    }
}

/// The largest set of voters that all run and can talk to each other, if it is a majority of every configuration; of
/// several the first.
fn majority(world: &World, configs: &[BTreeSet<u64>]) -> Option<Vec<u64>> {
    let now = world.now_ms();
    let awake = world.nodes().iter().filter(|host| host.is_awake(now));
    let awake: Vec<u64> = awake.map(Host::id).collect();
    largest_majority(&awake, connected(world), configs)
}

/// The same of these nodes, in order. Which is nearly always all of them, so large sets come first.
fn largest_majority(
    awake: &[u64],
    connected: impl Fn(u64, u64) -> bool,
    configs: &[BTreeSet<u64>],
) -> Option<Vec<u64>> {
    let is_voter = |node: &u64| configs.iter().any(|config| config.contains(node));
    let voters: Vec<u64> = awake.iter().copied().filter(is_voter).collect();
    let is_large = |nodes: &[u64]| {
        let of = |config: &BTreeSet<u64>| nodes.iter().filter(|node| config.contains(node)).count();
        !configs.is_empty() && configs.iter().all(|config| 2 * of(config) > config.len())
    };
    let is_clique = |nodes: &[u64]| {
        let mut pairs = nodes
            .iter()
            .enumerate()
            .flat_map(|(i, a)| nodes[i + 1..].iter().map(move |b| (*a, *b)));
        pairs.all(|(a, b)| connected(a, b))
    };
    // Of equally many the one with the smaller numbers, which have the lower bits.
    let mut sets: Vec<u32> = (0..1 << voters.len()).collect();
    sets.sort_by_key(|set| (Reverse(set.count_ones()), Reverse(set.reverse_bits())));
    let chosen = |set: u32| -> Vec<u64> {
        let places = (0..voters.len()).filter(|place| set & (1 << place) != 0);
        places.map(|place| voters[place]).collect()
    };
    sets.into_iter()
        .map(chosen)
        .find(|nodes| is_large(nodes) && is_clique(nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_majority_that_can_talk_is_found_and_of_several_the_first() {
        let found = |awake: &[u64], cuts: &[(u64, u64)], configs: &[&[u64]]| {
            let configs: Vec<BTreeSet<u64>> = configs
                .iter()
                .map(|config| config.iter().copied().collect())
                .collect();
            let cut = |a, b| cuts.contains(&(a, b)) || cuts.contains(&(b, a));
            largest_majority(awake, |a, b| !cut(a, b), &configs)
        };
        let five: &[&[u64]] = &[&[1, 2, 3, 4, 5]];
        assert_eq!(found(&[1, 2, 3, 4, 5], &[], five), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(
            found(&[1, 3, 5, 6], &[], five),
            Some(vec![1, 3, 5]),
            "n6 has no vote"
        );
        assert_eq!(found(&[1, 2], &[], five), None);
        assert_eq!(found(&[1, 2], &[], &[&[1, 2, 3, 4]]), None, "half");
        assert_eq!(found(&[1, 2, 3], &[(1, 3)], five), None);
        assert_eq!(found(&[1, 2, 3, 4, 5], &[], &[]), None, "nobody votes");
        // Without n5 or without n4.
        assert_eq!(found(&[1, 2, 3, 4, 5], &[(4, 5)], five), Some(vec![1, 2, 3, 4]));
        assert_eq!(found(&[1, 2, 3, 4, 5], &[(5, 1)], five), Some(vec![1, 2, 3, 4]));
        let cuts = [(1, 2), (1, 3), (4, 1)];
        assert_eq!(found(&[1, 2, 3, 4, 5], &cuts, five), Some(vec![2, 3, 4, 5]));
        // A majority of each, while they change.
        let joint: &[&[u64]] = &[&[1, 2, 3], &[3, 4, 5]];
        assert_eq!(found(&[1, 2, 4], &[], joint), None);
        assert_eq!(found(&[2, 3, 4], &[], joint), Some(vec![2, 3, 4]));
    }
}
