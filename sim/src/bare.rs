//! Replicas alone: the log, the wire and openraft under faults, with the simplest machine that can show a wrong
//! order. What fails here is no fault of the ledger's.
//!
//! Every node proposes numbered payloads while it leads, and an oracle that sees every machine checks as they
//! apply: one index, one payload, everywhere and for ever; no index skipped or repeated; what was acknowledged
//! is on every tape at the end; a read barrier is never behind an acknowledged write. When the faults are over
//! the group must lead, agree and accept again.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use checkers::Violation;
use parking_lot::Mutex;
use raft::{
    Capture, Committed, Config, Disk, Network, NoService, Payload, PeerAddr, Replica, RestoreError, Role,
    StateMachine, Status,
};

use crate::faults::Plan;
use crate::host::{Machine, Program, ip};
use crate::report::Report;
use crate::rng::Rng;
use crate::trace;
use crate::world::{Setup, World};

/// The port replicas listen on.
const PORT: u16 = 4000;
/// Virtual time after the last fault within which there must be a leader, and all must agree and accept.
const HEALED_MS: u64 = 15_000;

/// What the oracle knows.
#[derive(Default)]
struct Oracle {
    violations: Vec<Violation>,
    /// What each index holds: the leadership that put it there, and the payload's number, if it has one.
    log: BTreeMap<u64, (u64, u64, Option<u64>)>,
    /// Acknowledged payloads, by index.
    acked: BTreeMap<u64, u64>,
    tapes: BTreeMap<u64, Tape>,
    status: BTreeMap<u64, Status>,
    next_id: u64,
    reads: u64,
}

/// What a machine has applied: the payloads' numbers by index.
#[derive(Clone, Default)]
struct Tape {
    next: u64,
    ids: BTreeMap<u64, u64>,
}

type Shared = Arc<Mutex<Oracle>>;

impl Oracle {
    fn violate(&mut self, checker: &'static str, what: String) {
        let (at_ms, _) = trace::current();
        trace::record(format_args!("VIOLATION {checker}: {what}"));
        self.violations.push(Violation { at_ms, checker, what });
    }

    fn applied(&mut self, node: u64, entry: &Committed) {
        let Committed {
            index,
            term,
            leader,
            payload,
        } = entry;
        let id = match payload {
            Payload::App(bytes) => match read_payload(bytes) {
                Some(id) => Some(id),
                None => {
                    return self.violate("integrity", format!("n{node} applied foreign bytes at {index}"));
                }
            },
            Payload::Blank | Payload::Membership(_) => None,
        };
        let tape = self.tapes.entry(node).or_default();
        if *index != tape.next {
            let next = tape.next;
            self.violate("dense", format!("n{node} applied {index} where {next} was next"));
        }
        let tape = self.tapes.entry(node).or_default();
        tape.next = index + 1;
        tape.ids.extend(id.map(|id| (*index, id)));
        let this = (*term, *leader, id);
        let known = *self.log.entry(*index).or_insert(this);
        if known != this {
            self.violate(
                "agreement",
                format!("n{node} applied {this:?} at {index}, another {known:?}"),
            );
        }
    }
}

/// A payload is its number, a length, and bytes that the number decides, so that any damage shows.
fn payload(id: u64, len: usize) -> Bytes {
    let mut bytes = BytesMut::zeroed(8 + len);
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    Rng::new(id).fill(&mut bytes[8..]);
    bytes.freeze()
}

fn read_payload(bytes: &Bytes) -> Option<u64> {
    let id = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    (payload(id, bytes.len() - 8) == bytes).then_some(id)
}

/// The state machine: a tape of what was applied.
struct Recorder {
    node: u64,
    oracle: Shared,
}

impl StateMachine for Recorder {
    fn apply(&mut self, batch: Vec<Committed>) {
        let mut oracle = self.oracle.lock();
        for entry in batch {
            trace::record(format_args!("applies {} of term {}", entry.index, entry.term));
            oracle.applied(self.node, &entry);
        }
    }

    fn snapshot(&mut self) -> Capture {
        let tape = self
            .oracle
            .lock()
            .tapes
            .get(&self.node)
            .cloned()
            .unwrap_or_default();
        Capture::new(move || {
            let mut bytes = BytesMut::new();
            bytes.put_u64(tape.next);
            for (index, id) in tape.ids {
                bytes.put_u64(index);
                bytes.put_u64(id);
            }
            bytes.freeze()
        })
    }

