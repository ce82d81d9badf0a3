//! The loop: time moves a millisecond, faults strike, the network delivers, every machine runs.

mod strike;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;

use crate::clock::{Time, WallClock};
use crate::disk::{DiskFaults, Loss};
use crate::faults::{Fault, Plan};
use crate::host::{Host, Program, ip};
use crate::network::{SimNet, draw_quality};
use crate::rng::{PerMillion, Rng};
use crate::timeline::{self, What};
use crate::trace::{self, Who};
use crate::watchdog;

/// How long a process that is asked to end may take before it is killed, in milliseconds.
const ENDS_WITHIN_MS: u64 = 10_000;

/// The number of the clients' machine, out of the way of nodes.
pub const CLIENTS: u64 = 200;

/// A cluster, its clients and what happens to them.
pub struct World {
    /// Nodes that get a tenth of their machine.
    slow: BTreeSet<u64>,
    time: Time,
    net: SimNet,
    nodes: Vec<Host>,
    clients: Option<Host>,
    plan: std::iter::Peekable<std::vec::IntoIter<(u64, Fault)>>,
    quiet_from_ms: u64,
    leader: Rc<dyn Fn() -> Option<u64>>,
    restart: Rng,
    /// What follows from what has struck, and when; not in order.
    later: Vec<(u64, Fault)>,
    /// Nodes that were asked to end, and until when they may take.
    ending: BTreeMap<u64, u64>,
    ended: u64,
    new_key: Rc<dyn Fn(u64)>,
    story: Vec<(u64, String)>,
    stops: Vec<Stop>,
    /// Decides which files of archives are damaged, and how.
    archives: Rng,
    /// Nodes that are beyond repair, or may come to be.
    unsound: BTreeSet<u64>,
    marred: Vec<Marred>,
}

/// A file of an archive that was whole and was damaged on purpose.
#[derive(Clone, Debug)]
pub struct Marred {
    /// On whose disk.
    pub node: u64,
    /// Its name in the archive.
    pub name: String,
    /// What was in it.
    pub content: Bytes,
}

/// A process that stopped by itself.
#[derive(Clone, Debug)]
pub struct Stop {
    /// When.
    pub at_ms: u64,
    /// Of which node.
    pub node: u64,
    /// What it said.
    pub why: String,
    /// Whether its disk had refused it something.
    pub felt_disk: bool,
}

/// How to build a world.
pub struct Setup {
    /// Decides everything.
    pub seed: u64,
    /// How many founders, numbered from 1. Nodes that join, by the plan, have numbers of their own.
    pub nodes: u64,
    /// What a node runs.
    pub node: Program,
    /// What the clients run, if there are any.
    pub clients: Option<Program>,
    /// Who leads, as far as can be seen from outside: for faults aimed at the leader.
    pub leader: Rc<dyn Fn() -> Option<u64>>,
    /// Gives a node a new key file.
    pub new_key: Rc<dyn Fn(u64)>,
    /// What goes wrong.
    pub plan: Plan,
    /// Whether links and clocks are as the seed draws them; else perfect.
    pub rough: bool,
}

impl World {
    /// A world at time 0, all nodes and clients just started.
    ///
    /// # Errors
    /// The operating system gives no runtime.
    pub fn new(setup: Setup) -> io::Result<World> {
        let Setup {
            seed,
            nodes,
            node,
            clients,
            leader,
            new_key,
            plan,
            rough,
        } = setup;
        let founders = 1..=nodes;
        let ids: Vec<u64> = founders.clone().chain(plan.joiners()).collect();
        align_task_ids()?;
        let time = Time::default();
        let net = SimNet::new(Rng::fork(seed, "network"));
        let rng = &mut Rng::fork(seed, "world");
        let host =
            |who, id, clock, program| Host::new(seed, who, id, net.clone(), time.clone(), clock, program);
        let mut world = World {
            slow: BTreeSet::new(),
            nodes: Vec::new(),
            clients: None,
            archives: Rng::fork(seed, "damaged archives"),
            unsound: plan.damaged(),
            marred: Vec::new(),
            plan: plan.steps.into_iter().peekable(),
            quiet_from_ms: plan.quiet_from_ms,
            leader,
            restart: Rng::fork(seed, "restarts"),
            later: Vec::new(),
            ending: BTreeMap::new(),
            ended: 0,
            new_key,
            story: Vec::new(),
            stops: Vec::new(),
            time: time.clone(),
            net: net.clone(),
        };
        let skewed = rough && rng.chance(PerMillion::percent(50));
        for &id in &ids {
            let (ahead, drift) = match skewed {
                true => (signed(rng, 5_000), signed(rng, 500)),
                false => (0, 0),
            };
            let clock = WallClock::new(time.clone(), ahead, drift);
            world.nodes.push(host(Who::Node(id), id, clock, Rc::clone(&node)));
        }
        let bad_links = rough && rng.chance(PerMillion::percent(50));
        if bad_links {
            for &from in &ids {
                for &to in ids.iter().filter(|to| **to != from) {
                    net.set_quality(ip(from), ip(to), draw_quality(rng));
                }
            }
        }
        // While something is read other things happen, or they never would.
        if rough && rng.chance(PerMillion::percent(40)) {
            let read_ms = 0..=*rng.pick(&[2, 20, 60]);
            for host in &world.nodes {
                let faults = host.disk().faults();
                host.disk().set_faults(DiskFaults {
                    read_ms: read_ms.clone(),
                    ..faults
                });
            }
        }
        for host in world
            .nodes
            .iter_mut()
            .filter(|host| founders.contains(&host.id()))
        {
            host.start()?;
        }
        if let Some(program) = clients {
            let clock = WallClock::new(time.clone(), 0, 0);
            let mut clients = host(Who::Clients, CLIENTS, clock, program);
            clients.start()?;
            world.clients = Some(clients);
        }
        Ok(world)
    }

