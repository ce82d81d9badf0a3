//! What the checkers are shown of a simulated cluster: its disks whenever they change, its nodes every millisecond.

use std::collections::{BTreeMap, BTreeSet};

use checkers::Violation;
use checkers::failstop::{Damaged, FailStop};
use checkers::history::History;
use checkers::recovery::View;
use checkers::wal::Platter;
use checkers::watch::{Conclusion, Glance, Watch};
use gridseal::gateway::Backend as _;

use crate::cluster::Shared;
use crate::host::Host;
use crate::product::Product;
use crate::trace;
use crate::world::World;

/// How often what costs more than a glance is looked at, in milliseconds.
const CLOSELY_MS: u64 = 10;

/// Looks at a world on behalf of a [`Watch`].
pub struct Observer {
    /// What it has seen.
    pub watch: Watch,
    seen: Shared,
    next_ms: u64,
    fail_stop: FailStop,
    damaged: Damaged,
    excused: BTreeSet<u64>,
    /// How many complaints stand in the trace.
    told: usize,
}

impl Observer {
    /// One that has seen nothing yet; see [`Watch::new`].
    pub fn new(excused: BTreeSet<u64>, seen: Shared) -> Self {
        Observer {
            watch: Watch::new(excused.clone()),
            seen,
            next_ms: 0,
            fail_stop: FailStop::default(),
            damaged: Damaged::default(),
            excused,
            told: 0,
        }
    }

    /// Looks at everything that may have changed.
    pub fn look(&mut self, world: &World) {
        let now = world.now_ms();
        let disks = world.nodes().iter().map(|host| {
            (
                host.id(),
                host.disk().durable_version(),
                host.disk() as &dyn Platter,
            )
        });
        self.watch.look_at_disks(now, disks);
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
        let seen = self.seen.lock();
        let running = || world.nodes().iter().filter(|host| host.is_running());
        for host in running() {
            let Some(gateway) = seen.gateway(host.id()) else {
                continue;
            };
            let (applied, state) = {
                let ledger = gateway.ledger().read();
                (ledger.applied(), ledger.state().0)
            };
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
            }
        }
        if closely {
            self.watch.stability.look(now, majority(world).as_deref());
            let quiet = now >= world.quiet_from_ms() && running().count() == world.nodes().len();
            let views = quiet.then(|| {
                running()
                    .filter_map(|host| Some((host.id(), view(seen.gateway(host.id())?))))
                    .collect()
            });
            let complete = views.filter(|views: &BTreeMap<u64, View>| views.len() == world.nodes().len());
            // Only members are asked to get well: a node outside follows nobody.
            let complete = complete.map(|mut views| {
                let newest = views
                    .iter()
                    .max_by_key(|(_, view)| view.term)
                    .map(|(node, _)| *node);
                let status = newest
                    .and_then(|node| seen.gateway(node))
                    .map(|gateway| gateway.status());
                let members = status.map(|status| [status.voters, status.learners].concat());
                views.retain(|node, _| members.as_ref().is_some_and(|members| members.contains(node)));
                views
            });
            self.watch.look_at_all(now, complete.as_ref());
        }
        self.tell(self.watch.violations());
        self.told = self.watch.violations().len();
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

/// The largest set of nodes that all run and can talk to each other, if it is a majority; of several the first.
fn majority(world: &World) -> Option<Vec<u64>> {
    let now = world.now_ms();
    let nodes = world.nodes();
    let awake: Vec<&Host> = nodes.iter().filter(|host| host.is_awake(now)).collect();
    let connected =
        |a: &Host, b: &Host| !world.net().is_cut(a.ip(), b.ip()) && !world.net().is_cut(b.ip(), a.ip());
    let sets = (0_u32..1 << awake.len()).map(|set| -> Vec<&Host> {
        awake
            .iter()
            .enumerate()
            .filter(|(i, _)| set & (1 << i) != 0)
            .map(|(_, host)| *host)
            .collect()
    });
    let large = sets.filter(|set| 2 * set.len() > nodes.len());
    let mut cliques: Vec<Vec<u64>> = large
        .filter(|set| {
            set.iter()
                .enumerate()
                .all(|(i, a)| set[i + 1..].iter().all(|b| connected(a, b)))
        })
        .map(|set| set.iter().map(|host| host.id()).collect())
        .collect();
    cliques.sort_by_key(|clique| (std::cmp::Reverse(clique.len()), clique.clone()));
    cliques.into_iter().next()
}
