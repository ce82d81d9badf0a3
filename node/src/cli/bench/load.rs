//! The load: clients that settle slices of a population as fast as the cluster takes them.
//!
//! A client sends its next request when the last one is answered. What always holds: each pair of meter and epoch
//! is sent once, or as often as the [`Pace`] says. What was pushed back (429, 503) certainly had no effect and is sent again, and its latency goes on
//! counting; what was not answered, or 504, is *unknown* and never sent again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ledger::Settlement;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::Failure;
use super::cluster::Cluster;
use super::pace::Pace;
use super::payload::{self, Encoder, Form};
use super::population::{Population, Slice};
use crate::client::stream::StreamClient;
use crate::client::{Ask, Client, Reply};
use crate::stream;

/// The first epoch that is settled.
pub(super) const FIRST_EPOCH: u64 = 1_900_000;
/// How long a client that was pushed back waits.
const PUSHED_BACK: Duration = Duration::from_millis(5);
/// How long a client tries to connect: a thousand do so at once.
const CONNECT: Duration = Duration::from_secs(30);

/// Which slices there are, in order: epoch after epoch, each meter once in each.
#[derive(Debug)]
pub(super) struct Schedule {
    meters: usize,
    batch: usize,
    /// How often each meter comes in an epoch.
    rounds: u64,
    next: AtomicU64,
}

impl Schedule {
    pub(super) fn new(meters: usize, batch: usize, rounds: u64) -> Self {
        Self {
            meters,
            batch,
            rounds,
            next: AtomicU64::new(0),
        }
    }

    /// The next slice; nobody gets it again.
    pub(super) fn next(&self) -> Slice {
        self.slice(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn slice(&self, turn: u64) -> Slice {
        let a_round = self.meters.div_ceil(self.batch) as u64;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below the number of slices of a round"
        )]
        let first = (turn % a_round) as usize * self.batch;
        Slice {
            epoch: FIRST_EPOCH + turn / (a_round * self.rounds),
            first,
            len: self.batch.min(self.meters - first),
        }
    }
}

/// Where requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// To the node that leads.
    Leader,
    /// To all nodes in turn.
    All,
}

/// A request that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledged {
    pub(super) slice: Slice,
    /// When, and how long after it was first sent.
    pub(super) at: Instant,
    pub(super) took: Duration,
}

/// What became of a load.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Requests whose outcome nobody told.
    pub(super) unknown: Vec<Slice>,
    /// How often a node asked to wait.
    pub(super) pushed_back: u64,
}

impl Sent {
    /// Settlements that were acknowledged.
    pub(super) fn settlements(&self) -> u64 {
        self.acknowledged.iter().map(|one| one.slice.len as u64).sum()
    }
}

/// A load under way.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Result<Sent, Failure>>,
}

struct Shared {
    client: Arc<Client>,
    population: Arc<Population>,
    encoder: Box<dyn Encoder>,
    schedule: Schedule,
    target: Target,
    leader: AtomicUsize,
    stop: AtomicBool,
    /// Silence is expected: the nodes are being killed.
    dying: AtomicBool,
    /// Settlements acknowledged so far.
    acknowledged: AtomicU64,
    /// Settlements acknowledged so far, by epoch, until an epoch is complete; then it goes to whoever listens.
    open: Mutex<BTreeMap<u64, u64>>,
    complete: Option<mpsc::UnboundedSender<u64>>,
    pace: Pace,
    streams: Vec<StreamClient>,
}

/// What a load is made of.
pub(super) struct Plan {
    pub(super) client: Arc<Client>,
    pub(super) population: Arc<Population>,
    pub(super) encoder: Box<dyn Encoder>,
    pub(super) batch: usize,
    pub(super) clients: usize,
    pub(super) target: Target,
    /// The position of the leader at the beginning.
    pub(super) leader: usize,
    /// Hears of epochs in which every meter's settlement is acknowledged.
    pub(super) complete: Option<mpsc::UnboundedSender<u64>>,
    pub(super) pace: Pace,
    /// Binary streams to the leader that the clients share, instead of a connection of HTTP each.
    pub(super) streams: Vec<StreamClient>,
}

impl Plan {
    /// Packed batches to the leader, as fast as they go.
    ///
    /// # Errors
    /// Nobody leads, or the population's rosters are refused.
    pub(super) async fn packed(
        cluster: &Cluster,
        population: &Arc<Population>,
        batch: usize,
        clients: usize,
    ) -> Result<Self, Failure> {
        Ok(Plan {
            client: Arc::clone(&cluster.client),
            population: Arc::clone(population),
            encoder: payload::encoder(Form::Packed, &cluster.client, population, batch).await?,
            batch,
            clients,
            target: Target::Leader,
            leader: cluster.leader().await?,
            complete: None,
            pace: Pace::default(),
            streams: Vec::new(),
        })
    }
}

