//! One workload: a fresh cluster, a load, a crash of all nodes under it, and the check of what is left.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use raft::DiskWork;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::Failure;
use super::check;
use super::cluster::Cluster;
use super::latency::Latencies;
use super::load::{Load, Plan, Sent};
use super::pace::Pace;
use super::payload::{self, Form};
use super::plan::{Who, Workload};
use super::population::Population;
use super::process;
use super::report::{Row, Shares};
use crate::client::stream::StreamClient;
use crate::client::{Ask, Client};

/// Streams that the clients of a load share.
const STREAMS: usize = 8;
/// Calls under way at once while rules and contracts are set up.
const AT_ONCE: usize = 64;
/// How long the nodes run on under load after the measurement, before they are killed.
const BEFORE_THE_CRASH: Duration = Duration::from_millis(100);

/// What all processes have used, and when it was asked.
struct Mark {
    at: Instant,
    nodes: Vec<f64>,
    driver: f64,
    disk: DiskWork,
}

impl Mark {
    async fn take(cluster: &Cluster) -> Result<Self, Failure> {
        Ok(Self {
            disk: cluster.disk_work().await?,
            at: Instant::now(),
            nodes: cluster.cpu_s()?,
            driver: process::cpu_s(std::process::id())
                .map_err(|error| Failure::Broken(format!("/proc: {error}")))?,
        })
    }
}

/// Runs a workload to its row.
///
/// # Errors
/// If the cluster refuses the load, loses an acknowledged settlement, or the nodes disagree.
pub(super) async fn run(dir: &Path, workload: &Workload) -> Result<Row, Failure> {
    let mut cluster = Cluster::start(dir).await?;
    let population = Arc::new(match workload.who {
        Who::Flat(meters) => Population::flat(meters),
        Who::Grid(assets, contracts) => Population::grid(assets, contracts),
        Who::Year(meters) => Population::year(meters),
    });
    prepare(&cluster.client, &population).await?;
    let encoder = payload::encoder(workload.form, &cluster.client, &population, workload.batch).await?;
    let term = term(&cluster).await?;
    let leader = cluster.leader().await?;
    let streams = match workload.form {
        Form::Stream => streams(&cluster.client, leader).await?,
        Form::Lines | Form::Packed => Vec::new(),
    };

    let sealer = workload
        .seals()
        .then(|| Sealer::start(Arc::clone(&cluster.client)));
    let mut load = Load::start(Plan {
        client: Arc::clone(&cluster.client),
        population: Arc::clone(&population),
        encoder,
        batch: workload.batch,
        clients: workload.clients,
        target: workload.target,
        leader,
        complete: sealer.as_ref().map(|sealer| sealer.epochs.clone()),
        pace: Pace::default(),
        streams,
    });
    let begun = Instant::now();
    let marks = tokio::select! {
        marks = async {
            sleep_until(begun + workload.warm_up).await;
            let from = Mark::take(&cluster).await?;
            sleep_until(from.at + workload.measured).await;
            let to = Mark::take(&cluster).await?;
            Ok::<_, Failure>((from, to))
        } => marks?,
        failure = load.failed() => return Err(failure),
    };
    let peak_rss = cluster.peak_rss()?;
    let elections = self::term(&cluster).await?.saturating_sub(term);
    let seals = match sealer {
        Some(sealer) => sealer.stop().await?,
        None => Seals::default(),
    };

    // Everything dies in the middle of the work.
    sleep(BEFORE_THE_CRASH).await;
    load.expect_silence();
    let restart = async {
        let restart = cluster.crash().await;
        (restart, load.stop().await)
    };
    let (restart, sent) = restart.await;
    let (restart, sent) = (restart?, sent?);
    let checked = check::check(&cluster.client, &population, &sent, workload.check).await?;
    cluster.agreed().await?;
    cluster.discard().await?;
    Ok(Row {
        elections,
        restart,
        checked,
        seals,
        ..measured(workload, marks, &sent, peak_rss)
    })
}

/// Binary streams to a node.
async fn streams(client: &Client, node: usize) -> Result<Vec<StreamClient>, Failure> {
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let stream = StreamClient::connect(client.address(node)).await;
        streams.push(stream.map_err(|error| Failure::Unavailable(error.to_string()))?);
    }
    Ok(streams)
}

