//! `gridseal bench`: how fast this machine's disk and cores let a cluster be.
//!
//! Each workload gets a fresh cluster of three node processes in a directory of its own, with real syncs, and loads it
//! through HTTP as any user would. It ends with kill -9 of all nodes under load; then they are started again, and the
//! ledger is compared with what was sent ([`check`]): a figure without a check is no figure. CPU and memory are those
//! that Linux accounts to the processes ([`process`]), the load generator's CPU included.
//!
//! Absent on purpose: nodes on other machines, averages of latencies, and any way in but the public API.

mod check;
mod cluster;
mod experiments;
mod floor;
mod latency;
mod load;
mod machine;
mod pace;
mod payload;
mod plan;
mod population;
mod process;
mod report;
mod workload;

use crate::say;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, call};
use floor::Floor;
use machine::Machine;

/// Load a fresh cluster of three nodes on this machine, check what it did, and print how fast it was.
///
/// Every workload starts three nodes in a directory of its own, settles through HTTP with real syncs, kills all nodes
/// with -9 under load, starts them again, and compares the ledger with what was acknowledged. CPU seconds are those of
/// all processes, this one included; bytes are those that the nodes sent to the disk; RSS is the largest node's peak.
/// Use a release build, and a machine that has nothing else to do.
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// About a minute: a selection of the workloads, shortly.
    #[arg(long)]
    quick: bool,
    /// Only workloads whose name contains this; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How long each workload is measured, in seconds, after a fraction of it to warm up.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// The directory below which the nodes write; it must be on a disk.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Print JSON: {machine, floor, workloads: [...]}, and {experiments: {...}} if there were any.
    #[arg(long)]
    json: bool,
    /// Print the names of the workloads and do nothing.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    experiments: experiments::Experiments,
}

impl Bench {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let plan = if self.quick {
            plan::quick(self.seconds)
        } else {
            plan::full(self.seconds)
        };
        let instead = self.experiments.any() && !self.quick && self.only.is_empty();
        let plan: Vec<plan::Workload> = plan
            .into_iter()
            .filter(|_| !instead)
            .filter(|workload| {
                self.only.is_empty() || self.only.iter().any(|name| workload.name.contains(name.as_str()))
            })
            .collect();
        if self.list {
            plan.iter().for_each(|workload| say!("{}", workload.name));
            return Ok(());
        }
        if plan.is_empty() && !instead {
            return Err(Failure::Usage(
                "no workload has such a name; --list prints them".to_owned(),
            ));
        }
        tokio::select! {
            outcome = self.measure(&plan) => outcome,
            // The nodes end with this process, the directory with what is dropped here.
            _ = tokio::signal::ctrl_c() => Err(Failure::Unavailable("interrupted".to_owned())),
        }
    }

    async fn measure(&self, plan: &[plan::Workload]) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.dir)
            .map_err(|error| Failure::Usage(format!("{}: {error}", self.dir.display())))?;
        let machine = Machine::look(&self.dir)?;
        eprintln!("{}", machine.line());
        let floor = measure_floor(self.dir.clone()).await?;
        floor.lines().iter().for_each(|line| eprintln!("{line}"));

        let mut rows = Vec::new();
        for workload in plan {
            let row = workload::run(&self.dir, workload)
                .await
                .map_err(|failure| within(&workload.name, failure))?;
            eprintln!("{}", row.note());
            rows.push(row);
        }
        let found = self.experiments.run(&self.dir).await?;
        if self.json {
            let workloads: Vec<Value> = rows.iter().map(report::Row::json).collect();
            let mut all = json!({"machine": machine.json(), "floor": floor.json(), "workloads": workloads});
            if !found.is_empty() {
                all["experiments"] = Value::Object(found);
            }
            return call::print(&all, false);
        }
        if !rows.is_empty() {
            say!("{}", report::render(&rows));
        }
        Ok(())
    }
}

/// The floor blocks; it gets a thread of its own.
async fn measure_floor(dir: PathBuf) -> Result<Floor, Failure> {
    let measured = tokio::task::spawn_blocking(move || in_own_directory(&dir)).await;
    measured
        .map_err(|error| Failure::Broken(format!("measuring the floor: {error}")))?
        .map_err(|error| Failure::Usage(format!("measuring the floor: {error}")))
}

fn in_own_directory(dir: &Path) -> std::io::Result<Floor> {
    let own = dir.join(format!("floor-{}", std::process::id()));
    std::fs::create_dir_all(&own)?;
    let floor = Floor::measure(&own);
    std::fs::remove_dir_all(&own)?;
    floor
}

/// Says which workload failed.
fn within(name: &str, failure: Failure) -> Failure {
    let text = format!("{name}: {failure}");
    match failure {
        Failure::Refused(_) => Failure::Refused(text),
        Failure::Usage(_) => Failure::Usage(text),
        Failure::Unavailable(_) => Failure::Unavailable(text),
        Failure::Broken(_) => Failure::Broken(text),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a positive number of seconds".to_owned())
}
