//! The product in the simulation: the very same `start`, on simulated seams.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use checkers::Violation;
use ed25519_dalek::SigningKey;
use gridseal::api::backend::NodeStatus;
use gridseal::config::Cluster;
use gridseal::falsify::Falsify;
use gridseal::gateway::{Backend as _, Gateway};
use gridseal::seams::Seams;
use gridseal::start::{NodeConfig, start};
use ledger::frozen::FreezePolicy;
use ledger::{Digest, Genesis, NodeId, PublicKey, Timestamp};
use parking_lot::Mutex;

use crate::clock::EPOCH_MS;
use crate::host::{Machine, Program, ip};
use crate::http::API_PORT;
use crate::rng::{PerMillion, Rng};
use crate::timeline::{self, Role, What};
use crate::trace;

/// The port nodes listen on for each other.
const PEER_PORT: u16 = 4000;
/// How long a node may take to notice that its own ledger computes wrongly, in milliseconds in which it hears of entries: of
/// packed batches it notices when they are sealed, or by what the others sign, and for that it must hear of them.
const NOTICED_WITHIN_MS: u64 = 10_000;
/// How long after an entry it counts as hearing of them, in milliseconds.
const HEARS_MS: u64 = 1_000;
/// How often what a node says of itself is looked at, in milliseconds.
const LOOK: Duration = Duration::from_millis(20);
/// Length of an epoch; not related to virtual time, since the clients name epochs themselves.
pub(crate) const EPOCH_LENGTH_MS: u64 = 900_000;

/// What is seen of the nodes from within.
#[derive(Default)]
pub struct Seen {
    /// The ledger's running digest at each log index at which some node was seen, and by whom.
    states: BTreeMap<u64, (u64, String)>,
    /// Who leads, as each node last said, and in which term.
    leaders: BTreeMap<u64, (u64, Option<u64>)>,
    /// How far each node has applied, since its process began.
    applied: BTreeMap<u64, u64>,
    /// Where to ask each node that runs.
    /// With the life that each is of.
    gateways: BTreeMap<u64, (u64, Gateway)>,
    /// What a ledger that computes wrongly led to.
    wrong: Wrong,
    /// What broke a promise.
    pub violations: Vec<Violation>,
}

/// Whether the node whose ledger computes wrongly knows it.
#[derive(Default)]
struct Wrong {
    /// Since when its state is another than the others', and it has raised no alarm.
    since_ms: Option<u64>,
    /// For how long it has heard of entries since.
    heard_ms: u64,
    /// When it was looked at last.
    looked_ms: u64,
    /// How far it had applied the log, and when that grew.
    applied: (u64, u64),
    noticed: bool,
    told: bool,
}

/// Shared by the nodes' processes and the world.
pub type Shared = Arc<Mutex<Seen>>;

impl Seen {
    fn violate(&mut self, checker: &'static str, what: String) {
        let (at_ms, _) = trace::current();
        trace::record(format_args!("VIOLATION {checker}: {what}"));
        self.violations.push(Violation { at_ms, checker, what });
    }

    fn look(&mut self, node: u64, applied: Option<u64>, state: String) {
        let Some(applied) = applied else { return };
        if self
            .applied
            .insert(node, applied)
            .is_some_and(|before| before > applied)
        {
            self.violate("monotonic", format!("n{node} went back to {applied}"));
        }
        let (first, known) = self
            .states
            .entry(applied)
            .or_insert_with(|| (node, state.clone()));
        if *known != state {
            let what = format!("at {applied} the state of n{node} is {state}, that of n{first} {known}");
            self.violate("agreement", what);
        }
    }

