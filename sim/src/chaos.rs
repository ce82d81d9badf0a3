//! Chaos: the same clients and the same checkers as in the simulation, on real processes, real disks and a real
//! network.
//!
//! `sim chaos` makes a cluster of its own (keys, cluster file, free ports), starts the built `gridseal` for each node,
//! lets the simulator's clients work on it over TCP, and meanwhile does to it what a seed has drawn: processes are
//! killed and stopped, links cut, slowed and reset, power cut, syncs failed. Then everything heals, the clients ask
//! their final questions, and the [`checkers`] judge what was seen, and the logs and snapshots that the processes leave
//! on their disks.
//!
//! # What always holds
//!
//! - Nothing is left behind: [`undo::Undo`] takes back, in reverse order, whatever was made outside the data directory
//!   (processes, namespaces, mounts), when the run ends, when it fails, on Ctrl-C, and when it panics.
//! - A fault that can't be made on this machine is said, with the reason; it is never silently skipped.
//! - All is healed and started again before the clients' final questions.
//!
//! # Absent on purpose
//!
//! Reproduction: the seed decides what is done to which node and when, and what the clients ask, but the operating
//! system decides the rest. What fails here is to be found again in the simulator, where a seed is one run.
//! The given cluster file's addresses are not used either: it says how many nodes there are and how they are tuned.

mod archive;
mod command;
mod doors;
mod layout;
mod netns;
mod nodes;
mod plan;
mod power;
mod proxy;
mod storm;
mod tracer;
mod undo;
mod verdict;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use checkers::Violation;
use checkers::history::History;
use checkers::wal::Platter;
use clap::Args;
use gridseal::config::{Cluster, Timing};
use gridseal::identity;
use gridseal::say;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::Time;
use crate::product::Product;
use crate::workload;
use crate::workload::roster::Roster;

use self::archive::Archive;
use self::layout::Layout;
use self::netns::Namespaces;
use self::nodes::Nodes;
use self::plan::{Class, Plan};
use self::proxy::Proxy;
use self::storm::Storm;
use self::undo::Undo;
use self::verdict::{Log, Verdict};

/// How long the nodes may take to be ready at first. Generous: the machine may be busy.
const READY: Duration = Duration::from_secs(60);
/// How long a healed cluster may take for any one of the clients' final questions but the last.
const HEALED: Duration = Duration::from_secs(60);
/// How long it may take to show all it has, of which there is much after a long run.
const SHOWN: Duration = Duration::from_secs(900);

/// Lets real processes suffer, with the simulator's clients and checkers.
///
/// Exit codes: 0 every promise held, 1 one was broken, 2 it could not be run. Stopped by Ctrl-C it cleans up and says
/// that nothing was judged (2).
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// A cluster file: how many nodes, and their [timing], [log] and [limits]. Addresses are replaced by free ones.
    /// By default --nodes of them, with small snapshots that the seed draws.
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// How many nodes, without a cluster file.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=9), conflicts_with = "cluster")]
    nodes: u64,
    /// Minutes until the last fault ends; parts of one as 0.25.
    #[arg(long, value_name = "M", default_value_t = 1.0)]
    minutes: f64,
    /// Decides what is done to whom and when, and what the clients ask.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clients work at once.
    #[arg(long, default_value_t = 4)]
    clients: u64,
    /// A directory for keys, ledgers and logs, empty or new; it stays. By default a temporary one, which stays only if a
    /// promise was broken.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The `gridseal` to run; by default the one beside this executable.
    #[arg(long, value_name = "PATH")]
    gridseal: Option<PathBuf>,
    /// Kinds of faults, or `all` that this machine allows. As root also netns, powercut; with strace fsync.
    #[arg(
        long,
        value_name = "KINDS",
        value_delimiter = ',',
        default_value = "kill,stop,proxy"
    )]
    faults: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it and prints the verdict; whether every promise held.