    fn restore(&mut self, mut snapshot: Bytes, index: u64) -> Result<(), RestoreError> {
        let mut oracle = self.oracle.lock();
        let mut tape = Tape::default();
        if snapshot.len() % 16 != 8 {
            return Err(RestoreError(format!("a snapshot of {} bytes", snapshot.len())));
        }
        tape.next = snapshot.get_u64();
        while snapshot.has_remaining() {
            let index = snapshot.get_u64();
            tape.ids.insert(index, snapshot.get_u64());
        }
        if tape.next != index + 1 {
            let (node, next) = (self.node, tape.next);
            oracle.violate(
                "snapshot",
                format!("n{node} restores {index} from a snapshot up to {next}"),
            );
        }
        let wrong = tape
            .ids
            .iter()
            .find(|(index, id)| oracle.log.get(*index).is_none_or(|known| known.2 != Some(**id)));
        if let Some((index, id)) = wrong {
            let what = format!("the snapshot of n{} holds payload {id} at {index}", self.node);
            oracle.violate("agreement", what);
        }
        oracle.tapes.insert(self.node, tape);
        Ok(())
    }
}

/// What a node runs.
async fn node(machine: Machine, nodes: u64, seed: u64, oracle: Shared) -> Result<(), String> {
    let id = machine.id;
    let rng = &mut Rng::fork(seed, &format!("program of n{id} start {}", machine.boot));
    {
        let mut oracle = oracle.lock();
        oracle.tapes.insert(id, Tape::default());
        oracle.status.remove(&id);
    }
    let mut config = Config::new(id, [7; 32], format!("{}:{PORT}", ip(id)), rng.next());
    // The same on all starts and nodes, drawn once.
    let fixed = &mut Rng::fork(seed, "config");
    config.log.segment_bytes = *fixed.pick(&[16 << 10, 64 << 10, 1 << 20]);
    config.log.cache_bytes = *fixed.pick(&[4 << 10, 1 << 20]);
    config.snapshots.every_entries = *fixed.pick(&[20, 100, 1_000]);
    config.snapshots.keep_entries = *fixed.pick(&[0, 10, 100]);
    config.snapshots.chunk_bytes = *fixed.pick(&[1 << 10, 16 << 10, 256 << 10]);
    let disk: Arc<dyn Disk> = Arc::new(machine.disk);
    let network: Arc<dyn Network> = Arc::new(machine.network);
    let recorder = Box::new(Recorder {
        node: id,
        oracle: Arc::clone(&oracle),
    });
    let replica = Replica::start(config, disk, network, recorder, Arc::new(NoService))
        .await
        .map_err(|e| e.to_string())?;
    let members: BTreeMap<u64, PeerAddr> = (1..=nodes)
        .map(|id| (id, PeerAddr(format!("{}:{PORT}", ip(id)))))
        .collect();
    tokio::spawn(publish(replica.clone(), id, Arc::clone(&oracle)));
    replica.initialize(members).await.map_err(|e| e.to_string())?;
    let mut fault = replica.fault();
    let working = work(replica.clone(), rng, &oracle);
    tokio::select! {
        () = working => Ok(()),
        found = fault.wait_for(Option::is_some) => Err(found.map_or_else(|e| e.to_string(), |fault| format!("{:?}", *fault))),
    }
}

async fn publish(replica: Replica, id: u64, oracle: Shared) {
    let mut status = replica.watch_status();
    loop {
        let now = status.borrow_and_update().clone();
        oracle.lock().status.insert(id, now);
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Proposes, reads, takes snapshots and hands leadership over, now and then, while it leads.
async fn work(replica: Replica, rng: &mut Rng, oracle: &Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(rng.within(1..=40))).await;
        let status = replica.status();
        if status.role != Role::Leader {
            continue;
        }
        match rng.below(100) {
            0 => {
                let _ = replica.transfer_leader(None).await;
            }
            1 => {
                let _ = replica.trigger_snapshot(Duration::from_secs(1)).await;
            }
            2..10 => {
                let acked = oracle.lock().acked.last_key_value().map(|(index, _)| *index);
                if let Ok(index) = replica.read_barrier().await {
                    let mut oracle = oracle.lock();
                    oracle.reads += 1;
                    if acked.is_some_and(|acked| acked > index) {
                        oracle.violate(
                            "linearizable",
                            format!("n{} reads at {index}, {acked:?} was acknowledged", status.id),
                        );
                    }
                }
            }
            _ => {
                let replica = replica.clone();
                let oracle = Arc::clone(oracle);
                let count = rng.within(1..=5);
                let longest = *rng.pick(&[10, 500, 5_000]);
                let first = {
                    let mut oracle = oracle.lock();
                    oracle.next_id += count;
                    oracle.next_id - count
                };
                let ids: Vec<u64> = (first..first + count).collect();
                let payloads = ids.iter().map(|id| payload(*id, rng.index(longest))).collect();
                tokio::spawn(async move {
                    if let Ok(indexes) = replica.propose(payloads).await {
                        trace::record(format_args!("acknowledged {indexes:?}"));
                        let mut oracle = oracle.lock();
                        if indexes.len() != ids.len() {
                            oracle.violate(
                                "integrity",
                                format!("{} payloads got {} indexes", ids.len(), indexes.len()),
                            );
                        }
                        oracle.acked.extend(indexes.into_iter().zip(ids));
                    }
                });
            }
        }
    }
}