impl Load {
    /// Starts the clients.
    pub(super) fn start(plan: Plan) -> Self {
        let shared = Arc::new(Shared {
            client: plan.client,
            schedule: Schedule::new(plan.population.len(), plan.batch, plan.pace.rounds),
            population: plan.population,
            encoder: plan.encoder,
            target: plan.target,
            leader: AtomicUsize::new(plan.leader),
            stop: AtomicBool::new(false),
            dying: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            open: Mutex::default(),
            complete: plan.complete,
            pace: plan.pace,
            streams: plan.streams,
        });
        let mut clients = JoinSet::new();
        for me in 0..plan.clients {
            clients.spawn(Arc::clone(&shared).work(me));
        }
        Self { shared, clients }
    }

    /// Completes when a client can't go on, with the reason. Otherwise never.
    pub(super) async fn failed(&mut self) -> Failure {
        match self.clients.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Ok(Ok(_))) => Failure::Broken("a client stopped for no reason".to_owned()),
            Some(Err(error)) => Failure::Broken(format!("a client of the load: {error}")),
            None => std::future::pending().await,
        }
    }

    /// Lets it go on for so long.
    ///
    /// # Errors
    /// A client failed meanwhile.
    pub(super) async fn go_on(&mut self, time: Duration) -> Result<(), Failure> {
        tokio::select! {
            () = sleep(time) => Ok(()),
            failure = self.failed() => Err(failure),
        }
    }

    /// Settlements acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// From now on a node's silence is no failure.
    pub(super) fn expect_silence(&self) {
        self.shared.dying.store(true, Ordering::Relaxed);
    }

    /// Lets every client end with the request it is at.
    pub(super) async fn stop(mut self) -> Result<Sent, Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Sent::default();
        while let Some(client) = self.clients.join_next().await {
            let sent =
                client.map_err(|error| Failure::Broken(format!("a client of the load: {error}")))??;
            all.acknowledged.extend(sent.acknowledged);
            all.unknown.extend(sent.unknown);
            all.pushed_back += sent.pushed_back;
        }
        Ok(all)
    }
}

/// What one request came to.
enum Outcome {
    Acknowledged,
    Unknown,
}

impl Shared {
    async fn work(self: Arc<Self>, me: usize) -> Result<Sent, Failure> {
        let mut sent = Sent::default();
        self.connect(me).await?;
        while !self.stop.load(Ordering::Relaxed) {
            let slice = self.schedule.next();
            let begun;
            let outcome = if self.streams.is_empty() {
                let ask = self.encoder.encode(&self.population, &slice);
                begun = self.pace.wait(&slice).await;
                self.persist(me, &ask, &slice, &mut sent.pushed_back).await?
            } else {
                let settlements = payload::settlements(&self.population, &slice);
                begun = self.pace.wait(&slice).await;
                self.stream(me, settlements, &mut sent.pushed_back).await?
            };
            match outcome {
                Outcome::Acknowledged => {
                    let at = Instant::now();
                    sent.acknowledged.push(Acknowledged {
                        slice,
                        at,
                        took: at - begun,
                    });
                    self.count(&slice);
                }
                Outcome::Unknown => sent.unknown.push(slice),
            }
        }
        Ok(sent)
    }

    /// Makes sure that there is a connection, before anything is sent whose outcome matters.
    async fn connect(&self, me: usize) -> Result<(), Failure> {
        let begun = Instant::now();
        let hello = Ask::get("/healthz");
        while let Err(silence) = self.client.send(self.node(me), &hello).await? {
            if begun.elapsed() > CONNECT {
                return Err(Failure::Unavailable(silence));
            }
            sleep(PUSHED_BACK).await;
        }
        Ok(())
    }

    fn node(&self, me: usize) -> usize {
        match self.target {
            Target::Leader => self.leader.load(Ordering::Relaxed),
            Target::All => me,
        }
    }

