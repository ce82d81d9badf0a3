//! What sealing a whole epoch costs, from a thousand assets to a million.
//!
//! Meters without rules and contracts, one settlement each; so all that grows is the number of statements. The
//! time is that from the call until a node says that the epoch is sealed, for an answer with a million seals is no
//! measure of sealing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::super::Failure;
use super::super::super::table::thousands;
use super::super::cluster::Cluster;
use super::super::load::FIRST_EPOCH;
use super::super::payload::{self, Form};
use super::super::population::{Population, Slice};
use super::Finding;
use crate::client::{Ask, Client};

/// Assets of the epochs that are sealed.
const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Settlements a request.
const BATCH: usize = 8_000;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// How long an epoch may take.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) async fn run(dir: &Path) -> Result<Finding, Failure> {
    let mut sizes = Vec::new();
    let mut words = Vec::new();
    for size in SIZES {
        let cluster = Cluster::start(dir).await?;
        let took = seal(&cluster, size).await?;
        cluster.agreed().await?;
        cluster.discard().await?;
        let each = took.as_secs_f64() * 1e6 / size as f64;
        sizes.push(
            json!({"assets": size, "seconds": took.as_secs_f64(), "us_each": (each * 100.0).round() / 100.0}),
        );
        words.push(format!(
            "{} in {:.3} s ({each:.1} µs each)",
            thousands(i128::try_from(size).unwrap_or(0)),
            took.as_secs_f64()
        ));
    }
    Ok(Finding {
        json: Value::Array(sizes),
        text: words.join(", "),
    })
}

/// Settles one epoch of so many meters and seals it; how long the latter took.
async fn seal(cluster: &Cluster, size: usize) -> Result<Duration, Failure> {
    let (client, leader) = (&cluster.client, cluster.leader().await?);
    let population = Population::flat(size);
    let encoder = payload::encoder(Form::Packed, client, &population, BATCH).await?;
    for first in (0..size).step_by(BATCH) {
        let slice = Slice {
            epoch: FIRST_EPOCH,
            first,
            len: BATCH.min(size - first),
        };
        let ask = encoder.encode(&population, &slice);
        client.call(leader, &ask).await?.ok(&ask.action)?;
    }
    let begun = Instant::now();
    let call = tokio::spawn(ask_to_seal(Arc::clone(client), leader));
    let last = Ask::new(
        "balancing.isSealed",
        &json!({"assetId": population.meter(size - 1), "epoch": FIRST_EPOCH}),
    )
    .local();
    while client.call(leader, &last).await?.ok(&last.action)? != Value::Bool(true) {
        if begun.elapsed() > PATIENCE {
            return Err(Failure::Broken(format!(
                "an epoch of {size} assets isn't sealed after {} s",
                PATIENCE.as_secs()
            )));
        }
        sleep(PAUSE).await;
    }
    let took = begun.elapsed();
    call.abort();
    Ok(took)
}

/// The answer may be late or too long; what counts is what the ledger says.
async fn ask_to_seal(client: Arc<Client>, node: usize) {
    let ask = Ask::once(
        "balancing.sealEpoch",
        &json!({"epoch": FIRST_EPOCH, "brief": true}),
        "seal",
    );
    let _ = client.send(node, &ask).await;
}
