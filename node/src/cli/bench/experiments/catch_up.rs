//! How fast a follower that was away catches up, against the rate at which the others go on without it.
//!
//! Twice: at full speed, where the load stops before the follower is started, since it would leave no core to catch up
//! with; and at an even rate, that of the European Union's meters, where it goes on. What the follower takes is counted from its
//! start, which is counted in, until it is level with the leader.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::super::Failure;
use super::super::super::table::thousands;
use super::super::cluster::Cluster;
use super::super::load::{Load, Plan};
use super::super::pace::{Pace, Tempo};
use super::super::population::Population;
use super::{EUROPE, Finding};

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
    let at_full_speed = return_after(dir, None).await?;
    let evenly = return_after(dir, Some(EUROPE)).await?;
    Ok(Finding {
        text: format!(
            "{}; {}",
            at_full_speed.text("then nothing more"),
            evenly.text("and on")
        ),
        json: json!({"at_full_speed": at_full_speed.json(), "evenly": evenly.json()}),
    })
}

/// One follower's way back.
struct Return {
    /// Settlements acknowledged while it was away, and how long that was.
    missed: u64,
    away: Duration,
    /// Settlements that it applied until it was level, and how long that took.
    applied: u64,
    took: Duration,
}

impl Return {
    fn live(&self) -> f64 {
        self.missed as f64 / self.away.as_secs_f64()
    }

    fn rate(&self) -> f64 {
        self.applied as f64 / self.took.as_secs_f64()
    }

    fn times_live(&self) -> f64 {
        self.rate() / self.live()
    }

    fn json(&self) -> Value {
        json!({"missed": self.missed, "live_per_s": self.live().round(), "caught_up_per_s": self.rate().round(),
            "level_after_s": self.took.as_secs_f64(), "times_live": (self.times_live() * 100.0).round() / 100.0})
    }

    fn text(&self, then: &str) -> String {
        format!(
            "{} settlements missed at {:.0} /s live, {then}: level after {:.1} s, start included, at {:.0} /s, {:.1} × live",
            thousands(self.missed.into()),
            self.live(),
            self.took.as_secs_f64(),
            self.rate(),
            self.times_live()
        )
    }
}

/// Kills a follower under load, and starts it again: with an even rate while the load goes on, without one when it is over.
async fn return_after(dir: &Path, even_rate: Option<f64>) -> Result<Return, Failure> {
    let mut cluster = Cluster::start(dir).await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % cluster.client.len();
    let population = Arc::new(Population::flat(METERS));
    let tempo = Tempo::default();
    if let Some(per_second) = even_rate {
        tempo.set(per_second);
    }
    let plan = Plan {
        pace: Pace {
            tempo: Some(tempo),
            ..Pace::default()
        },
        ..Plan::packed(&cluster, &population, BATCH, CLIENTS).await?
    };
    let mut load = Load::start(plan);
    cluster.kill([follower]).await?;
    let (begun, before) = (Instant::now(), load.acknowledged());
    load.go_on(AWAY).await?;
    let (missed, away) = (load.acknowledged() - before, begun.elapsed());
    let mut running = Some(load);
    if even_rate.is_none()
        && let Some(load) = running.take()
    {
        load.stop().await?;
    }
    let started = Instant::now();
    cluster.spawn(follower)?;
    level(&cluster, leader, follower).await?;
    let took = started.elapsed();
    let mut applied = missed;
    if let Some(load) = running {
        applied = load.acknowledged() - before;
        load.stop().await?;
    }
    cluster.agreed().await?;
    cluster.discard().await?;
    Ok(Return {
        missed,
        away,
        applied,
        took,
    })
}

/// Waits until the follower has applied all that the leader had a moment before.
async fn level(cluster: &Cluster, leader: usize, follower: usize) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let goal = cluster.status(leader).await?["applied"].as_u64();
        // Silent until it is up.
        let answer = cluster.status(follower).await.ok();
        let applied = answer.and_then(|status| status["applied"].as_u64());
        if goal.is_some() && applied >= goal {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::Broken(format!(
                "a follower has applied {applied:?} of {goal:?} entries after {} s",
                PATIENCE.as_secs()
            )));
        }
        sleep(PAUSE).await;
    }
}
