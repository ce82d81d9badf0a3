//! Whether memory and restart follow what is open or what ever was: the year, settled and sealed for as long as asked.

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
use super::super::load::{FIRST_EPOCH, Load, Plan, Target};
use super::super::payload::{self, Form};
use super::super::plan::TIER_L;
use super::super::population::Population;
use super::super::workload::{Sealer, prepare};
use super::{Finding, memory};
use crate::client::Ask;

const BATCH: usize = 8_000;
const CLIENTS: usize = 4;
/// Reads of the oldest epoch.
const READS: usize = 100;
/// Looks at memory and disk on the way.
const LOOKS: u64 = 10;
/// How long the check may take.
const CHECK: Duration = Duration::from_secs(30);

pub(super) async fn run(dir: &Path, settlements: u64) -> Result<Finding, Failure> {
    let mut cluster = Cluster::start(dir).await?;
    let population = Arc::new(Population::year(TIER_L));
    prepare(&cluster.client, &population).await?;
    let sealer = Sealer::start(Arc::clone(&cluster.client));
    let mut load = Load::start(Plan {
        client: Arc::clone(&cluster.client),
        population: Arc::clone(&population),
        encoder: payload::encoder(Form::Packed, &cluster.client, &population, BATCH).await?,
        batch: BATCH,
        clients: CLIENTS,
        target: Target::Leader,
        leader: cluster.leader().await?,
        complete: Some(sealer.epochs.clone()),
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
    let seals = sealer.stop().await?;
    load.expect_silence();
    let restart = cluster.crash().await?;
    let sent = load.stop().await?;
    let (rss, peak) = (cluster.rss()?, cluster.peak_rss()?);

    let mut reads = Latencies::default();
    for turn in 0..READS {
        // Of meters far apart, so that no read warms the next.
        let meter = population.meter(turn * 389 % population.len());
        let ask = Ask::new(
            "balancing.balance",
            &json!({"assetId": meter, "epoch": FIRST_EPOCH}),
        );
        let asked = Instant::now();
        let balance = cluster.client.call(turn, &ask).await?.ok(&ask.action)?;
        reads.add(asked.elapsed());
        if balance["epoch"] != FIRST_EPOCH {
            return Err(Failure::Broken(format!("the oldest epoch reads {balance}")));
        }
    }
    let checked = check::check(&cluster.client, &population, &sent, CHECK).await?;
    cluster.agreed().await?;
    cluster.discard().await?;
    let (p50, p99) = (reads.at(0.5), reads.at(0.99));
    Ok(Finding {
        json: json!({"settlements": sent.settlements(), "epochs_sealed": seals.epochs.len(), "looks": looks,
            "restart_s": restart.as_secs_f64(), "rss_after_restart_bytes": rss, "peak_rss_after_restart_bytes": peak,
            "oldest_read_p50_us": p50, "oldest_read_p99_us": p99, "compared": checked.compared}),
        text: format!(
            "{} settlements, {} epochs sealed; ready {:.1} s after kill -9 of all, then {} MiB resident; a balance of the \
             oldest epoch is read in {:.1} / {:.1} ms (p50 / p99); {} statements compared",
            thousands(sent.settlements().into()),
            seals.epochs.len(),
            restart.as_secs_f64(),
            rss >> 20,
            p50 as f64 / 1_000.0,
            p99 as f64 / 1_000.0,
            thousands(checked.compared.into())
        ),
    })
}
