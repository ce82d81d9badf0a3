//! The product under faults and load: nodes, clients, a plan, and the checkers over what was seen.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use checkers::Violation;
use checkers::history::History;
use gridseal::falsify::{Falsify, Wrong};
use parking_lot::Mutex;

use crate::admin::Told;
use crate::cluster::{Common, Seen};
use crate::disk::DiskFaults;
use crate::faults::{Fault, Plan};
use crate::observer::Observer;
use crate::product::Product;
use crate::report::Report;
use crate::rng::{PerMillion, Rng};
use crate::workload;
use crate::workload::roster::Roster;
use crate::world::{Setup, World};

/// Virtual time after the last fault within which the cluster must have answered all final questions.
const HEALED_MS: u64 = 60_000;

/// More of it where nobody asks for anything for a while.
const IDLE_MS: u64 = 2 * workload::IDLE.as_secs() * 1_000;

/// And where one node is off at first.
const AWAY_MS: u64 = 20_000;

/// And where the leader seals by itself, which tries what was held only after half a minute again.
const HELD_MS: u64 = 45_000;

/// Virtual time for which a run with a planted bug goes on after the first complaint.
const AWAITED_MS: u64 = 15_000;

/// How to run the product.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// Virtual milliseconds until the last fault ends.
    pub faults_ms: u64,
    /// How many clients work at once.
    pub clients: u64,
    /// What goes wrong; by default what the seed draws.
    pub plan: Option<Plan>,
    /// Syncs on all disks say yes and do nothing: a planted bug that must be noticed.
    pub lying_disks: bool,
    /// Whether links and clocks are as the seed draws them; else perfect.
    pub rough: bool,
    /// How often clients do what.
    pub mix: workload::Mix,
    /// Operations of clients, by key, that are left out.
    pub mute: BTreeSet<String>,
    /// A node whose ledger computes wrongly from this log index on.
    pub corrupt: Option<(u64, Falsify)>,
    /// Goes on after a broken promise until one of these checkers has complained, or for [`AWAITED_MS`]: with a
    /// planted bug it counts who notices. Without any the first complaint ends the run.
    pub awaited: &'static [&'static str],
}

impl Options {
    /// Five nodes and four clients, half a virtual minute of faults.
    pub fn new(seed: u64) -> Self {
        Options {
            seed,
            nodes: 5,
            faults_ms: 30_000,
            clients: 4,
            plan: None,
            lying_disks: false,
            rough: true,
            mix: workload::Mix::of_seed(seed),
            mute: BTreeSet::new(),
            corrupt: None,
            awaited: &[],
        }
    }

    /// What a seed draws for so many nodes and so long a time, a node whose ledger computes wrongly included.
    pub fn of_seed(seed: u64, nodes: u64, faults_ms: u64) -> Self {
        let rng = &mut Rng::fork(seed, "a wrong ledger");
        let drawn = rng.chance(PerMillion::percent(25));
        let (node, from) = (rng.within(1..=nodes.max(1)), rng.within(20..=200));
        let what = match rng.chance(PerMillion::percent(50)) {
            true => Wrong::Seals,
            false => Wrong::Books,
        };
        let corrupt = (node, Falsify { from, what });
        // A second node that can't sign would be more than a quorum does without.
        let alone = nodes >= 3 && Plan::draw(seed, nodes, faults_ms).at_risk().is_empty();
        Options {
            nodes,
            faults_ms,
            corrupt: (drawn && alone).then_some(corrupt),
            ..Options::new(seed)
        }
    }
}