    /// A node whose ledger computes wrongly says so before long.
    fn look_at_wrong(&mut self, node: u64, applied: Option<u64>, state: &str, alarmed: bool) {
        let (at_ms, _) = trace::current();
        let wrong = &mut self.wrong;
        let passed_ms = at_ms - std::mem::replace(&mut wrong.looked_ms, at_ms);
        if alarmed {
            wrong.noticed = true;
            wrong.since_ms = None;
            return;
        }
        let Some(applied) = applied else { return };
        if applied != wrong.applied.0 {
            wrong.applied = (applied, at_ms);
        }
        if let Some(since) = wrong.since_ms
            && at_ms <= wrong.applied.1 + HEARS_MS
        {
            wrong.heard_ms += passed_ms.min(at_ms - since);
        }
        let right = self.states.get(&applied);
        if right.is_none_or(|(_, right)| right == state) {
            return;
        }
        if wrong.since_ms.is_none() {
            (wrong.since_ms, wrong.heard_ms) = (Some(at_ms), 0);
        }
        if wrong.heard_ms > NOTICED_WITHIN_MS && !wrong.told {
            wrong.told = true;
            let since = wrong.since_ms.unwrap_or(at_ms);
            let what =
                format!("the ledger of n{node} computes wrongly since {since}, and it raises no alarm");
            self.violate("alarm", what);
        }
    }

    /// Whether a node whose ledger computed wrongly has raised the alarm.
    pub fn noticed(&self) -> bool {
        self.wrong.noticed
    }

    /// Where to ask a node, while it runs, from when it has started.
    pub fn gateway(&self, node: u64) -> Option<&Gateway> {
        self.gateways.get(&node).map(|(_, gateway)| gateway)
    }

    /// Which of the node's lives it is that can be asked.
    pub fn life(&self, node: u64) -> u64 {
        self.gateways.get(&node).map_or(0, |(life, _)| *life)
    }

    /// Who leads, by the newest term that any node knows.
    pub fn leader(&self) -> Option<u64> {
        self.leaders
            .values()
            .max_by_key(|(term, leader)| (*term, leader.is_some()))?
            .1
    }
}

/// The largest request of those who send no large ones, in bytes.
const SMALL_BODY: usize = 8 << 10;

/// What all nodes of a run have in common.
#[derive(Clone)]
pub struct Common {
    seed: u64,
    cluster: Cluster,
    genesis: Genesis,
    corrupt: Option<(u64, Falsify)>,
    /// How often each node was given a new key.
    renewed: Arc<Mutex<BTreeMap<NodeId, u64>>>,
    seen: Shared,
}

impl Common {
    /// A cluster of so many founders, and others that may join, to which large requests are sent, or only small ones.
    ///
    /// # Errors
    /// The cluster file that it makes is refused.
    pub fn new(
        seed: u64,
        founders: u64,
        joiners: &BTreeSet<u64>,
        large: bool,
        seen: Shared,
    ) -> Result<Self, String> {
        let rng = &mut Rng::fork(seed, "config");
        let mut text = format!("epoch_ms = {EPOCH_LENGTH_MS}\ndevelopment = true\n");
        for id in (1..=founders).chain(joiners.iter().copied()) {
            let (ip, peer, founder) = (ip(id), peer(id), id <= founders);
            let _ = writeln!(
                text,
                "[[node]]\nid = {id}\napi = \"{ip}:{API_PORT}\"\npeer = \"{peer}\"\ngenesis = {founder}"
            );
        }
        let snapshot_after_entries = rng.pick(&[100, 400, 10_000]);
        let keep_entries = rng.pick(&[20, 200]);
        // Epochs leave memory while clients still settle, seal and correct them.
        let after_epochs = rng.pick(&[0, 1, 96]);
        let keep_seals = rng.pick(&[0, 20, 100_000]);
        // And entries wait for that.
        let most_seals = rng.pick(&[0, 30, 750_000]);
        // A node that soon gives up must say what it can't know.
        let request_ms = rng.pick(&[1_000, 10_000]);
        // By the ledger's time every epoch of a run is long over.
        let auto = rng.chance(PerMillion::percent(15));
        let grace_epochs = rng.below(3);
        // In small segments the log is purged while clients work.
        let segment_bytes = rng.pick(&[64 << 10, 1 << 20]);
        // What the actors may lag behind is a multiple of that.
        let body_bytes = match rng.chance(PerMillion::percent(50)) || large {
            true => 8 << 20,
            false => SMALL_BODY,
        };
        let _ = writeln!(
            text,
            "[log]\nsnapshot_after_entries = {snapshot_after_entries}\nkeep_entries = {keep_entries}\nsegment_bytes = {segment_bytes}\n\
             [archive]\nafter_epochs = {after_epochs}\nkeep_seals = {keep_seals}\nmost_seals = {most_seals}\n\
             [limits]\nbody_bytes = {body_bytes}\n\
             [timing]\nrequest_ms = {request_ms}\n\
             [seal]\nauto = {auto}\ngrace_epochs = {grace_epochs}",
        );
        let cluster = Cluster::parse("the simulated cluster", &text).map_err(|e| e.to_string())?;
        let genesis = Genesis {
            salt: [7; 32],
            created: Timestamp::new(EPOCH_MS).unwrap_or_default(),
            epoch_ms: EPOCH_LENGTH_MS,
            nodes: (1..=founders)
                .map(|id| (id, public(&node_key(seed, id, 0))))
                .collect(),
            admins: vec![public(&key(seed, "admin", 0))],
            gateways: vec![public(&key(seed, "gateway", 0))],
            development: true,
        };
        Ok(Common {
            seed,
            cluster,
            genesis,
            corrupt: None,
            renewed: Arc::default(),
            seen,
        })
    }

