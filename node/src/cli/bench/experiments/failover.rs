//! How long nobody can write after the leader was killed with -9 under load.
//!
//! What is measured is what a client with retries sees: from the kill to the first acknowledgement of a write that
//! was first sent after it. The dead node is started again before the next round.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::super::Failure;
use super::super::check;
use super::super::cluster::Cluster;
use super::super::load::{Acknowledged, Schedule, Sent};
use super::super::payload::{self, Encoder as _};
use super::super::population::Population;
use super::Finding;
use crate::client::Client;

/// Leaders killed.
const ROUNDS: usize = 10;
/// Clients that write one settlement at a time.
const CLIENTS: usize = 16;
/// Meters that they report for.
const METERS: usize = 1_000;
/// How long all is well between two kills.
const CALM: Duration = Duration::from_secs(2);
/// How long a failover may take at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the check may take.
const CHECK: Duration = Duration::from_secs(20);

/// What the clients share.
struct Shared {
    client: Arc<Client>,
    population: Population,
    schedule: Schedule,
    acknowledged: Mutex<Vec<Acknowledged>>,
    /// When the newest write that is acknowledged was first sent, of those sent latest.
    newest: watch::Sender<Option<Instant>>,
    stop: watch::Receiver<bool>,
}

impl Shared {
    async fn write(self: Arc<Self>, me: usize) -> Result<(), Failure> {
        let encoder = payload::Single;
        while !*self.stop.borrow() {
            let slice = self.schedule.next();
            let mut ask = encoder.encode(&self.population, &slice);
            // With a key it may be tried on any node, as often as need be.
            ask.key = Some(format!("failover-{}-{}", slice.epoch, slice.first));
            let begun = Instant::now();
            self.client.call(me, &ask).await?.ok(&ask.action)?;
            let at = Instant::now();
            self.acknowledged.lock().push(Acknowledged {
                slice,
                at,
                took: at - begun,
            });
            self.newest.send_if_modified(|newest| {
                let newer = newest.is_none_or(|newest| newest < begun);
                if newer {
                    *newest = Some(begun);
                }
                newer
            });
        }
        Ok(())
    }
}

pub(super) async fn run(dir: &Path) -> Result<Finding, Failure> {
    let mut cluster = Cluster::start(dir).await?;
    let (stop, stopped) = watch::channel(false);
    let (newest, mut seen) = watch::channel(None);
    let shared = Arc::new(Shared {
        client: Arc::clone(&cluster.client),
        population: Population::flat(METERS),
        schedule: Schedule::new(METERS, 1, 1),
        acknowledged: Mutex::default(),
        newest,
        stop: stopped,
    });
    let mut clients = JoinSet::new();
    for me in 0..CLIENTS {
        clients.spawn(Arc::clone(&shared).write(me));
    }
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        sleep(CALM).await;
        let leader = cluster.leader().await?;
        let killed = Instant::now();
        cluster.kill([leader]).await?;
        let after = seen.wait_for(|newest| newest.is_some_and(|begun| begun > killed));
        match timeout(PATIENCE, after).await {
            Ok(Ok(_)) => took.push(killed.elapsed()),
            _ => {
                return Err(Failure::Unavailable(format!(
                    "no write was acknowledged within {} s after a leader's death",
                    PATIENCE.as_secs()
                )));
            }
        }
        cluster.spawn(leader)?;
        cluster.ready().await?;
    }
    // An error means that the clients have ended, and why comes with them.
    let _ = stop.send(true);
    while let Some(client) = clients.join_next().await {
        client.map_err(|error| Failure::Broken(format!("a client: {error}")))??;
    }
    let sent = Sent {
        acknowledged: std::mem::take(&mut *shared.acknowledged.lock()),
        ..Sent::default()
    };
    let checked = check::check(&cluster.client, &shared.population, &sent, CHECK).await?;
    cluster.agreed().await?;
    cluster.discard().await?;

    let mut ms: Vec<u128> = took.iter().map(Duration::as_millis).collect();
    let text = format!("{ms:?} ms");
    ms.sort_unstable();
    let (median, most) = (ms[ms.len() / 2], ms[ms.len() - 1]);
    Ok(Finding {
        json: json!({"rounds": ROUNDS, "median_ms": median, "most_ms": most, "compared": checked.compared}),
        text: format!(
            "first write after kill -9 of the leader: median {median} ms, most {most} ms of {text}; {} of {} settlements compared",
            checked.compared, checked.of
        ),
    })
}
