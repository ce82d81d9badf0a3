//! Clients: a seeded community that settles, trades, seals and corrects through whichever node it finds.
//!
//! Several clients work at once, on the same assets and epochs, so that they seal what others seal and report what is
//! late by the time it arrives. Each operation carries an idempotency key; without an answer it is tried again
//! through other nodes, a few times, and then its outcome stays unknown. Some answered ones are sent again on
//! purpose: the answer must be the same.
//!
//! Meanwhile an admin carries out the plan's orders ([`crate::admin`]), and a rogue tries what must not work.
//!
//! When the faults are over, [`run`] asks of the cluster what SPEC promises of a healthy one: that every node takes
//! writes, that everything can be sealed, that every block is certified; and notes what each node then shows.

mod blunder;
mod chase;
mod client;
mod community;
mod crowd;
mod mix;
mod questions;
pub mod roster;
mod tardy;
mod trade;
mod week;
mod work;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use checkers::history::History;
use parking_lot::Mutex;

use self::client::Client;
use self::community::Community;
pub use self::mix::Mix;
use crate::admin::{Admin, Told};
use crate::clock::Time;
use crate::host::{Machine, Program};
use crate::http::Http;
use crate::rng::Rng;
use crate::rogue::Rogue;

/// The first epoch that is settled.
const FIRST_EPOCH: u64 = 1_000;
/// Virtual milliseconds after which clients go on to the next epoch.
const EPOCH_EVERY_MS: u64 = 2_000;
/// Takes part in no settlement.
const ROOT: &str = "eaf_generic_balancegroup";
/// Epochs back that clients still report for.
const LATE_EPOCHS: u64 = 3;
/// The longest `timing.request_ms` of a simulated cluster (the default), and a little for what is on its way.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long after the faults the last transfer between nodes is given up that one of them cut off: it keeps files from going.
const GIVEN_UP_MS: u64 = 22_500;

/// How long nobody asks for anything, where that is tried.
pub const IDLE: Duration = Duration::from_secs(45);

/// How many may settle at once in the name of one client.
const CROWD: usize = 8;

/// How the clients behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Which cluster it is.
    pub cluster: ledger::Digest,
    /// How many founders there are to talk to.
    pub nodes: u64,
    /// How many clients work at once.
    pub clients: u64,
    /// Virtual milliseconds until they end their work.
    pub until_ms: u64,
    /// How often they do what.
    pub mix: Mix,
    /// Operations, by their key, that are left out: what a smaller run with the same failure does without.
    pub mute: BTreeSet<String>,
    /// Nodes that may be beyond repair when the faults are over, so that nothing is asked of them then.
    pub excused: BTreeSet<u64>,
    /// Nodes whose ledgers compute wrongly: what they answer is worth nothing, so nobody asks them anything.
    pub distrusted: BTreeSet<u64>,
    /// How long a node tries what it is asked, in milliseconds.
    pub request_ms: u64,
    /// After how many more epochs the leader seals what is over without being asked, if it does.
    pub seals_after: Option<u64>,
    /// Whether all founders vote all the time and can sign: then no block needs a later one to be certified.
    pub unmoved: bool,
    /// Whether nobody asks anything for a while at the end: time must go on all the same. Not where clocks jumped.
    pub idle: bool,
    /// What an admin does while they work.
    pub admin: Option<Told>,
    /// Who is there.
    pub roster: roster::Shared,
}

/// The clients' machine: all of them in one process.
pub fn program(options: Options, history: Arc<Mutex<History>>) -> Program {
    Rc::new(move |machine: Machine| {
        let gateway = crate::cluster::key(options.seed, "gateway", 0);
        Box::pin(run(
            options.clone(),
            gateway,
            Arc::new(machine.network),
            machine.time,
            Arc::clone(&history),
        ))
    })
}