    /// The ledger of this node, if any, computes wrongly from this log index on: it must notice by itself.
    pub fn corrupt(self, corrupt: Option<(u64, Falsify)>) -> Self {
        Common { corrupt, ..self }
    }

    /// The nodes' keys, as a verifier would have them: all that the founders and those who joined were ever given.
    pub fn node_keys(&self) -> Vec<(u64, [u8; 32])> {
        let renewed = self.renewed.lock();
        let of = |node: NodeId| 0..=renewed.get(&node).copied().unwrap_or(0);
        let nodes = self.cluster.nodes.iter().map(|member| member.id);
        nodes
            .flat_map(|node| of(node).map(move |n| (node, public(&node_key(self.seed, node, n)).0)))
            .collect()
    }

    /// How many entries of the log may stay behind a snapshot.
    pub fn keep_entries(&self) -> u64 {
        self.cluster.log.keep_entries
    }

    /// Which epochs are to leave memory.
    pub fn freeze_policy(&self) -> FreezePolicy {
        self.cluster.archive.policy()
    }

    /// How long a node tries what it is asked, in milliseconds.
    pub fn request_ms(&self) -> u64 {
        self.cluster.timing.request_ms
    }

    /// After how many more epochs the leader seals what is over without being asked, if it does.
    pub fn seals_after(&self) -> Option<u64> {
        let seal = &self.cluster.seal;
        seal.auto.then_some(seal.grace_epochs)
    }

    /// The cluster's id.
    pub fn id(&self) -> Digest {
        self.genesis.cluster()
    }

    /// Gives a node a new key, in use from its next start on.
    pub fn renew_key(&self, node: NodeId) {
        *self.renewed.lock().entry(node).or_default() += 1;
    }

    /// What runs on a node's machine.
    pub fn program(&self) -> Program {
        let common = self.clone();
        Rc::new(move |machine| Box::pin(node(common.clone(), machine)))
    }
}

/// What was last noted of a node for the timeline.
#[derive(Default)]
struct Drawn {
    role: Option<(Role, u64)>,
    certified: Option<(u64, u64)>,
    alarms: usize,
}

impl Drawn {
    /// Notes what has changed.
    fn look(&mut self, id: u64, status: &NodeStatus, certified: Option<(u64, u64)>) {
        let role = match status.leader {
            Some(leader) if leader == id => Role::Leads,
            Some(_) => Role::Follows,
            None => Role::Seeks,
        };
        if self.role.replace((role, status.term)) != Some((role, status.term)) {
            timeline::note(What::Role {
                role,
                term: status.term,
            });
        }
        if let Some((index, head)) = certified
            && std::mem::replace(&mut self.certified, certified) != certified
        {
            timeline::note(What::Certified(index, head));
        }
        for alarm in status.alarms.iter().skip(self.alarms) {
            timeline::note(What::Alarm(alarm.clone()));
        }
        self.alarms = status.alarms.len();
    }
}

/// The keys that a node signs with, one after the other.
pub fn node_key(seed: u64, node: NodeId, renewed: u64) -> SigningKey {
    match renewed {
        0 => key(seed, "node", node),
        n => key(seed, &format!("node, renewed {n} times,"), node),
    }
}