/// Runs the product.
///
/// # Errors
/// The operating system gives no runtime, or the cluster can't be configured so.
pub fn run(options: &Options) -> io::Result<Report> {
    let &Options {
        seed,
        nodes,
        faults_ms,
        clients,
        lying_disks,
        ..
    } = options;
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let history: Arc<Mutex<History>> = Arc::default();
    let plan = options
        .plan
        .clone()
        .unwrap_or_else(|| Plan::draw_with_operations(seed, nodes, faults_ms));
    let damaged = plan.damaged();
    let wrong: BTreeSet<u64> = options.corrupt.map(|(node, _)| node).into_iter().collect();
    let excused = &damaged | &wrong;
    let roster = Roster::new(nodes, plan.orders().len());
    let mut observer = Observer::new(damaged, wrong.clone(), Arc::clone(&seen), Arc::clone(&roster));
    let common = Common::new(
        seed,
        nodes,
        &plan.joiners(),
        options.mix.is_large(),
        Arc::clone(&seen),
    )
    .map_err(io::Error::other)?
    .corrupt(options.corrupt);
    let admin = Told {
        cluster: common.id(),
        seed,
        orders: plan.orders(),
    };
    let still = |(_, fault): &(u64, Fault)| !matches!(fault, Fault::Clock(..));
    let idle = plan.steps.iter().all(still) && Rng::fork(seed, "idle").chance(PerMillion::percent(20));
    // With one node off the others are a majority, as long as all founders vote, and nothing else keeps one from working.
    let moves_nobody = |(_, order): &(u64, Fault)| matches!(order, Fault::Snapshot(_) | Fault::Transfer(_));
    let all_well =
        wrong.is_empty() && plan.at_risk().is_empty() && plan.orders().iter().all(moves_nobody) && nodes >= 3;
    let mut absence = Rng::fork(seed, "absence");
    let mut away = (all_well && absence.chance(PerMillion::percent(25))).then(|| absence.within(1..=nodes));
    roster.lock().away = away;
    let load = workload::Options {
        seed,
        cluster: common.id(),
        nodes,
        clients,
        until_ms: faults_ms,
        request_ms: common.request_ms(),
        seals_after: common.seals_after(),
        unmoved: all_well,
        idle,
        admin: Some(admin),
        roster: Arc::clone(&roster),
        mix: options.mix,
        mute: options.mute.clone(),
        excused,
        distrusted: wrong.clone(),
    };
    let watched = Arc::clone(&seen);
    let keys = common.clone();
    let mut world = World::new(Setup {
        seed,
        nodes,
        node: common.program(),
        clients: Some(workload::program(load, Arc::clone(&history))),
        leader: Rc::new(move || watched.lock().leader()),
        new_key: Rc::new(move |node| keys.renew_key(node)),
        rough: options.rough,
        plan,
    })?;
    if lying_disks {
        for host in world.nodes() {
            host.disk().set_faults(DiskFaults {
                lies: true,
                ..DiskFaults::default()
            });
        }
    }
    let mut broken_at = None;
    let mut healed_ms = HEALED_MS;
    healed_ms += u64::from(idle) * IDLE_MS;
    healed_ms += u64::from(away.is_some()) * AWAY_MS;
    healed_ms += u64::from(common.seals_after().is_some()) * HELD_MS;
    while !world.clients_done() && world.now_ms() < world.quiet_from_ms() + healed_ms {
        world.step()?;
        if let Some(node) = away {
            if world.now_ms() == world.quiet_from_ms() {
                world.switch_off(node)?;
            }
            if roster.lock().away.is_none() {
                world.switch_on(node)?;
                away = None;
            }
        }
        observer.look(&world);
        if observer.watch.is_broken() || !seen.lock().violations.is_empty() {
            let since = *broken_at.get_or_insert(world.now_ms());
            let awaited = |checker: &str| options.awaited.contains(&checker);
            let heard = observer
                .watch
                .violations()
                .iter()
                .any(|violation| awaited(violation.checker))
                || seen
                    .lock()
                    .violations
                    .iter()
                    .any(|violation| awaited(violation.checker));
            if options.awaited.is_empty() || heard || world.now_ms() > since + AWAITED_MS {
                break;
            }
        }
    }
    if world.clients_done() && world.clients_failed().is_none() {
        observer.look_at_rest(&world, common.keep_entries(), &common.freeze_policy());
    }
    let mut report = Report::new(seed, &world);
    report.violations = std::mem::take(&mut seen.lock().violations);
    let failed = world.clients_failed();
    let at_ms = world.now_ms();
    let done = world.clients_done();
    let felt = world.stops().iter().filter(|stop| stop.felt_disk).count();
    observer
        .watch
        .count("a node stopped by a disk fault", felt as u64);
    let noticed = seen.lock().noticed();
    observer.watch.count("a wrong ledger noticed", u64::from(noticed));
    drop(world);
    let history = history.lock();
    let concluded = observer.conclude(at_ms, &history);
    report.violations.extend(concluded.violations);
    report.reached = concluded.reached;
    let phase = &history.phase;
    if let Some(why) = failed {
        let what = format!("after the faults, while \"{phase}\" was to be shown: {why}");
        report.violations.push(Violation {
            at_ms,
            checker: "liveness",
            what,
        });
    } else if !done && report.violations.is_empty() {
        let what = format!("{healed_ms} ms after the faults it is not shown that \"{phase}\"");
        report.violations.push(Violation {
            at_ms,
            checker: "liveness",
            what,
        });
    }
    report
        .violations
        .extend(checkers::check::<Product>(&history, &common.node_keys()));
    if let Some(reached) = crate::mutants::reached() {
        report.count("planted code reached", reached);
    }
    report.count("operations", history.operations.len() as u64);
    report.count("reads", history.reads.len() as u64);
    report.count("seals seen", history.seals.len() as u64);
    for (what, n) in &history.counts {
        report.count(what, *n);
    }
    Ok(report)
}