/// The figures between two marks.
fn measured(workload: &Workload, (from, to): (Mark, Mark), sent: &Sent, peak_rss: u64) -> Row {
    let within = |at: Instant| at >= from.at && at < to.at;
    let mut latencies = Latencies::default();
    let mut settlements = 0u64;
    for one in sent.acknowledged.iter().filter(|one| within(one.at)) {
        latencies.add(one.took);
        settlements += one.slice.len as u64;
    }
    let nodes: Vec<f64> = to
        .nodes
        .iter()
        .zip(&from.nodes)
        .map(|(later, earlier)| later - earlier)
        .collect();
    let driver = to.driver - from.driver;
    let seconds = (to.at - from.at).as_secs_f64();
    let each = |amount: f64| {
        if settlements == 0 {
            0.0
        } else {
            amount / settlements as f64
        }
    };
    Row {
        name: workload.name.clone(),
        batch: workload.batch,
        clients: workload.clients,
        settlements_per_s: settlements as f64 / seconds,
        p50_us: latencies.at(0.5),
        p99_us: latencies.at(0.99),
        p999_us: latencies.at(0.999),
        samples: latencies.len(),
        cpu_s_per_million: each((nodes.iter().sum::<f64>() + driver) * 1e6),
        bytes_per_settlement: each(to.disk.bytes.saturating_sub(from.disk.bytes) as f64),
        peak_rss,
        fsyncs: to.disk.syncs.saturating_sub(from.disk.syncs),
        pushed_back: sent.pushed_back,
        shares: Shares {
            nodes: nodes.iter().map(|used| used / seconds).collect(),
            driver: driver / seconds,
        },
        ..Row::default()
    }
}

/// Sets up rules, then contracts.
pub(super) async fn prepare(client: &Client, population: &Population) -> Result<(), Failure> {
    for calls in population.prepare() {
        stream::iter(calls.iter().enumerate())
            .map(|(turn, ask)| async move {
                client.call(turn, ask).await?.ok(&ask.action)?;
                Ok::<_, Failure>(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

/// The term that the nodes are in: one more, and there was an election.
async fn term(cluster: &Cluster) -> Result<u64, Failure> {
    let leader = cluster.leader().await?;
    Ok(cluster.status(leader).await?["term"].as_u64().unwrap_or(0))
}

/// What was sealed meanwhile.
#[derive(Debug, Clone, Default)]
pub(super) struct Seals {
    /// Seals made.
    pub(super) seals: u64,
    /// Whole epochs, and how long each took.
    pub(super) epochs: Latencies,
}

/// Seals epochs as they become complete, one after another.
pub(super) struct Sealer {
    /// Where complete epochs are reported to.
    pub(super) epochs: mpsc::UnboundedSender<u64>,
    /// How many are sealed.
    pub(super) sealed: tokio::sync::watch::Receiver<u64>,
    work: JoinHandle<Result<Seals, Failure>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Sealer {
    pub(super) fn start(client: Arc<Client>) -> Self {
        let (epochs, mut complete) = mpsc::unbounded_channel();
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let (tell, sealed) = tokio::sync::watch::channel(0);
        let work = tokio::spawn(async move {
            let mut seals = Seals::default();
            loop {
                let epoch: Option<u64> = tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => None,
                    epoch = complete.recv() => epoch,
                };
                let Some(epoch) = epoch else { return Ok(seals) };
                let ask = Ask::once(
                    "balancing.sealEpoch",
                    &json!({"epoch": epoch, "brief": true}),
                    format!("seal-{epoch}"),
                );
                let begun = Instant::now();
                let answer = client.call(0, &ask).await?.ok(&ask.action)?;
                seals.epochs.add(begun.elapsed());
                if answer["held"].as_array().is_none_or(|held| !held.is_empty()) {
                    return Err(Failure::Broken(format!(
                        "epoch {epoch} could not be sealed whole"
                    )));
                }
                seals.seals += answer["seals"].as_array().map_or(0, |seals| seals.len() as u64);
                tell.send_modify(|sealed| *sealed += 1);
            }
        });
        Self {
            epochs,
            sealed,
            work,
            stop,
        }
    }

    /// Lets it end with the epoch it is at.
    pub(super) async fn stop(self) -> Result<Seals, Failure> {
        // An error means that it has ended already, and why comes with it.
        let _ = self.stop.send(true);
        self.work
            .await
            .map_err(|error| Failure::Broken(format!("the sealing client: {error}")))?
    }
}