/// Where a node's peers reach it.
pub fn peer(node: NodeId) -> String {
    format!("{}:{PEER_PORT}", ip(node))
}

/// The keys of a seed's cluster: of `node` so and so, of `gateway` 0, of `admin` 0.
pub fn key(seed: u64, whose: &str, id: u64) -> SigningKey {
    let mut bytes = [0; 32];
    Rng::fork(seed, &format!("key of {whose} {id}")).fill(&mut bytes);
    SigningKey::from_bytes(&bytes)
}

/// The public half.
pub fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

async fn node(common: Common, machine: Machine) -> Result<(), String> {
    let Common {
        seed,
        cluster,
        genesis,
        corrupt,
        renewed,
        seen,
    } = common;
    let (id, life) = (machine.id, machine.boot);
    {
        let mut seen = seen.lock();
        seen.applied.remove(&id);
        if corrupt.is_some_and(|(node, _)| node == id) {
            seen.wrong.since_ms = None;
        }
        seen.leaders.remove(&id);
        seen.gateways.remove(&id);
    }
    let config = NodeConfig {
        id,
        cluster,
        genesis,
        node_key: node_key(seed, id, renewed.lock().get(&id).copied().unwrap_or(0)),
        gateway_key: Some(key(seed, "gateway", 0)),
        falsify: corrupt.filter(|(node, _)| *node == id).map(|(_, how)| how),
    };
    let seams = Seams {
        disk: Arc::new(machine.disk),
        network: Arc::new(machine.network),
        clock: Arc::new(machine.clock),
        entropy: machine.entropy,
    };
    let node = start(config, seams).await.map_err(|e| e.to_string())?;
    let gateway = node.gateway().clone();
    seen.lock().gateways.insert(id, (life, gateway.clone()));
    let mut drawn = Drawn::default();
    let look = async {
        loop {
            let status = gateway.status();
            let (applied, state, certified) = {
                let ledger = gateway.ledger().read();
                let certified = ledger
                    .certified()
                    .zip(ledger.head().map(|block| block.header.index));
                (ledger.applied(), ledger.state().to_string(), certified)
            };
            drawn.look(id, &status, certified);
            let wrong = corrupt.is_some_and(|(node, _)| node == id);
            let alarmed = !wrong && !status.alarms.is_empty();
            {
                let mut seen = seen.lock();
                if wrong {
                    seen.look_at_wrong(id, applied, &state, !status.alarms.is_empty());
                } else {
                    seen.look(id, applied, state);
                }
                seen.leaders.insert(id, (status.term, status.leader));
                if alarmed {
                    seen.violate("alarm", format!("n{id} raises {:?}", status.alarms));
                }
            }
            if alarmed {
                return std::future::pending().await;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let mut stop = machine.stop;
    tokio::select! {
        why = node.stopped() => return Err(why),
        never = look => return never,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    node.shutdown().await.map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Who;

    /// When the complaint came, if a node with a wrong ledger is looked at every 20 ms until then, and applies an entry
    /// every so often, from a moment on.
    fn told_ms(from_ms: u64, every_ms: u64, until_ms: u64) -> Option<u64> {
        trace::begin(None);
        let mut seen = Seen::default();
        for at_ms in (1_000..until_ms).step_by(20) {
            trace::enter(at_ms, Who::Node(2));
            let applied = at_ms.saturating_sub(from_ms).div_ceil(every_ms);
            seen.look(1, Some(applied), "right".into());
            seen.look_at_wrong(2, Some(applied), "wrong", false);
        }
        trace::end();
        assert!(seen.violations.len() <= 1, "told once");
        seen.violations.first().map(|violation| violation.at_ms)
    }

    #[test]
    fn a_wrong_ledger_has_time_to_notice_while_it_hears_of_entries() {
        let told = told_ms(1_000, 500, 60_000).expect("it never notices");
        assert!((11_000..11_200).contains(&told), "{told}");
        // Cut off, it can't notice; once the others are back it must.
        assert_eq!(told_ms(40_000, 500, 40_000), None);
        let told = told_ms(40_000, 500, 60_000).expect("it never notices");
        assert!((49_000..50_200).contains(&told), "{told}");
    }
}