    /// Milliseconds since the run began.
    pub fn now_ms(&self) -> u64 {
        self.time.now_ms()
    }

    /// When the last fault ends.
    pub fn quiet_from_ms(&self) -> u64 {
        self.quiet_from_ms
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Host] {
        &self.nodes
    }

    /// The network.
    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// What struck so far, and when.
    pub fn story(&self) -> &[(u64, String)] {
        &self.story
    }

    /// Processes that stopped by themselves, in order.
    pub fn stops(&self) -> &[Stop] {
        &self.stops
    }

    /// Files of archives that were damaged, in order.
    pub fn marred(&self) -> &[Marred] {
        &self.marred
    }

    /// How many processes ended when they were asked to.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// A node's machine loses power now, and what it has not synced.
    ///
    /// # Errors
    /// See [`World::step`].
    pub fn switch_off(&mut self, node: u64) -> io::Result<()> {
        self.strike(&Fault::Crash {
            node,
            silent: true,
            loss: Some(Loss::Everything),
        })
    }

    /// A node is started, if it does not run.
    ///
    /// # Errors
    /// See [`World::step`].
    pub fn switch_on(&mut self, node: u64) -> io::Result<()> {
        self.strike(&Fault::Start(node))
    }

    /// Whether the clients' program has ended.
    pub fn clients_done(&self) -> bool {
        self.clients
            .as_ref()
            .is_none_or(|clients| clients.exited().is_some())
    }

    /// Why the clients' program failed, if it did.
    pub fn clients_failed(&self) -> Option<String> {
        match self.clients.as_ref()?.exited()? {
            Ok(()) => None,
            Err(why) => Some(why.clone()),
        }
    }