    /// Sends a request until it is answered, or until its outcome is unknown.
    async fn persist(
        &self,
        me: usize,
        ask: &Ask,
        slice: &Slice,
        pushed_back: &mut u64,
    ) -> Result<Outcome, Failure> {
        loop {
            match self.client.send(self.node(me), ask).await? {
                Ok(reply) if reply.is_ok() => return accepted(&reply, slice),
                Ok(reply) if matches!(reply.status, 429 | 503) => {
                    *pushed_back += 1;
                    if self.stop.load(Ordering::Relaxed) {
                        // Certainly without effect, and never to be sent: as good as unknown, for the check.
                        return Ok(Outcome::Unknown);
                    }
                    self.look_for_leader().await;
                    sleep(PUSHED_BACK).await;
                }
                Ok(reply) if reply.status == 504 => return Ok(Outcome::Unknown),
                Ok(reply) => {
                    let said = String::from_utf8_lossy(&reply.body).into_owned();
                    return Err(Failure::Refused(format!(
                        "{}: {} {said}",
                        ask.action, reply.status
                    )));
                }
                Err(silence) if self.dying.load(Ordering::Relaxed) => {
                    drop(silence);
                    // A dead node answers at once: without a pause this would spin.
                    sleep(PUSHED_BACK).await;
                    return Ok(Outcome::Unknown);
                }
                Err(silence) => return Err(Failure::Unavailable(silence)),
            }
        }
    }

    /// The same over a stream.
    async fn stream(
        &self,
        me: usize,
        settlements: Vec<Settlement>,
        pushed_back: &mut u64,
    ) -> Result<Outcome, Failure> {
        let stream = &self.streams[me % self.streams.len()];
        loop {
            match stream.settle(settlements.clone(), None).await {
                Ok(stream::Reply::Done { .. }) => return Ok(Outcome::Acknowledged),
                Ok(stream::Reply::Failed {
                    status: 429 | 503, ..
                }) => {
                    *pushed_back += 1;
                    if self.stop.load(Ordering::Relaxed) {
                        return Ok(Outcome::Unknown);
                    }
                    sleep(PUSHED_BACK).await;
                }
                Ok(stream::Reply::Failed { status: 504, .. }) => return Ok(Outcome::Unknown),
                Ok(failed) => return Err(Failure::Refused(format!("the stream: {failed:?}"))),
                Err(_) if self.dying.load(Ordering::Relaxed) => {
                    sleep(PUSHED_BACK).await;
                    return Ok(Outcome::Unknown);
                }
                Err(silence) => return Err(Failure::Unavailable(format!("the stream: {silence}"))),
            }
        }
    }

    async fn look_for_leader(&self) {
        if self.target == Target::Leader
            && let Some(leader) = self.client.leader().await
        {
            self.leader.store(leader, Ordering::Relaxed);
        }
    }

    /// Counts an acknowledgement, and reports an epoch of which all is acknowledged.
    fn count(&self, slice: &Slice) {
        self.acknowledged.fetch_add(slice.len as u64, Ordering::Relaxed);
        let Some(complete) = &self.complete else { return };
        let mut open = self.open.lock();
        let settled = open.entry(slice.epoch).or_default();
        *settled += slice.len as u64;
        if *settled == self.population.len() as u64 * self.pace.rounds {
            open.remove(&slice.epoch);
            // Nobody listens any more at the end.
            let _ = complete.send(slice.epoch);
        }
    }
}

/// An acknowledgement says how many were booked; a single one's has its statement.
fn accepted(reply: &Reply, slice: &Slice) -> Result<Outcome, Failure> {
    #[derive(serde::Deserialize)]
    struct Accepted {
        accepted: Option<usize>,
    }
    let accepted = serde_json::from_slice::<Accepted>(&reply.body)
        .ok()
        .and_then(|body| body.accepted);
    if slice.len == 1 || accepted == Some(slice.len) {
        return Ok(Outcome::Acknowledged);
    }
    Err(Failure::Broken(format!(
        "{} settlements were sent, but the answer is {}",
        slice.len,
        String::from_utf8_lossy(&reply.body)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meter_comes_once_an_epoch() {
        let schedule = Schedule::new(250, 100, 1);
        let slices: Vec<Slice> = (0..6).map(|_| schedule.next()).collect();
        let meters: Vec<(u64, usize)> = slices
            .iter()
            .flat_map(|slice| slice.meters().map(|meter| (slice.epoch - FIRST_EPOCH, meter)))
            .collect();
        let expected: Vec<(u64, usize)> = (0..2)
            .flat_map(|epoch| (0..250).map(move |meter| (epoch, meter)))
            .collect();
        assert_eq!(meters, expected);
    }

    #[test]
    fn or_as_often_as_said() {
        let schedule = Schedule::new(150, 100, 3);
        let slices: Vec<(u64, usize)> = (0..12)
            .map(|_| schedule.next())
            .map(|slice| (slice.epoch - FIRST_EPOCH, slice.first))
            .collect();
        let an_epoch = [0, 100].repeat(3);
        let expected: Vec<(u64, usize)> = (0..2)
            .flat_map(|epoch| an_epoch.iter().map(move |first| (epoch, *first)))
            .collect();
        assert_eq!(slices, expected);
    }
}
