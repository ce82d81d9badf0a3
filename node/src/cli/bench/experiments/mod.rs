//! Questions that a table of rates doesn't answer: one file each.

mod catch_up;
mod failover;
mod history;
mod memory;
mod sealing;

use std::path::Path;

use clap::Args;
use serde_json::{Map, Value};

use super::super::Failure;
use super::within;

/// Settlements a second of the European Union's 300 million metering points, every quarter of an hour.
const EUROPE: f64 = 333_333.0;

/// Which of them to ask. Without --quick or --only they are asked instead of the workloads.
#[derive(Debug, Clone, Args)]
pub(super) struct Experiments {
    /// Kill the leader with -9 under load, ten times: how long until the next write is acknowledged?
    #[arg(long)]
    failover: bool,
    /// A follower was away under load: how fast does it catch up, against the live rate?
    #[arg(long)]
    catch_up: bool,
    /// Seal whole epochs of 1 000 to 1 000 000 assets: does the cost grow linearly?
    #[arg(long)]
    seal_cost: bool,
    /// How much memory does a node take for an open settlement?
    #[arg(long)]
    memory: bool,
    /// Settle, seal and archive so many settlements: memory, disk, restart, acknowledgement, and reads of old epochs.
    #[arg(long, value_name = "SETTLEMENTS")]
    history: Option<u64>,
}

/// An answer, for programs and for people.
#[derive(Debug)]
struct Finding {
    json: Value,
    text: String,
}

impl Experiments {
    /// Whether any is asked for.
    pub(super) fn any(&self) -> bool {
        self.failover || self.catch_up || self.seal_cost || self.memory || self.history.is_some()
    }

    /// Runs those that are asked for; says each answer as it comes.
    ///
    /// # Errors
    /// If the cluster can't be started, refuses, or loses anything.
    pub(super) async fn run(&self, dir: &Path) -> Result<Map<String, Value>, Failure> {
        let mut found = Map::new();
        let mut take = |name: &str, outcome: Result<Finding, Failure>| {
            let finding = outcome.map_err(|failure| within(name, failure))?;
            eprintln!("  {name}: {}", finding.text);
            found.insert(name.to_owned(), finding.json);
            Ok::<_, Failure>(())
        };
        if self.failover {
            take("failover", failover::run(dir).await)?;
        }
        if self.catch_up {
            take("catch_up", catch_up::run(dir).await)?;
        }
        if self.seal_cost {
            take("seal_cost", sealing::run(dir).await)?;
        }
        if self.memory {
            take("memory", memory::run(dir).await)?;
        }
        if let Some(settlements) = self.history {
            take("history", history::run(dir, settlements).await)?;
        }
        Ok(found)
    }
}
