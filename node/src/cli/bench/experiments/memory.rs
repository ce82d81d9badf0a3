//! How much memory a node takes for a settlement whose epoch is open.
//!
//! The difference of resident memory divided by the settlements booked between: journals, and the actors' own, and
//! whatever the allocator keeps. Meters exist before the first look.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::super::Failure;
use super::super::super::table::thousands;
use super::super::cluster::Cluster;
use super::super::load::{Load, Plan};
use super::super::population::Population;
use super::Finding;

/// Meters: with each epoch they report once.
const METERS: usize = 100_000;
/// Settlements before the first look, and until the second.
const BEFORE: u64 = 200_000;
const UNTIL: u64 = 4_200_000;
const BATCH: usize = 8_000;
const CLIENTS: usize = 4;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn run(dir: &Path) -> Result<Finding, Failure> {
    let cluster = Cluster::start(dir).await?;
    let population = Arc::new(Population::flat(METERS));
    let mut load = Load::start(Plan::packed(&cluster, &population, BATCH, CLIENTS).await?);
    reach(&mut load, BEFORE).await?;
    let (first, least) = (load.acknowledged(), cluster.rss()?);
    reach(&mut load, UNTIL).await?;
    let sent = load.stop().await?;
    cluster.agreed().await?;
    let (settled, most) = (sent.settlements() - first, cluster.rss()?);
    cluster.discard().await?;
    let each = most.saturating_sub(least) as f64 / settled.max(1) as f64;
    Ok(Finding {
        json: json!({"settlements": settled, "rss_bytes": most, "bytes_each": each.round()}),
        text: format!(
            "{each:.0} bytes of resident memory for each of {} open settlements ({} MiB)",
            thousands(settled.into()),
            most >> 20
        ),
    })
}

/// Waits until so many settlements are acknowledged.
pub(super) async fn reach(load: &mut Load, goal: u64) -> Result<(), Failure> {
    while load.acknowledged() < goal {
        load.go_on(PAUSE).await?;
    }
    Ok(())
}
