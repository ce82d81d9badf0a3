//! How fast a follower that was away catches up, against the rate at which the others went on without it.
//!
//! What it missed is settled at full speed; then the load stops and the follower is started. Its start is counted
//! in: it is not level before it is up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::super::Failure;
use super::super::super::table::thousands;
use super::super::cluster::Cluster;
use super::super::load::{Load, Plan};
use super::super::population::Population;
use super::Finding;

/// Meters, and settlements a request.
const METERS: usize = 10_000;
const BATCH: usize = 1_000;
const CLIENTS: usize = 16;
/// How long it is away.
const AWAY: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(dir: &Path) -> Result<Finding, Failure> {
    let mut cluster = Cluster::start(dir).await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % cluster.client.len();
    let population = Arc::new(Population::flat(METERS));
    let mut load = Load::start(Plan::packed(&cluster, &population, BATCH, CLIENTS).await?);
    cluster.kill([follower]).await?;
    let (begun, before) = (Instant::now(), load.acknowledged());
    tokio::select! {
        () = sleep(AWAY) => {}
        failure = load.failed() => return Err(failure),
    }
    let sent = load.stop().await?;
    let (missed, live) = (sent.settlements() - before, begun.elapsed());
    let goal = cluster.status(leader).await?["applied"].as_u64().unwrap_or(0);

    let begun = Instant::now();
    cluster.spawn(follower)?;
    loop {
        // Silent until it is up.
        let applied = cluster
            .status(follower)
            .await
            .ok()
            .and_then(|status| status["applied"].as_u64());
        if applied.is_some_and(|applied| applied >= goal) {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::Broken(format!(
                "a follower has applied {applied:?} of {goal} entries after {} s",
                PATIENCE.as_secs()
            )));
        }
        sleep(PAUSE).await;
    }
    let took = begun.elapsed();
    cluster.agreed().await?;
    cluster.discard().await?;
    let rate = |duration: Duration| missed as f64 / duration.as_secs_f64();
    let times = rate(took) / rate(live);
    let missed_text = thousands(missed.into());
    Ok(Finding {
        json: json!({"missed": missed, "live_per_s": rate(live).round(), "caught_up_per_s": rate(took).round(),
            "times_live": (times * 100.0).round() / 100.0}),
        text: format!(
            "{missed_text} settlements missed at {:.0} /s live, caught up at {:.0} /s, start included: {times:.1} × live",
            rate(live),
            rate(took)
        ),
    })
}