/// The healthy leader, if all see the same.
fn leader(oracle: &Oracle) -> Option<u64> {
    let newest = oracle
        .status
        .values()
        .max_by_key(|status| (status.term, status.role == Role::Leader))?;
    newest.leader
}

/// Why the group is not well again, if it isn't. `excused` nodes have a disk that no node can bear: they need not
/// come back.
fn unwell(oracle: &Oracle, nodes: u64, excused: &BTreeSet<u64>, acked_when_quiet: usize) -> Option<String> {
    let healthy = oracle.status.iter().filter(|(node, _)| !excused.contains(node));
    let follow: Vec<Option<u64>> = healthy.map(|(_, status)| status.leader).collect();
    let leaders: BTreeSet<Option<u64>> = follow.iter().copied().collect();
    let expected = nodes - excused.len() as u64;
    if follow.len() as u64 != expected || leaders.len() != 1 || leaders.contains(&None) {
        return Some(format!(
            "{} of {expected} healthy nodes follow {leaders:?}",
            follow.len()
        ));
    }
    if oracle.acked.len() <= acked_when_quiet {
        return Some("nothing was acknowledged since the faults ended".into());
    }
    let acked = oracle.acked.last_key_value().map_or(0, |(index, _)| *index);
    let healthy = oracle.tapes.iter().filter(|(node, _)| !excused.contains(node));
    let (node, slowest) = healthy
        .map(|(node, tape)| (node, tape.next))
        .min_by_key(|(_, next)| *next)?;
    (slowest + 200 < acked).then(|| format!("n{node} is at {slowest}, {acked} is acknowledged"))
}

fn check_durability(oracle: &mut Oracle) {
    let mut lost = Vec::new();
    let reached = oracle.tapes.values().map(|tape| tape.next).max().unwrap_or(0);
    if let Some((index, id)) = oracle.acked.range(reached..).next() {
        lost.push(format!("no node has {index}, where {id} was acknowledged"));
    }
    for (node, tape) in &oracle.tapes {
        for (index, id) in oracle.acked.range(..tape.next) {
            if tape.ids.get(index) != Some(id) {
                lost.push(format!(
                    "n{node} has {:?} at {index}, where {id} was acknowledged",
                    tape.ids.get(index)
                ));
            }
        }
    }
    for what in lost.into_iter().take(5) {
        oracle.violate("durability", what);
    }
}

/// How to run replicas alone.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// Virtual milliseconds until the last fault ends.
    pub faults_ms: u64,
    /// Syncs on all disks say yes and do nothing, and half-way all machines lose power, and no more than that: a
    /// planted bug that must be noticed.
    pub lying_disks: bool,
    /// No faults at all.
    pub calm: bool,
}

/// Runs replicas alone.
///
/// # Errors
/// The operating system gives no runtime.
pub fn run(options: &Options) -> std::io::Result<Report> {
    let &Options {
        seed,
        nodes,
        faults_ms,
        lying_disks,
        calm,
    } = options;
    let oracle: Shared = Arc::default();
    let program: Program = {
        let oracle = Arc::clone(&oracle);
        Rc::new(move |machine| Box::pin(node(machine, nodes, seed, Arc::clone(&oracle))))
    };
    let plan = if lying_disks {
        Plan::blackout(nodes, faults_ms / 2, faults_ms)
    } else if calm {
        Plan {
            quiet_from_ms: faults_ms,
            ..Plan::default()
        }
    } else {
        Plan::draw(seed, nodes, faults_ms)
    };
    let excused = plan.damaged();
    let watched = Arc::clone(&oracle);
    let mut world = World::new(Setup {
        seed,
        nodes,
        node: program,
        clients: None,
        leader: Rc::new(move || leader(&watched.lock())),
        new_key: Rc::new(|_| {}),
        plan,
        rough: !calm,
    })?;
    if lying_disks {
        for host in world.nodes() {
            let lies = crate::disk::DiskFaults {
                lies: true,
                ..Default::default()
            };
            host.disk().set_faults(lies);
        }
    }
    while world.now_ms() < world.quiet_from_ms() && oracle.lock().violations.is_empty() {
        world.step()?;
    }
    let acked_when_quiet = oracle.lock().acked.len();
    let mut why = None;
    for _ in 0..HEALED_MS {
        world.step()?;
        // Looking costs; whether it is well matters to a tenth of a second.
        if world.now_ms().is_multiple_of(100) {
            why = unwell(&oracle.lock(), nodes, &excused, acked_when_quiet);
            if why.is_none() || !oracle.lock().violations.is_empty() {
                break;
            }
        }
    }
    let mut oracle = oracle.lock();
    if let Some(why) = why {
        oracle.violate("liveness", format!("{HEALED_MS} ms after the last fault {why}"));
    }
    check_durability(&mut oracle);
    let mut report = Report::new(seed, &world);
    report.violations = std::mem::take(&mut oracle.violations);
    report.count("acknowledged", oracle.acked.len() as u64);
    report.count("committed", oracle.log.len() as u64);
    report.count("reads", oracle.reads);
    Ok(report)
}