///
/// # Errors
/// The cluster can't be set up on this machine, or the run was interrupted.
pub fn main(options: &Options) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let verdict = runtime.block_on(async {
        let mut stop = Stop::new()?;
        tokio::select! {
            verdict = run(options) => verdict,
            () = stop.asked() => Err(io::Error::new(io::ErrorKind::Interrupted, "stopped; nothing was judged")),
        }
    });
    // A file system call under way must not keep a finished run.
    runtime.shutdown_background();
    let verdict = verdict?;
    if options.json {
        say!("{}", verdict.json());
    } else {
        say!("{}", verdict.tell());
    }
    Ok(verdict.violations.is_empty())
}

async fn run(options: &Options) -> io::Result<Verdict> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    if !(0.0..=60.0 * 24.0 * 7.0).contains(&options.minutes) {
        return Err(wrong(format!(
            "--minutes {}: expected 0 to a week",
            options.minutes
        )));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above"
    )]
    let end_ms = (options.minutes * 60_000.0) as u64;
    let given = match &options.cluster {
        Some(file) => Some(Cluster::read(file).map_err(|e| wrong(e.to_string()))?),
        None => None,
    };
    let (wanted, everything) = Class::parse(&options.faults).map_err(wrong)?;
    let time = Time::real();
    let log = Log::new(time.clone(), !options.json);

    // Dropped in reverse order: what needs the directory goes before it.
    let mut undo = Undo::default();
    let layout = Layout::make(options.data.as_deref(), options.gridseal.as_deref(), &mut undo)?;
    let ids: Vec<u64> = match &given {
        Some(cluster) => cluster.nodes.iter().map(|node| node.id).collect(),
        None => (1..=options.nodes).collect(),
    };
    // The clients number the nodes they talk to from 1.
    if ids.iter().copied().ne(1..=ids.len() as u64) {
        return Err(wrong(format!(
            "the ids of the nodes are {ids:?}: expected 1 to {}",
            ids.len()
        )));
    }

    let mut faults = Vec::new();
    let mut missing = Vec::new();
    let mut namespaces = None;
    for class in wanted {
        let possible = match class {
            Class::Kill | Class::Stop | Class::Proxy => Ok(()),
            Class::Netns => Namespaces::make(&ids, &mut undo)
                .await
                .map(|made| namespaces = Some(made)),
            Class::Powercut => power::possible(&layout, &mut undo).await,
            Class::Fsync => tracer::possible().await,
        };
        match possible {
            Ok(()) => faults.push(class),
            Err(why) => {
                log.say(format!("no {class} here: {why}"));
                missing.push((class, why.to_string()));
            }
        }
    }
    if !everything && faults.is_empty() {
        return Err(io::Error::other(
            "none of the faults asked for can be made on this machine",
        ));
    }

    let proxy = if faults.contains(&Class::Proxy) {
        Some(Proxy::default())
    } else {
        None
    };
    let places = layout
        .places(&ids, options.seed, proxy.as_ref(), namespaces.as_ref())
        .await?;
    layout.write_cluster(given.as_ref(), &places, options.seed)?;
    layout.init_keys().await?;
    let genesis = identity::load_genesis(&layout.data).map_err(io::Error::other)?;
    let keys: Vec<_> = genesis.nodes.iter().map(|(node, key)| (*node, key.0)).collect();
    if faults.contains(&Class::Powercut) {
        for id in &ids {
            power::mount_new(&layout, *id, &mut undo).await?;
        }
    }

    let network: Arc<dyn raft::Network> = Arc::new(doors::Doors::new(&places));
    let mut nodes = Nodes::new(layout.clone(), namespaces.clone(), &ids);
    for id in &ids {
        nodes.start(*id)?;
    }
    log.say(format!(
        "{} nodes started, data in {}",
        ids.len(),
        layout.data.display()
    ));
    let watch = watch::Watch::new(Arc::clone(&network), time.clone(), ids.len() as u64);
    let archive = Archive::new(&layout, &ids);
    watch.ready(&mut nodes, READY).await?;

    // The plan and the clients count from the start of the run; setting up took some of it.
    let began_ms = time.now_ms();
    let plan = Plan::draw(
        options.seed,
        ids.len() as u64,
        began_ms,
        began_ms + end_ms,
        &faults,
    );
    let history: Arc<Mutex<History>> = Arc::default();
    let load = workload::Options {
        seed: options.seed,
        cluster: genesis.cluster(),
        nodes: ids.len() as u64,
        clients: options.clients,
        until_ms: plan.quiet_from_ms,
        request_ms: given
            .as_ref()
            .map_or_else(Timing::default, |given| given.timing)
            .request_ms,
        seals_after: None,
        unmoved: false,
        idle: false,
        mix: workload::Mix::default(),
        mute: BTreeSet::new(),
        excused: BTreeSet::new(),
        distrusted: BTreeSet::new(),
        admin: None,
        roster: Roster::new(ids.len() as u64, 0),
    };
    let clients = workload::run(
        load,
        layout.gateway_key()?,
        Arc::clone(&network),
        time.clone(),
        Arc::clone(&history),
    );
    let mut storm = Storm::new(
        plan,
        nodes,
        proxy,
        namespaces,
        layout.clone(),
        watch.seen(),
        log.clone(),
    );
    let patience = {
        let history = Arc::clone(&history);
        let (time, quiet_from_ms) = (time.clone(), storm.quiet_from_ms());
        move || patience(&history.lock().phase, time.now_ms().saturating_sub(quiet_from_ms))
    };
    let ended = tokio::select! {
        ended = clients => ended,
        late = storm.rage(patience) => Err(late?),
        () = watch.look() => watch_ended(),
        () = archive.keep() => watch_ended(),
    };

    let mut verdict = Verdict::new(options.seed, time.now_ms(), &faults, missing);
    verdict.violations.append(&mut watch.seen().lock().violations);
    verdict.violations.append(&mut storm.violations);
    {
        let history = history.lock();
        if let Err(why) = ended {
            let what = format!(
                "after the faults, while \"{}\" was to be shown: {why}",
                history.phase
            );
            verdict.violations.push(Violation {
                at_ms: time.now_ms(),
                checker: "liveness",
                what,
            });
        }
        verdict
            .violations
            .extend(checkers::check::<Product>(&history, &keys));
        verdict.count_history(&history);
    }
    verdict.counts.extend(storm.counts());
    verdict.violations.extend(storm.stop().await);
    autopsy(&mut verdict, &archive, &history.lock(), time.now_ms());
    verdict.story = log.lines();
    if !verdict.violations.is_empty() {
        verdict.kept = Some(layout.keep(&mut undo));
        layout.write_history(&history.lock())?;
    }
    Ok(verdict)
}