    /// Moves time on by a millisecond.
    ///
    /// # Errors
    /// The operating system gives no runtime for a node that is started.
    pub fn step(&mut self) -> io::Result<()> {
        let now = self.time.now_ms() + 1;
        self.time.set(now);
        trace::enter(now, Who::World);
        while let Some((_, fault)) = self.plan.next_if(|(at, _)| *at <= now) {
            self.strike(&fault)?;
        }
        if now == self.quiet_from_ms {
            self.tell("the faults are over".into());
            timeline::note(What::Quiet);
            self.net.soothe();
            // Of files that are seldom synced, the next sync might come when nothing is to go wrong any more.
            self.nodes.iter().for_each(|host| host.disk().spare_syncs());
        }
        let due: Vec<_> = self.later.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, fault) in due {
            self.strike(&fault)?;
        }
        self.end_patience(now)?;
        trace::enter(now, Who::World);
        self.net.advance(now);
        for i in 0..self.nodes.len() {
            if !now.is_multiple_of(10) && self.slow.contains(&self.nodes[i].id()) {
                continue;
            }
            let was_running = self.nodes[i].is_running();
            self.nodes[i].run();
            if was_running && let Some(why) = self.nodes[i].exited() {
                let why = why
                    .as_ref()
                    .err()
                    .cloned()
                    .unwrap_or_else(|| "it just ended".into());
                let id = self.nodes[i].id();
                self.tell(format!("n{id} stops by itself: {why}"));
                self.stops.push(Stop {
                    at_ms: now,
                    node: id,
                    why,
                    felt_disk: self.nodes[i].disk().was_felt(),
                });
                // Whoever watches over processes starts it again, a little later.
                let pause = self.restart.within(500..=3_000);
                self.later.push((now + pause, Fault::Start(id)));
            }
        }
        if let Some(clients) = &mut self.clients {
            clients.run();
        }
        watchdog::rest();
        Ok(())
    }

    /// Those who were asked to end and have are started anew; those who take too long are killed first.
    fn end_patience(&mut self, now: u64) -> io::Result<()> {
        let ended: Vec<u64> = self
            .ending
            .iter()
            .filter(|(id, until)| {
                let running = self
                    .nodes
                    .iter()
                    .any(|host| host.id() == **id && host.is_running());
                !running || **until <= now
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.ending.remove(&id);
            let running = self.nodes.iter().any(|host| host.id() == id && host.is_running());
            self.ended += u64::from(!running);
            self.replace(id)?;
        }
        Ok(())
    }

    /// The process of a node, if there still is one, is killed, and another started.
    fn replace(&mut self, id: u64) -> io::Result<()> {
        let Some(host) = self.node(id) else { return Ok(()) };
        if host.is_running() {
            host.crash(false, None);
        }
        host.start()
    }

    fn tell(&mut self, what: String) {
        let now = self.time.now_ms();
        trace::enter(now, Who::World);
        trace::record(format_args!("{what}"));
        self.story.push((now, what));
    }

    fn ips(&self, of: impl Fn(u64) -> bool) -> Vec<IpAddr> {
        self.nodes
            .iter()
            .filter(|host| of(host.id()))
            .map(Host::ip)
            .collect()
    }

    fn cut_off(&self, side: &BTreeSet<u64>) {
        for a in self.ips(|id| side.contains(&id)) {
            for b in self.ips(|id| !side.contains(&id)) {
                self.net.cut(a, b);
                self.net.cut(b, a);
            }
        }
    }

    fn node(&mut self, id: u64) -> Option<&mut Host> {
        self.nodes.iter_mut().find(|host| host.id() == id)
    }

    /// Does what the fault says.
    fn strike(&mut self, fault: &Fault) -> io::Result<()> {
        let now = self.time.now_ms();
        match fault {
            // Things that change nothing are not worth telling.
            Fault::Start(id) if self.node(*id).is_none_or(|host| host.is_running()) => return Ok(()),
            Fault::SlowNode(id, false) if !self.slow.contains(id) => return Ok(()),
            Fault::FullDisk(id, false) | Fault::SlowDisk(id, false) if self.is_well(*id, fault) => {
                return Ok(());
            }
            Fault::Crash { node, .. } | Fault::Pause(node, _) | Fault::Restart(node)
                if self.node(*node).is_none_or(|host| !host.is_running()) =>
            {
                return Ok(());
            }
            Fault::DamageArchive(id) if self.damageable(*id).is_empty() => return Ok(()),
            Fault::NewerBuild(id, newer) if !self.node(*id).is_some_and(|host| host.set_newer(*newer)) => {
                return Ok(());
            }
            _ => self.tell(fault.to_string()),
        }
        timeline::note(What::Fault(fault.clone()));
        if let Fault::Crash { node, .. } | Fault::EmptyDisk(node) | Fault::WrongDisk(node, _) = fault {
            // It does not come back before it is started.
            self.ending.remove(node);
        }
        match fault {
            Fault::Partition(side) => self.cut_off(side),
            Fault::OneWay(from, to) => self.net.cut(ip(*from), ip(*to)),
            Fault::IsolateLeader => {
                if let Some(leader) = (self.leader)() {
                    self.tell(format!("that is n{leader}"));
                    timeline::note(What::Aimed(leader));
                    self.cut_off(&BTreeSet::from([leader]));
                }
            }
            Fault::BlinkLeader(ms) => self.blink_leader(*ms),
            Fault::StallFollowers(ms) => self.stall_followers(*ms),
            Fault::Heal => self.net.heal(),
            Fault::Reset(a, b) => self.net.reset(ip(*a), ip(*b)),
            Fault::Crash { node, silent, loss } => {
                if let Some(host) = self.node(*node) {
                    host.crash(*silent, *loss);
                }
            }
            Fault::Start(node) | Fault::Join(node) => {
                if let Some(host) = self.node(*node) {
                    host.start()?;
                }
            }
            Fault::NewerBuild(node, _) => self.replace(*node)?,
            Fault::Pause(node, ms) => {
                if let Some(host) = self.node(*node) {
                    host.pause(*ms);
                }
            }
            Fault::FailSync(node) => {
                if let Some(host) = self.node(*node) {
                    host.disk().fail_next_sync();
                }
            }
            Fault::FailFileSync(node) => {
                if let Some(host) = self.node(*node) {
                    host.disk().fail_next_sync_beside("log");
                }
            }
            Fault::SlowDisk(node, slow) => {
                if let Some(host) = self.node(*node) {
                    let faults = host.disk().faults();
                    host.disk().set_faults(DiskFaults {
                        slow_sync: if *slow {
                            PerMillion::percent(20)
                        } else {
                            PerMillion::NEVER
                        },
                        slow_sync_ms: DiskFaults::default().slow_sync_ms,
                        ..faults
                    });
                }
            }
            Fault::Clock(node, ms) => {
                if let Some(host) = self.node(*node) {
                    host.clock().jump(*ms);
                }
            }
            other => self.strike_more(other),
        }
        trace::enter(now, Who::World);
        Ok(())
    }
}

fn signed(rng: &mut Rng, bound: u64) -> i64 {
    i64::try_from(rng.below(2 * bound + 1)).unwrap_or(0) - i64::try_from(bound).unwrap_or(0)
}

/// tokio numbers tasks through the whole process and keeps them in shards by that number, which decides in which
/// order a runtime drops them. Two runs in one process are equal only if they begin at equal remainders.
fn align_task_ids() -> io::Result<()> {
    /// More than the shards of any runtime here.
    const SHARDS: u64 = 1 << 10;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    loop {
        let task = runtime.spawn(std::future::ready(()));
        let id: u64 = task.id().to_string().parse().unwrap_or(0);
        if id.is_multiple_of(SHARDS) {
            return Ok(());
        }
    }
}
