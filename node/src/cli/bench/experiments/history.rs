//! Whether memory and restart follow what is open or what ever was: epoch after epoch settled, sealed and archived.
//!
//! Each meter reports a hundred times an epoch, so that history grows; the next epoch begins while one is sealed. First as
//! fast as it goes, when an acknowledgement waits for those before it, then at an even rate that the cluster can stand: how long
//! acknowledgements wait for sealing, archiving and snapshots. Nobody is killed meanwhile, so an election would be a false one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::super::super::Failure;
use super::super::super::table::thousands;
use super::super::check;
use super::super::cluster::Cluster;
use super::super::latency::Latencies;
use super::super::load::{FIRST_EPOCH, Load, Plan, Sent};
use super::super::pace::{Pace, Tempo};
use super::super::population::Population;
use super::super::workload::{Sealer, prepare};
use super::{EUROPE, Finding, memory};
use crate::client::Ask;

const BATCH: usize = 4_000;
const CLIENTS: usize = 4;
const METERS: usize = 4_000;
/// How often each reports in an epoch.
const ROUNDS: u64 = 100;
/// Epochs that may be open at once.
const AHEAD: u64 = 2;
/// How long the even rate lasts, that of the European Union's meters, but no more than half of what went; and from when on
/// its acknowledgements count: those of requests that were under way before don't.
const EVENLY: Duration = Duration::from_secs(30);
const SETTLING: Duration = Duration::from_secs(1);
/// Reads of archived epochs, each of another one.
const READS: u64 = 50;
/// Looks at memory and disk on the way.
const LOOKS: u64 = 10;
/// How long the check may take.
const CHECK: Duration = Duration::from_secs(30);

pub(super) async fn run(dir: &Path, settlements: u64) -> Result<Finding, Failure> {
    let mut cluster = Cluster::start(dir).await?;
    let population = Arc::new(Population::grid(METERS, 0));
    prepare(&cluster.client, &population).await?;
    let before = term(&cluster).await?;
    let sealer = Sealer::start(Arc::clone(&cluster.client));
    let tempo = Tempo::default();
    let mut load = Load::start(Plan {
        complete: Some(sealer.epochs.clone()),
        pace: Pace {
            rounds: ROUNDS,
            ahead: Some((sealer.sealed.clone(), AHEAD)),
            tempo: Some(tempo.clone()),
        },
        ..Plan::packed(&cluster, &population, BATCH, CLIENTS).await?
    });
    let begun = Instant::now();
    let mut looks = Vec::new();
    for look in 1..=LOOKS {
        memory::reach(&mut load, settlements * look / LOOKS).await?;
        let (done, rss, stored) = (load.acknowledged(), cluster.rss()?, cluster.stored()?);
        eprintln!(
            "    {} settlements in {:.0} s: {} MiB resident, {} MiB on the disk",
            thousands(done.into()),
            begun.elapsed().as_secs_f64(),
            rss >> 20,
            stored >> 20
        );
        looks.push(
            json!({"settlements": done, "seconds": begun.elapsed().as_secs_f64().round(),
            "rss_bytes": rss, "stored_bytes": stored}),
        );
    }
    let fast = load.acknowledged() as f64 / begun.elapsed().as_secs_f64();
    let even_rate = EUROPE.min(fast / 2.0);
    let evenly = Instant::now();
    tempo.set(even_rate);
    load.go_on(EVENLY).await?;
    let elections = term(&cluster).await? - before;
    let seals = sealer.stop().await?;
    load.expect_silence();
    let killed = Instant::now();
    let restart = cluster.crash().await?;
    let sent = load.stop().await?;
    let (fast_acks, even_acks) = (acks(&sent, begun, evenly), acks(&sent, evenly + SETTLING, killed));
    let (rss, peak) = (cluster.rss()?, cluster.peak_rss()?);

    let mut reads = Latencies::default();
    let sealed = seals.epochs.len() as u64;
    for (turn, read) in (0..READS).enumerate() {
        let epoch = FIRST_EPOCH + sealed * read / READS;
        let meter = population.meter(turn * 389 % population.len());
        let ask = Ask::new("balancing.balance", &json!({"assetId": meter, "epoch": epoch}));
        let asked = Instant::now();
        let balance = cluster.client.call(0, &ask).await?.ok(&ask.action)?;
        reads.add(asked.elapsed());
        if balance["epoch"] != epoch {
            return Err(Failure::Broken(format!("epoch {epoch} reads {balance}")));
        }
    }
    let checked = check::check(&cluster.client, &population, &sent, CHECK).await?;
    cluster.agreed().await?;
    cluster.discard().await?;
    let (p50, most) = (reads.at(0.5), reads.at(1.0));
    let [ack_p50, ack_p99, ack_p999, ack_most] = fast_acks;
    let [even_p50, even_p99, even_p999, even_most] = even_acks;
    let ms = |micros: [u64; 4]| {
        let [p50, p99, p999, most] = micros.map(|micros| micros as f64 / 1_000.0);
        format!("{p50:.1} / {p99:.1} / {p999:.1} / {most:.1} ms")
    };
    Ok(Finding {
        json: json!({"settlements": sent.settlements(), "epochs_sealed": seals.epochs.len(), "looks": looks,
            "elections": elections, "restart_s": restart.as_secs_f64(), "rss_after_restart_bytes": rss, "peak_rss_after_restart_bytes": peak,
            "ack_p50_us": ack_p50, "ack_p99_us": ack_p99, "ack_p999_us": ack_p999, "ack_most_us": ack_most,
            "even_rate": even_rate.round(), "even_ack_p50_us": even_p50, "even_ack_p99_us": even_p99,
            "even_ack_p999_us": even_p999, "even_ack_most_us": even_most,
            "old_read_p50_us": p50, "old_read_most_us": most, "compared": checked.compared}),
        text: format!(
            "{} settlements, {} epochs sealed; at {} a second acknowledged in {} (p50 / p99 / p99.9 / most), evenly at {} in {}; \
             {elections} elections; ready {:.1} s after kill -9 of all, then {} MiB resident; a balance of \
             an old epoch is read in {:.1} / {:.1} ms (p50 / most); {} statements compared",
            thousands(sent.settlements().into()),
            seals.epochs.len(),
            thousands(fast.round() as i128),
            ms(fast_acks),
            thousands(even_rate.round() as i128),
            ms(even_acks),
            restart.as_secs_f64(),
            rss >> 20,
            p50 as f64 / 1_000.0,
            most as f64 / 1_000.0,
            thousands(checked.compared.into())
        ),
    })
}

/// The newest term that a node knows: each election begins one.
async fn term(cluster: &Cluster) -> Result<u64, Failure> {
    let mut newest = 0;
    for node in 0..cluster.client.len() {
        newest = newest.max(cluster.status(node).await?["term"].as_u64().unwrap_or(0));
    }
    Ok(newest)
}

/// How long acknowledgements between two moments took, in microseconds: p50, p99, p99.9 and most.
fn acks(sent: &Sent, from: Instant, to: Instant) -> [u64; 4] {
    let mut acks = Latencies::default();
    let within = sent
        .acknowledged
        .iter()
        .filter(|one| one.at >= from && one.at < to);
    within.for_each(|one| acks.add(one.took));
    [0.5, 0.99, 0.999, 1.0].map(|share| acks.at(share))
}