/// Judges the logs and snapshots that the processes leave behind, and what clients saw by them.
fn autopsy(verdict: &mut Verdict, archive: &Archive, history: &History, at_ms: u64) {
    let shelves = archive.shelves();
    let disks = shelves.iter().map(|(id, shelf)| (*id, shelf as &dyn Platter));
    let found = checkers::watch::Watch::post_mortem::<Product>(at_ms, disks, history);
    verdict.violations.extend(found.violations);
    verdict.counts.extend(found.reached);
    match found.replayed {
        Some(entries) => drop(verdict.counts.insert("entries replayed", entries)),
        // It was meant to be kept: what can't be judged is not well.
        None => verdict.violations.push(Violation {
            at_ms,
            checker: "replay",
            what: "the log is not known from its beginning, so that nothing could be replayed".to_owned(),
        }),
    }
}

/// Whether a healed cluster has been silent for too long in this phase of the clients' work.
fn patience(phase: &str, healed_ms: u64) -> Option<String> {
    let bound = match phase {
        "every node shows the same" | "done" => SHOWN,
        _ => HEALED,
    };
    (u128::from(healed_ms) > bound.as_millis())
        .then(|| format!("{} s after the faults it still isn't", bound.as_secs()))
}

/// The watch looks for ever.
fn watch_ended() -> Result<(), String> {
    Err("the watch on the nodes ended".to_owned())
}

/// SIGINT, SIGTERM and SIGHUP.
struct Stop([tokio::signal::unix::Signal; 3]);

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Stop([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