/// The clients' work and the final questions, over any network: a simulated one, or TCP. `gateway` is the key of the
/// cluster's gateways, which a rogue client has got hold of.
///
/// # Errors
/// One of the final questions got no answer, or the wrong one.
pub async fn run(
    options: Options,
    gateway: ed25519_dalek::SigningKey,
    network: Arc<dyn raft::Network>,
    time: Time,
    history: Arc<Mutex<History>>,
) -> Result<(), String> {
    let mut community = Community::draw(&mut Rng::fork(options.seed, "community"));
    if options.mix.week > 0 {
        community.add_week();
    }
    let community = Arc::new(community);
    let auditor = hex::encode(gateway.verifying_key().to_bytes());
    let client = |name: &str| Client {
        name: name.to_owned(),
        rng: Rng::fork(options.seed, &format!("client {name}")),
        http: Http::new(Arc::clone(&network)),
        second: Http::new(Arc::clone(&network)),
        crowd: (0..CROWD).map(|_| Http::new(Arc::clone(&network))).collect(),
        time: time.clone(),
        roster: Arc::clone(&options.roster),
        mix: options.mix,
        mute: options.mute.clone(),
        excused: options.excused.clone(),
        distrusted: options.distrusted.clone(),
        community: Arc::clone(&community),
        history: Arc::clone(&history),
        auditor: auditor.clone(),
        request_ms: options.request_ms,
        made: 0,
        noted: (0, 0),
    };
    let phase = |what: &str| history.lock().phase = what.to_owned();

    phase("found the community");
    client("founder").found().await;
    phase("work");
    let working = (1..=options.clients).map(|n| client(&format!("c{n}")).work(options.until_ms));
    let rogue = Rogue {
        rng: Rng::fork(options.seed, "rogue"),
        http: Http::new(Arc::clone(&network)),
        time: time.clone(),
        nodes: options.nodes,
        meter: community.meters[0]
            .id
            .as_str()
            .try_into()
            .map_err(|_| "a meter has no name")?,
        gateway: gateway.clone(),
        cluster: options.cluster,
        history: Arc::clone(&history),
    };
    let mut admin = options.admin.clone().map(|told| Admin {
        rng: Rng::fork(options.seed, "admin"),
        http: Http::new(Arc::clone(&network)),
        time: time.clone(),
        key: gateway,
        told,
        roster: Arc::clone(&options.roster),
        history: Arc::clone(&history),
    });
    let administrating = async {
        if let Some(admin) = &mut admin {
            admin.work().await;
        }
    };
    futures::join!(
        futures::future::join_all(working),
        rogue.work(options.until_ms),
        administrating
    );

    let mut judge = client("judge");
    phase("the membership is what admins said");
    judge.await_members().await?;
    // What comes after it would certify a block as well; a signature that was given up shows only while nothing does.
    if options.unmoved {
        phase("every block of before is certified on every node");
        judge.await_certificates().await;
    }
    phase("every node takes a write");
    judge.write_everywhere().await?;
    if let Some(grace_epochs) = options.seals_after {
        phase("the leader seals by itself");
        judge.await_own_seals(grace_epochs).await?;
    }
    phase("a node that has raised the alarm answers for nothing");
    judge.ask_the_alarmed().await?;
    phase("everything can be sealed");
    judge.seal_everything().await?;
    phase("every block is certified on every node");
    judge.await_certificates().await;
    if judge.roster.lock().away.take().is_some() {
        history.lock().count("all sealed and certified without one node");
        phase("the node that was away has every block, too");
        judge.await_certificates().await;
    }
    if options.seals_after.is_none() {
        phase("what comes late is taken");
        judge.leave_late().await?;
    }
    // What a client gave up is offered on by the node that has it, for as long as a request may take: only then
    // does nothing change any more, and nodes that are looked at one after the other can be compared.
    tokio::time::sleep(PATIENCE).await;
    phase("every node shows the same");
    judge.look_everywhere().await?;
    if options.idle {
        phase("time goes on while nobody asks for anything");
        judge.await_time().await?;
    }
    if let Some(admin) = &mut admin {
        phase("every node takes a snapshot and drops what is behind it");
        let left_ms = (options.until_ms + GIVEN_UP_MS).saturating_sub(time.now_ms());
        tokio::time::sleep(Duration::from_millis(left_ms)).await;
        admin.tidy(judge.healthy()).await?;
    }
    phase("done");
    Ok(())
}
